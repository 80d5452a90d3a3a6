//! Lines of the host's log, as far as an author wants to know of them.

use std::net::SocketAddr;

use bulkhead_types::exit::Location;
use bulkhead_types::{AgentId, Exception, Incarnation, SourceFrame};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a line says.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub(crate) enum Fact {
    /// The host listens.
    #[serde(rename = "container.cold_start")]
    ColdStart { listen: SocketAddr },
    /// It may have taken a while.
    #[serde(rename = "container.component_loaded")]
    ComponentLoaded { component: String, source: String, duration_ms: u64 },
    #[serde(rename = "agent.start")]
    Start { agent_id: AgentId, incarnation: Incarnation, timings: Timings },
    #[serde(rename = "agent.start_failed")]
    StartFailed { agent_id: AgentId, error: String, error_type: String },
    #[serde(rename = "agent.exit")]
    Exit { agent_id: AgentId, reason: String, message: String, crash_id: Option<String> },
    #[serde(rename = "agent.crash")]
    Crash(Box<Thrown>),
    #[serde(rename = "agent.unhandled_rejection")]
    UnhandledRejection(Box<Thrown>),
    #[serde(rename = "agent.snapshot_set_aside")]
    SnapshotSetAside { agent_id: AgentId, reason: String },
    #[serde(rename = "agent.snapshot_not_kept")]
    SnapshotNotKept { agent_id: AgentId, message: String },
    /// A turn that failed: others are on the level `debug`.
    #[serde(rename = "agent.turn")]
    Turn { agent_id: AgentId, error: Option<String> },
    #[serde(rename = "agent.log")]
    Log {
        agent_id: AgentId,
        level: String,
        message: String,
        #[serde(default)]
        fields: Map<String, Value>,
    },
    /// Of the host itself.
    #[serde(other)]
    Other,
}

/// How long the steps of a start took, in microseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Timings {
    pub(crate) wait_us: u64,
    pub(crate) compile_us: u64,
    pub(crate) instantiate_us: u64,
    /// 0 where there was no snapshot.
    pub(crate) restore_us: u64,
    pub(crate) guest_start_us: u64,
}

/// What was thrown, or how else an incarnation crashed. Of a record that is longer than a line the long fields are missing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Thrown {
    pub(crate) agent_id: AgentId,
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) phase: Option<String>,
    /// Why it ended. Absent where it did not.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The agent's own, of an error that it chose.
    #[serde(default)]
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) location: Option<Location>,
    #[serde(default, deserialize_with = "if_complete")]
    pub(crate) exceptions: Vec<Exception>,
}

fn if_complete<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Exception>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl Thrown {
    /// Where: file, line and column.
    pub(crate) fn place(&self) -> Option<String> {
        match (&*self.exceptions, &self.location) {
            ([first, ..], _) => first.frames.first().map(SourceFrame::place),
            ([], location) => location.as_ref().map(|at| frame_of(at).place()),
        }
    }
}

/// A place as a frame that says no more.
pub(crate) fn frame_of(at: &Location) -> SourceFrame {
    let Location { file, line, column } = at;
    SourceFrame { function: None, file: file.clone(), line: *line, column: Some(*column) }
}

impl Fact {
    /// Reads a line. `None`: it is none, or says nothing that is wanted here.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().filter(|fact| !matches!(fact, Self::Other))
    }
}

/// What an author did, or is shown in other words: an earlier host that was killed, a start that failed, a request of
/// this program's own.
const KNOWN: [&str; 3] =
    ["container.previous_run", "container.boot_hydration_finished", "container.request_refused"];

/// What is wrong with the host, in a line of its own.
#[derive(Debug, Deserialize)]
pub(crate) struct Complaint {
    level: String,
    event: String,
    message: Option<String>,
    error: Option<String>,
    reason: Option<String>,
}

impl Complaint {
    /// Of a line on the levels `warn` and above about the container.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let complaint: Self = serde_json::from_str(line).ok()?;
        let is_one = matches!(&*complaint.level, "warn" | "error" | "fatal");
        let is_known = KNOWN.contains(&&*complaint.event);
        (is_one && !is_known && complaint.event.starts_with("container.")).then_some(complaint)
    }

    /// For a person.
    pub(crate) fn words(&self) -> String {
        let Self { level, event, message, error, reason } = self;
        let words = message.as_ref().or(error.as_ref()).or(reason.as_ref());
        match words {
            Some(words) => format!("host: {level}: {words} [{event}]"),
            None => format!("host: {level}: {event}"),
        }
    }
}

impl Timings {
    /// The whole start, in microseconds.
    pub(crate) fn total_us(self) -> u64 {
        let Self { wait_us, compile_us, instantiate_us, restore_us, guest_start_us } = self;
        wait_us + compile_us + instantiate_us + restore_us + guest_start_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_for_what_an_author_wants_to_know() {
        let fact = |line: &str| Fact::parse(line).map(|fact| format!("{fact:?}"));
        let start = r#"{"ts":"x","level":"info","event":"agent.start","agentId":"toast","incarnation":3,
            "timings":{"waitUs":1,"compileUs":2,"instantiateUs":3,"restoreUs":4,"guestStartUs":5}}"#;
        let Some(Fact::Start { agent_id, incarnation, timings }) = Fact::parse(start) else {
            panic!("no start");
        };
        assert_eq!((agent_id.as_str(), incarnation.0, timings.total_us()), ("toast", 3, 15));
        let exit =
            r#"{"level":"info","event":"agent.exit","agentId":"a","reason":"idle","message":"m"}"#;
        assert!(matches!(Fact::parse(exit), Some(Fact::Exit { crash_id: None, .. })));
        let log = r#"{"level":"warn","event":"agent.log","agentId":"a","message":"m","fields":{"guest.n":1}}"#;
        let Some(Fact::Log { level, fields, .. }) = Fact::parse(log) else { panic!("no log") };
        assert_eq!((&*level, fields["guest.n"].as_u64()), ("warn", Some(1)));
        let aside =
            r#"{"event":"agent.snapshot_set_aside","agentId":"a","failures":2,"reason":"r"}"#;
        assert!(matches!(Fact::parse(aside), Some(Fact::SnapshotSetAside { .. })));
        let kept = r#"{"event":"agent.snapshot_not_kept","agentId":"a","code":"c","message":"m"}"#;
        assert!(matches!(Fact::parse(kept), Some(Fact::SnapshotNotKept { .. })));
        for other in
            ["", "bulkhead: no", r#"{"event":"container.drained"}"#, r#"{"event":"agent.start"}"#]
        {
            assert_eq!(fact(other), None, "{other}");
        }
    }

    #[test]
    fn complaints_are_those_of_the_host() {
        let words = |line: &str| Complaint::parse(line).map(|complaint| complaint.words());
        let line = r#"{"level":"warn","event":"container.store_unavailable","error":"full","x":1}"#;
        let expected = "host: warn: full [container.store_unavailable]";
        assert_eq!(words(line).as_deref(), Some(expected));
        assert_eq!(words(r#"{"level":"info","event":"container.x"}"#), None);
        assert_eq!(words(r#"{"level":"warn","event":"agent.x"}"#), None);
        assert_eq!(words(r#"{"level":"error","event":"container.previous_run"}"#), None);
    }
}
