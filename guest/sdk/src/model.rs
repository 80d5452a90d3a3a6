//! Language models, asked through the host.
//!
//! The host knows endpoints, addresses and keys, counts tokens, enforces budgets and repeats calls that failed for a
//! reason that may pass. An agent says what to ask. Which models it may use is set by its role (`models`).
//!
//! ```no_run
//! use bulkhead_guest::model::{self, Message, Request};
//!
//! let question = Message::user("What is a bulkhead?");
//! let answer = model::complete(&Request::new([&question]))?;
//! let text = answer.text();
//! # Ok::<(), bulkhead_guest::AgentError>(())
//! ```
//!
//! [`stream`] returns the answer part by part. The parts make up a [`Completion`] again:
//!
//! ```no_run
//! use bulkhead_guest::host;
//! use bulkhead_guest::model::{self, Completion, Message, Part, Request};
//!
//! let mut answer = Completion::default();
//! for part in model::stream(&Request::new([Message::user("Tell a story.")]))? {
//!     let part = part?;
//!     if let Part::Text(text) = &part {
//!         let _ = host::emit("story.text", text);
//!     }
//!     answer.extend([part]);
//! }
//! # Ok::<(), bulkhead_guest::AgentError>(())
//! ```
//!
//! A model that is offered tools may ask for calls. Each call needs a result before the next question:
//!
//! ```no_run
//! use bulkhead_guest::model::{self, Message, Request, Tool};
//! use serde_json::json;
//!
//! let weather = Tool::new("weather", "Current weather of a city.", json!({
//!     "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"],
//! }));
//! let mut conversation = vec![Message::user("Do I need a coat in Oslo?")];
//! loop {
//!     let answer = model::complete(&Request::new(&conversation).tools([&weather]))?;
//!     let calls = answer.message.tool_calls.clone();
//!     conversation.push(answer.message);
//!     if calls.is_empty() {
//!         break;
//!     }
//!     for call in &calls {
//!         #[derive(serde::Deserialize)]
//!         struct Arguments { city: String }
//!         let result = match call.arguments() {
//!             Ok(Arguments { city }) => format!("rain in {city}"),
//!             Err(error) => format!("error: {error}"),
//!         };
//!         conversation.push(Message::tool_result(call, result));
//!     }
//! }
//! # Ok::<(), bulkhead_guest::AgentError>(())
//! ```
//!
//! A [`Message`] implements `Serialize` and `Deserialize`, so a conversation fits into a snapshot.

mod answer;
mod error;
mod json;
mod message;
mod request;

use crate::bindings::bulkhead::agent::model as raw;

pub use answer::{Completion, Part, Stream};
pub use error::Error;
pub use raw::{
    ChatMessage as Message, Content, FinishReason, ImageData, ResponseFormat, Role, ToolCall,
    ToolChoice, Usage,
};
pub use request::{Request, Tool};

/// Asks and waits for the whole answer.
///
/// The wait is bounded by the request's timeout, by the host's configuration and by the turn's deadline, whichever is
/// first. The limit on other host calls does not apply.
pub fn complete(request: &Request) -> Result<Completion, Error> {
    request.check()?;
    Ok(raw::complete(request.raw())?.into())
}

/// Asks for an answer that comes part by part. Returns at once, with an error only if the request itself is
/// refused. An agent may have 4 answers under way.
pub fn stream(request: &Request) -> Result<Stream, Error> {
    request.check()?;
    Ok(Stream::new(raw::chat(request.raw())?))
}
