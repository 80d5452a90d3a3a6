//! The actor on a fake engine and a paused clock.

pub(super) mod fake;
mod model_use;
mod ordering;
mod replaced;
pub(super) mod rig;
mod snapshots;
mod upgrade;
