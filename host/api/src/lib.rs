//! The HTTP contract of the control API, as types.
//!
//! Field names are the original container's, camel case. Requests ignore fields they do not know,
//! because the control plane may be newer than the container; answers never hold a secret.
//!
//! - [`start`], [`message`]: request bodies, each with a `parse` that names every offending field
//! - [`view`]: all answers
//! - [`error`]: the one shape of every refusal

pub mod error;
pub mod message;
pub mod start;
pub mod view;

pub use error::{ErrorBody, Issue};
pub use message::MessageRequest;
pub use start::{IfRunning, StartRequest};
pub use view::{
    AgentList, AgentView, EventView, EventsPage, ExitView, Health, MemoryView, MessageAnswer,
    StartAnswer, StopAnswer, TurnView,
};
