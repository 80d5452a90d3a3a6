//! One agent is one task.

mod refusal;

pub use refusal::{Delivery, SendError, StartError, StartFailure, StopError, TurnReport};
