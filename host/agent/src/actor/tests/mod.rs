//! The actor on a fake engine and a paused clock.

pub(super) mod fake;
pub(super) mod rig;
