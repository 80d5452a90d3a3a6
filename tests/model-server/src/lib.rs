//! A small OpenAI-compatible server that answers from a script.
//!
//! `POST /v1/chat/completions` and `GET /v1/models`, over real HTTP, with streaming and tool calls, so
//! that an agent's whole path to a language model is the real one while its answers are known in
//! advance.
//!
//! - [`script`]: what is answered to what. One file, meant to be read
//! - [`chat`]: the wire format, both ways
//! - [`fault`]: model names that misbehave
//! - [`server`]: routes and the authorization check
//! - [`background`]: a server on a thread of its own, for tests
//! - [`thread`]: that thread, also for other servers

pub mod background;
pub mod chat;
pub mod fault;
pub mod script;
pub mod server;
pub mod thread;

pub use background::ModelServer;
pub use server::{Options, serve};
