//! `POST /move`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The town moves: this copy ends its agents in order, gives the lease back, and waits for it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveAnswer {
    /// The epoch that is given back. Who takes over has a higher one.
    pub epoch: u64,
}
