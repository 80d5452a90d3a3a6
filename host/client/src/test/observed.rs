//! What came of a step.

use std::time::Duration;

use bulkhead_api::EventView;
use bulkhead_types::{AgentId, Exception, SourceFrame};
use serde::Deserialize;
use serde_json::Value;

use super::model::Asked;
use crate::author::fact::Thrown;

/// All of it.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) end: End,
    pub(super) events: Vec<Emitted>,
    /// Some of them were not kept.
    pub(super) events_lost: bool,
    pub(super) rejections: Vec<Thrown>,
    pub(super) asked: Asked,
}

/// How the turn ended.
#[derive(Debug)]
pub(super) enum End {
    /// With this reply, which may be empty.
    Reply(String),
    /// With an error of the agent's own.
    Failed { code: String, message: String },
    /// With the agent, for a reason of the host's taxonomy. What was thrown is not there where a bound was reached.
    Ended { reason: String, message: String, thrown: Option<Box<Thrown>> },
    /// The host did not start the agent, or did not take the message. In its words.
    Refused(String),
    /// Not in this time.
    Late(Duration),
    /// There was none: it was stopped, and started again if a step said so.
    NoTurn,
}

/// An event of the agent's own.
#[derive(Debug)]
pub(super) struct Emitted {
    pub(super) name: String,
    pub(super) data: Value,
}

/// What the events of an agent say, those of the host among them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) emitted: Vec<Emitted>,
    pub(super) rejections: Vec<Thrown>,
    /// The last end of an incarnation that left a crash record.
    pub(super) crash_id: Option<String>,
    pub(super) lost: bool,
    has_exited: bool,
    /// Messages whose turns are over.
    over: Vec<String>,
}

/// What a reader of events waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until<'a> {
    /// Those that are there.
    Now,
    /// The last turn of a message, or the end of the agent.
    TurnsOf(&'a str),
    /// The end of the agent.
    Exit,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Turn {
    message_id: String,
    outcome: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exit {
    crash_id: Option<String>,
}

#[derive(Deserialize)]
struct Rejection {
    message: String,
    frames: Vec<SourceFrame>,
}

impl Seen {
    /// Takes the next event of an agent.
    pub(super) fn add(&mut self, event: &EventView, agent: &AgentId, role: &str) {
        let data = event.data.get();
        match &*event.event {
            "agent.turn" => {
                let turn: Option<Turn> = serde_json::from_str(data).ok();
                let over = turn.filter(|turn| turn.outcome.as_deref() != Some("continue"));
                self.over.extend(over.map(|turn| turn.message_id));
            }
            "agent.exit" => {
                self.has_exited = true;
                let exit: Option<Exit> = serde_json::from_str(data).ok();
                self.crash_id = exit.and_then(|exit| exit.crash_id).or(self.crash_id.take());
            }
            "agent.unhandled_rejection" => {
                let rejection: Option<Rejection> = serde_json::from_str(data).ok();
                self.rejections.extend(rejection.map(|it| it.thrown(agent, role)));
            }
            name if name.starts_with("agent.") => {}
            name => {
                let data = serde_json::from_str(data).unwrap_or_default();
                self.emitted.push(Emitted { name: name.to_owned(), data });
            }
        }
    }

    pub(super) fn has(&self, until: Until<'_>) -> bool {
        match until {
            Until::Now => true,
            Until::TurnsOf(id) => self.has_exited || self.over.iter().any(|over| over == id),
            Until::Exit => self.has_exited,
        }
    }
}

impl Rejection {
    fn thrown(self, agent: &AgentId, role: &str) -> Thrown {
        let Self { message, frames } = self;
        let (kind, says) = message.split_once(": ").unwrap_or((&message, ""));
        let exception = Exception { kind: kind.to_owned(), message: says.to_owned(), frames };
        Thrown {
            agent_id: agent.clone(),
            role: role.to_owned(),
            phase: None,
            reason: None,
            code: None,
            exceptions: vec![exception],
            location: None,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::Timestamp;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn seen(events: &[(&str, Value)]) -> Seen {
        let (agent, mut seen) = (AgentId::parse("a").unwrap(), Seen::default());
        for (name, data) in events {
            let (event, data) = ((*name).into(), to_raw_value(data).unwrap().into());
            let event = EventView { id: 1, event, data, timestamp: Timestamp(0) };
            seen.add(&event, &agent, "r");
        }
        seen
    }

    #[test]
    fn a_message_is_over_with_its_last_turn_or_with_the_agent() {
        let turn = |outcome: Value| {
            ("agent.turn", json!({"messageId": "m", "outcome": outcome, "wallMs": 1}))
        };
        let is_over = |events: &[(&str, Value)]| seen(events).has(Until::TurnsOf("m"));
        assert!(!is_over(&[]) && !is_over(&[turn(json!("continue"))]));
        assert!(!is_over(&[("agent.turn", json!({"messageId": "other", "outcome": "idle"}))]));
        assert!(is_over(&[turn(json!("continue")), turn(json!("idle"))]));
        assert!(is_over(&[turn(Value::Null)]), "it failed");
        let exit = ("agent.exit", json!({"reason": "exception", "message": "m", "crashId": "c1"}));
        assert!(
            is_over(std::slice::from_ref(&exit))
                && seen(std::slice::from_ref(&exit)).has(Until::Exit)
        );
        let stopped = ("agent.exit", json!({"reason": "stopped", "message": "m"}));
        assert_eq!(seen(&[exit, stopped]).crash_id.as_deref(), Some("c1"));
    }

    #[test]
    fn events_of_the_agent_are_apart_from_those_of_the_host() {
        let frames = json!([{"file": "agent.js", "line": 3}]);
        let seen = seen(&[
            ("agent.start", json!({"incarnation": 1})),
            ("toast.delta", json!({"n": 1})),
            ("agent.unhandled_rejection", json!({"message": "TypeError: no: x", "frames": frames})),
            ("agent.unhandled_rejection", json!({"message": "Stop", "frames": []})),
        ]);
        let names: Vec<_> = seen.emitted.iter().map(|it| (&*it.name, &it.data["n"])).collect();
        assert_eq!(names, [("toast.delta", &json!(1))]);
        let kinds: Vec<_> = seen.rejections.iter().map(|it| &*it.exceptions[0].kind).collect();
        assert_eq!(kinds, ["TypeError", "Stop"]);
        assert_eq!(seen.rejections[0].place().as_deref(), Some("agent.js:3"));
        assert_eq!(seen.rejections[0].exceptions[0].message, "no: x");
    }
}
