//! The client of language models.
//!
//! ```text
//!   Request ─▶ Endpoint::chat ─▶ Chat ─▶ next ─▶ Part, Part, …, End
//!                  │              └─ tries: connect, send, read; again after what may pass, until the first part
//!                  └─ base URL, dialect, key, bounds, idle connections
//! ```
//!
//! It knows nothing of agents, budgets and roles: who may ask what is decided before, what it cost is read from
//! [`End`]. Dropping a [`Chat`] closes its connection.

mod answer;
mod endpoint;
mod error;
mod models;
mod request;

pub use answer::{End, Finish, Part};
pub use bulkhead_types::TokenUsage as Usage;
pub use endpoint::{Bounds, Chat, Dialect, Endpoint, Key, ReadKey, Settings};
pub use error::Error;
pub use models::{Allowed, Model, Models, Pattern, PatternError};
pub use request::{Content, Message, Request, ResponseFormat, Role, Tool, ToolCall, ToolChoice};
