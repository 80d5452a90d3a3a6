//! The actor on a fake engine and a paused clock.

pub(super) mod fake;
mod ordering;
pub(super) mod rig;
