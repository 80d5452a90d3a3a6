//! What the host calls.

use crate::bindings::Guest;
use crate::bindings::bulkhead::agent::agent_types::{
    AgentError, Message, Next, Outcome, ShutdownReason, StartRequest,
};
use crate::bindings::exports::bulkhead::agent::lifecycle;
use crate::interpreter::{self, Interpreter};
use crate::{bounds, clock};

/// Exported by the bindings.
pub struct Component;

impl Guest for Component {
    fn initialize() {
        clock::stopped(|| interpreter::with(Interpreter::settle));
    }
}

/// As the SDK writes it.
#[derive(serde::Deserialize)]
struct Answer {
    reply: Option<String>,
    next: Next,
}

impl lifecycle::Guest for Component {
    fn start(request: StartRequest) -> Result<(), AgentError> {
        interpreter::with(|interpreter| {
            interpreter.load()?;
            interpreter.call(|turn| turn.run("start", (json(&request),)))
        })
    }

    fn handle(message: Message) -> Result<Outcome, AgentError> {
        interpreter::with(|interpreter| {
            let text: String = interpreter.call(|turn| turn.run("handle", (json(&message),)))?;
            let Answer { reply, next } =
                serde_json::from_str(&text).expect("the SDK writes an outcome");
            Ok(Outcome { reply: reply.map(bounds::reply), next })
        })
    }

    fn snapshot() -> Result<Vec<u8>, AgentError> {
        interpreter::with(|interpreter| {
            let text = interpreter.call(|turn| turn.run::<_, String>("snapshot", ()))?;
            bounds::snapshot(text.into_bytes())
        })
    }

    fn restore(snapshot: Vec<u8>) -> Result<(), AgentError> {
        let text = String::from_utf8(snapshot).map_err(|_| AgentError {
            code: "snapshot-unreadable".to_owned(),
            message: "the snapshot is no UTF-8 text: another kind of agent made it".to_owned(),
            fatal: true,
            exceptions: Vec::new(),
        })?;
        interpreter::with(|interpreter| {
            interpreter.load()?;
            interpreter.call(|turn| turn.run("restore", (text,)))
        })
    }

    fn shutdown(reason: ShutdownReason) -> Result<(), AgentError> {
        interpreter::with(|interpreter| {
            interpreter.call(|turn| turn.run("shutdown", (format!("{reason:?}"),)))
        })
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("records of the contract are JSON")
}
