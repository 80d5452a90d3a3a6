//! From the calls of the world to those of a [`ChatAgent`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Chat, ChatAgent, Context, History};
use crate::{Agent, AgentError, Message, Outcome, ShutdownReason, StartRequest, state};

/// One incarnation of a [`ChatAgent`]. For [`export_chat!`](crate::export_chat) only.
pub struct Running<A> {
    agent: A,
    /// From the start on.
    context: Option<Context<A>>,
    /// What a snapshot had of the conversation, until the start.
    restored: History,
}

#[derive(Serialize)]
struct Saved<'a, A> {
    agent: &'a A,
    chat: &'a History,
}

#[derive(Deserialize)]
#[serde(bound = "A: DeserializeOwned")]
struct Found<A> {
    agent: A,
    chat: History,
}

impl<A: Default> Default for Running<A> {
    fn default() -> Self {
        Self { agent: A::default(), context: None, restored: History::default() }
    }
}

impl<A> Running<A> {
    fn parts(&mut self) -> Result<(&mut A, &mut Context<A>), AgentError> {
        match &mut self.context {
            Some(context) => Ok((&mut self.agent, context)),
            None => Err(AgentError::fatal("not-started", "a call came before `start`")),
        }
    }
}

impl<A: ChatAgent> Agent for Running<A> {
    fn start(&mut self, request: StartRequest) -> Result<(), AgentError> {
        let chat = Chat::new(A::tools(), std::mem::take(&mut self.restored));
        let context = self.context.insert(Context { me: request, chat });
        self.agent.start(context)
    }

    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let (agent, context) = self.parts()?;
        agent.message(message, context)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        let (agent, context) = self.parts()?;
        Ok(state::save(A::VERSION, &Saved { agent, chat: context.chat.history() })?)
    }

    fn restore(&mut self, snapshot: Vec<u8>) -> Result<(), AgentError> {
        let found: Found<A> = state::load(&snapshot, A::VERSION, |version, mut saved| {
            if let Some(old) = saved.get_mut("agent") {
                *old = A::upgrade(version, Value::take(old))?;
            }
            Ok(saved)
        })?;
        (self.agent, self.restored) = (found.agent, found.chat);
        Ok(())
    }

    fn shutdown(&mut self, reason: ShutdownReason) -> Result<(), AgentError> {
        let (agent, context) = self.parts()?;
        agent.shutdown(reason, context)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::StateError;

    #[derive(Default, Serialize, Deserialize)]
    struct Notes {
        lines: Vec<String>,
    }

    impl ChatAgent for Notes {
        const VERSION: u32 = 2;

        fn upgrade(version: u32, old: Value) -> Result<Value, StateError> {
            assert_eq!(version, 1);
            Ok(json!({ "lines": [old["line"]] }))
        }
    }

    const CHAT: &str =
        r#"[[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]]"#;

    fn restored(snapshot: &str) -> Result<Running<Notes>, AgentError> {
        let mut running = Running::<Notes>::default();
        running.restore(snapshot.as_bytes().to_vec()).map(|()| running)
    }

    #[test]
    fn state_and_conversation_come_back_and_an_older_state_is_upgraded() {
        let snapshot =
            format!(r#"{{"version":2,"state":{{"agent":{{"lines":["a","b"]}},"chat":{CHAT}}}}}"#);
        let running = restored(&snapshot).unwrap();
        assert_eq!(running.agent.lines, ["a", "b"]);
        assert_eq!(running.restored.len(), 2);
        let older = format!(r#"{{"version":1,"state":{{"agent":{{"line":"a"}},"chat":{CHAT}}}}}"#);
        let running = restored(&older).unwrap();
        assert_eq!((running.agent.lines, running.restored.len()), (vec!["a".to_owned()], 2));
    }

    #[test]
    fn what_another_agent_left_is_refused() {
        for state in ["null", "[]", "3", r#"{"agent":{"lines":3},"chat":[]}"#, r#"{"chat":[]}"#] {
            for version in [1, 2] {
                if version == 1 && state.contains("agent") {
                    continue;
                }
                let snapshot = format!(r#"{{"version":{version},"state":{state}}}"#);
                let error = restored(&snapshot).map(|_| ()).unwrap_err();
                assert_eq!(
                    (error.code.as_str(), error.fatal),
                    ("bad-snapshot", true),
                    "{snapshot}"
                );
            }
        }
    }

    #[test]
    fn a_call_before_the_start_is_an_error_and_no_panic() {
        let error = Running::<Notes>::default().snapshot().unwrap_err();
        assert_eq!((error.code.as_str(), error.fatal), ("not-started", true));
    }
}
