//! A small server of language models that answers from a script.
//!
//! It speaks real HTTP, with streaming and tool calls, so that the whole path to a language model is the real one while
//! its answers are known in advance.
//!
//! | path | what answers |
//! | --- | --- |
//! | `/v1/chat/completions`, `/v1/models` | OpenAI's form |
//! | `/anthropic/v1/messages` | Anthropic's form |
//! | `/oddity/NAME/v1/chat/completions` | OpenAI's form as some server has it; see [`oddity`] |
//! | `/control/…` | the key that is required, the requests so far; see [`control`] |
//!
//! - [`script`]: what is answered to what. One file, meant to be read
//! - [`persona`]: model names that answer in a way of their own: many chunks, counts of tokens, reasoning
//! - [`fault`]: model names that misbehave
//! - [`oddity`]: servers that misbehave, byte for byte
//! - [`chat`], [`anthropic`]: the wire formats, both ways
//! - [`record`]: what was asked, and how far the answer got
//! - [`server`]: connections, routes and the authorization check
//! - [`background`]: a server on a thread of its own, for tests
//! - [`thread`]: that thread, also for other servers

pub mod anthropic;
pub mod background;
pub mod chat;
pub mod control;
pub mod fault;
pub mod oddity;
pub mod persona;
pub mod record;
pub mod script;
pub mod server;
pub mod thread;

pub use background::ModelServer;
pub use record::Record;
pub use server::{Options, serve};
