//! The client of language models.
//!
//! ```text
//!   Request ─▶ Endpoint::chat ─▶ Chat ─▶ next ─▶ Part, Part, …, End
//!                  │              └─ tries: connect, send, read; again after what may pass, until the first part
//!                  └─ base URL, dialect, key, bounds, idle connections
//! ```
//!
//! It knows nothing of agents, budgets and roles: who may ask what is decided before, what it cost is read from
//! [`End`]. Dropping a [`Chat`] closes its connection. No task is spawned: a connection is driven by the call that waits
//! for it, and by nobody while it is idle.
//!
//! - `endpoint`, `pool`: a place where models are, its idle connections
//! - `openai`, `anthropic`, `schema`: a request as the server wants it
//! - `chat`, `attempt`, `failure`, `retry_after`: tries, and what ends them
//! - `connection`: HTTP/1.1
//! - `receive`, `wire`, `sse`: from bytes to events
//! - `assembly`, `plain`, `blocks`, `halves`, `numbers`, `draft`, `calls`, `brackets`, `problem`: from events to parts
//! - `reasoning`: what the server wants back with its answer

mod answer;
mod anthropic;
mod assembly;
mod attempt;
mod blocks;
mod brackets;
mod calls;
mod chat;
mod connection;
mod draft;
mod endpoint;
mod error;
mod failure;
mod halves;
mod models;
mod numbers;
mod openai;
mod plain;
mod pool;
mod problem;
mod reasoning;
mod receive;
mod request;
mod retry_after;
mod schema;
mod sse;
mod wire;

pub use answer::{End, Finish, Part};
pub use bulkhead_types::TokenUsage as Usage;
pub use chat::Chat;
pub use endpoint::{Bounds, Dialect, Endpoint, Settings};
pub use error::Error;
pub use models::{Allowed, DEFAULT_ENDPOINT, Model, Models, Pattern, PatternError};
pub use reasoning::{ReasoningState, ReasoningStateError};
pub use request::{Content, Message, Request, ResponseFormat, Role, Tool, ToolCall, ToolChoice};
pub use wire::read_any;
