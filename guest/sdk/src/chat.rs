//! Agents that talk with a language model: the model's tools, the conversation, and a state that outlives the incarnation.
//!
//! An agent is a struct of plain data. The struct is the state: it is in the snapshot with the conversation, and the next
//! incarnation has both.
//!
//! ```no_run
//! use bulkhead_guest::chat::{ChatAgent, Context, Tools};
//! use bulkhead_guest::{AgentError, Message, Outcome};
//! use serde::{Deserialize, Serialize};
//! use serde_json::json;
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Toast {
//!     notes: Vec<String>,
//! }
//!
//! #[derive(Deserialize)]
//! struct Note {
//!     text: String,
//! }
//!
//! impl ChatAgent for Toast {
//!     fn system(&self) -> String {
//!         "Answer briefly. Write down what you should remember.".into()
//!     }
//!
//!     fn tools() -> Tools<Self> {
//!         Tools::new().with("note", "Write something down", json!({ "text": "string" }), |toast: &mut Self, note: Note| {
//!             toast.notes.push(note.text);
//!             Ok(())
//!         })
//!     }
//!
//!     fn message(&mut self, message: Message, context: &mut Context<Self>) -> Result<Outcome, AgentError> {
//!         match message.body.as_str() {
//!             "notes" => Ok(Outcome::reply(self.notes.join("\n"))),
//!             text => Ok(Outcome::reply(context.chat.ask(self, text)?)),
//!         }
//!     }
//! }
//!
//! bulkhead_guest::export_chat!(Toast);
//! # fn main() {}
//! ```
//!
//! Everything else that the host offers is in [`host`](crate::host), [`tools`](crate::tools) and
//! [`workspace`](crate::workspace). An agent that wants other calls than these, or a loop of its own, implements
//! [`Agent`](crate::Agent) instead.

mod conversation;
mod history;
mod running;
mod tools;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::state::{self, StateError};
use crate::{AgentError, Message, Outcome, ShutdownReason, StartRequest};

pub use conversation::{Chat, MAX_ROUNDS};
pub use history::{History, Limits};
#[doc(hidden)]
pub use running::Running;
pub use tools::Tools;

/// An agent with a conversation. All of it may be left out: without [`message`](ChatAgent::message) it answers by its
/// model.
///
/// The calls come in the order of [`Agent`](crate::Agent), which says what a limit, an error and a panic do.
pub trait ChatAgent: Default + Serialize + DeserializeOwned {
    /// Of the state, counted up when its form changes; see [`upgrade`](ChatAgent::upgrade).
    const VERSION: u32 = 1;

    /// Standing instructions for the model. What people set for the agent takes their place.
    fn system(&self) -> String {
        String::new()
    }

    /// What the model may call.
    fn tools() -> Tools<Self> {
        Tools::new()
    }

    /// Makes the agent ready. Keep it short: the caller of the start waits for it.
    fn start(&mut self, context: &mut Context<Self>) -> Result<(), AgentError> {
        let _ = context;
        Ok(())
    }

    /// Works on one message: a turn.
    fn message(
        &mut self,
        message: Message,
        context: &mut Context<Self>,
    ) -> Result<Outcome, AgentError> {
        Ok(Outcome::reply(context.chat.ask(self, message.body)?))
    }

    /// The last call. A snapshot was taken before, where the role keeps any.
    fn shutdown(
        &mut self,
        reason: ShutdownReason,
        context: &mut Context<Self>,
    ) -> Result<(), AgentError> {
        let _ = (reason, context);
        Ok(())
    }

    /// Brings a state of an older version into the newest form. The conversation needs none.
    fn upgrade(version: u32, old: Value) -> Result<Value, StateError> {
        state::no_upgrade(version, old)
    }
}

/// What an agent is told, and its conversation.
#[derive(Debug)]
pub struct Context<A> {
    /// Who the agent is, and what it was asked to do.
    pub me: StartRequest,
    /// The agent's conversation with its model.
    pub chat: Chat<A>,
}

/// Makes a type that implements [`ChatAgent`](crate::chat::ChatAgent) the component's `lifecycle`.
///
/// Use it once, at the top level of a crate with `crate-type = ["cdylib"]`.
#[macro_export]
macro_rules! export_chat {
    ($agent:ty) => {
        $crate::export!($crate::chat::Running<$agent>);
    };
}
