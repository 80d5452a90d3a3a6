//! The town's mayor: one lasting conversation with a model, which people and agents take part in.
//!
//! A message is one turn, and a turn is one exchange: the message, what the model wants done, the
//! results, and the model's answer, which becomes the reply. The tool loop runs inside the turn and
//! not by `next::continue`, for two reasons: who sent the message waits for the answer, and between
//! two turns the host may take a snapshot, which must never hold an exchange that has no answer.
//!
//! The history takes over an exchange when it is complete. When a turn fails (`model-unavailable`,
//! `too-many-tool-rounds`, …) the history is what it was before the message; what tools have done
//! by then stays done.
//!
//! Config keys:
//!
//! | key | meaning | default |
//! | --- | --- | --- |
//! | `history.max-messages` | more drop the oldest exchanges | 200 |
//! | `history.max-bytes` | the same, as JSON; bounds the snapshot | 262144 |
//! | `max-tool-rounds` | answers with tool calls in one turn | 8 |
//!
//! The system prompt stands outside of the history, so it is never dropped. It and what the dashboard
//! shows are those of the host's settings at the beginning of a turn. The host asks the model that the
//! settings name, else the one of its configuration. A change needs no new incarnation, and the
//! conversation goes on.

mod tools;

use bulkhead_guest::chat::{History, Limits, MAX_ROUNDS};
use bulkhead_guest::host::{self, AgentSettings};
use bulkhead_guest::model::{self, Request, Tool};
use bulkhead_guest::{
    Agent, AgentError, Message, Outcome, Sender, ShutdownReason, StartRequest, config, info, state,
};
use serde::{Deserialize, Serialize};

/// Of the snapshot.
const STATE_VERSION: u32 = 1;

const DEFAULT_SYSTEM_PROMPT: &str = "You are the mayor of a town of software agents. You talk with \
    the people who run the town and with its agents. Answer briefly. Use `send_message` to give an \
    agent work, `status` to say in one line what is going on, `emit` to publish a fact for programs, \
    and `done` only when you are told that your work is over.";

#[derive(Default)]
struct Mayor {
    session: Option<Session>,
    memory: Memory,
}

/// What settings and config make.
struct Session {
    /// Of the settings.
    revision: u64,
    /// That the settings name, for the log.
    model: Option<String>,
    system: model::Message,
    tools: Vec<Tool>,
    limits: Limits,
    max_tool_rounds: u32,
}

/// What outlives an incarnation.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    history: History,
    /// The prompt that has its answer. It comes again with every restart.
    answered_prompt: Option<String>,
}

impl Agent for Mayor {
    fn start(&mut self, _request: StartRequest) -> Result<(), AgentError> {
        let session = Session::new(host::settings())?;
        info!(
            "mayor started",
            model = session.model_name(),
            remembered = self.memory.history.len()
        );
        self.memory.history.trim(&session.limits);
        self.session = Some(session);
        Ok(())
    }

    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some(session) = &mut self.session else {
            return Err(AgentError::fatal("not-started", "`handle` came before `start`"));
        };
        session.follow(host::settings())?;
        let prompt = matches!(message.sender, Sender::Prompt).then(|| message.body.clone());
        if prompt.is_some() && prompt == self.memory.answered_prompt {
            info!("prompt was answered in an earlier incarnation");
            return Ok(Outcome::idle());
        }
        let (exchange, outcome) = session.converse(&self.memory.history, &message)?;
        let dropped = self.memory.history.commit(exchange, &session.limits);
        if dropped > 0 {
            info!("oldest messages were dropped", messages = dropped);
        }
        if prompt.is_some() {
            self.memory.answered_prompt = prompt;
        }
        Ok(outcome)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        Ok(state::save(STATE_VERSION, &self.memory)?)
    }

    fn restore(&mut self, snapshot: Vec<u8>) -> Result<(), AgentError> {
        self.memory = state::load(&snapshot, STATE_VERSION, state::no_upgrade)?;
        Ok(())
    }

    fn shutdown(&mut self, reason: ShutdownReason) -> Result<(), AgentError> {
        info!("mayor ended", reason = reason.as_str());
        Ok(())
    }
}

