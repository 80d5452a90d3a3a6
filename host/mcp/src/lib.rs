//! The tools of a host for models, over the Model Context Protocol.
//!
//! ```text
//!  bulkhead mcp ─▶ stdio ─┐
//!                         ├─▶ Server: tools ─▶ Api ─▶ a host's control API, over HTTP or in its own process
//!  POST /mcp ────▶ http ──┘
//! ```
//!
//! A tool is a call or two of the control API, with an answer that a model can read. The crate knows that contract
//! and nothing of the host behind it: who has the token can do with it whatever the tools do, and more.
//!
//! Texts that agents chose stand in results as quoted strings, and a sentence says that they are data. Control
//! characters and characters without a width are escaped in all of them (`bulkhead_printable`).

mod api;
mod autopsy;
mod http;
mod result;
mod server;
mod stdio;

pub use api::{Answer, Api, Call};
pub use http::Endpoint;
pub use server::{Access, Server};
pub use stdio::serve;