impl Session {
    fn new(settings: AgentSettings) -> Result<Self, AgentError> {
        Ok(Self {
            revision: settings.revision,
            model: settings.model,
            system: model::Message::system(host::instructions(DEFAULT_SYSTEM_PROMPT)),
            tools: tools::offered(),
            limits: config::load("history")?,
            max_tool_rounds: config::get("max-tool-rounds")?.unwrap_or(MAX_ROUNDS),
        })
    }

    /// Goes by these settings from here on. When nothing can be made of them the turn fails and the
    /// agent keeps running: what somebody set wrong they can set right, and the conversation is kept.
    fn follow(&mut self, settings: AgentSettings) -> Result<(), AgentError> {
        if settings.revision == self.revision {
            return Ok(());
        }
        let session = Self::new(settings);
        *self = session.map_err(|error| AgentError { fatal: false, ..error })?;
        info!("mayor goes by new settings", model = self.model_name());
        Ok(())
    }

    fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or("default")
    }

    /// One exchange, from the message to the answer. Changes nothing of the history.
    fn converse(
        &self,
        history: &History,
        message: &Message,
    ) -> Result<(Vec<model::Message>, Outcome), AgentError> {
        let question = model::Message::user(framed(message));
        self.limits.admit(&question)?;
        let mut exchange = vec![question];
        for round in 0..=self.max_tool_rounds {
            let so_far = std::iter::once(&self.system).chain(history.messages()).chain(&exchange);
            let completion = model::complete(&Request::new(so_far).tools(&self.tools))?;
            let (text, answer) = (completion.text(), completion.message);
            let calls = answer.tool_calls.clone();
            exchange.push(answer);
            if calls.is_empty() {
                return Ok((exchange, Outcome::reply(text)));
            }
            // What they did would stay done, and nobody would hear of it.
            if round == self.max_tool_rounds {
                break;
            }
            let mut finished = None;
            for call in &calls {
                let result = tools::run(call);
                exchange.push(model::Message::tool_result(call, result.text));
                finished = finished.or(result.done);
            }
            if let Some(summary) = finished {
                let last_word = if summary.is_empty() { text } else { summary };
                return Ok((exchange, Outcome::done(last_word)));
            }
        }
        Err(AgentError::failed(
            "too-many-tool-rounds",
            format!("model called tools in more than {} answers in a row", self.max_tool_rounds),
        ))
    }
}

/// The model has to know who speaks.
fn framed(message: &Message) -> String {
    match &message.sender {
        Sender::Operator | Sender::Prompt | Sender::Continuation => message.body.clone(),
        Sender::Agent(id) => format!("[message from agent {id}]\n{}", message.body),
        Sender::Nudge(_) => format!("[nudge from the control plane]\n{}", message.body),
    }
}

bulkhead_guest::export!(Mayor);

#[cfg(test)]
mod tests {
    use super::*;

    /// As mayors wrote it that spoke HTTP to their model.
    const OLDER: &str = r#"{"version":1,"state":{"history":[
        [{"role":"user","content":"emit a"},
         {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"emit","arguments":"{\"name\":\"a\"}"}}]},
         {"role":"tool","content":"published","tool_call_id":"c"},
         {"role":"assistant","content":"done"}],
        [{"role":"user","content":"and?"},{"role":"assistant","content":""}]
    ],"answered_prompt":"emit a"}}"#;

    #[test]
    fn an_older_snapshot_is_the_same_conversation() {
        let mut mayor = Mayor::default();
        mayor.restore(OLDER.as_bytes().to_vec()).unwrap();
        let messages: Vec<_> = mayor.memory.history.messages().collect();
        assert_eq!(messages.len(), 6);
        assert_eq!(messages[1].tool_calls[0].arguments, r#"{"name":"a"}"#);
        assert_eq!(messages[2].tool_call_id.as_deref(), Some("c"));
        assert_eq!(messages[3].text(), "done");
        assert_eq!(mayor.memory.answered_prompt.as_deref(), Some("emit a"));
    }

    #[test]
    fn a_snapshot_has_the_form_of_older_mayors_too() {
        let mut mayor = Mayor::default();
        mayor.restore(OLDER.as_bytes().to_vec()).unwrap();
        let snapshot = mayor.snapshot().unwrap();
        let json = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
        assert_eq!(json(&snapshot), json(OLDER.as_bytes()));
    }
}
