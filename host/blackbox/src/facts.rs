//! What the records say.

use std::borrow::Cow;
use std::io::Write;

use bulkhead_types::previous::MemoryFigures;
use serde::{Deserialize, Serialize};

/// Sorts of records. The numbers are part of the format. An unknown one is kept when read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1: an agent runs.
    AgentStart,
    /// 2: an incarnation ended as intended.
    AgentExit,
    /// 3: an incarnation ended otherwise.
    AgentCrash,
    /// 16: the first line of the run is written.
    ColdStart,
    /// 17: a phase of the drain begins.
    Draining,
    /// 18: a deliberate end begins.
    StopIntent,
    /// 19: the boot failed, and the process ends.
    BootFailed,
    /// 32: a panic that nothing contains, and the process ends.
    Panic,
    /// 48: a memory sample.
    Memory,
    /// 64: work at hand; not in a ring.
    InFlight,
    /// Of a later version. Below 16 it is about an agent.
    Unknown(u16),
}

impl Kind {
    /// Its number in the file.
    pub fn number(self) -> u16 {
        match self {
            Self::AgentStart => 1,
            Self::AgentExit => 2,
            Self::AgentCrash => 3,
            Self::ColdStart => 16,
            Self::Draining => 17,
            Self::StopIntent => 18,
            Self::BootFailed => 19,
            Self::Panic => 32,
            Self::Memory => 48,
            Self::InFlight => 64,
            Self::Unknown(number) => number,
        }
    }

    /// The sort with this number.
    pub fn of(number: u16) -> Self {
        match number {
            1 => Self::AgentStart,
            2 => Self::AgentExit,
            3 => Self::AgentCrash,
            16 => Self::ColdStart,
            17 => Self::Draining,
            18 => Self::StopIntent,
            19 => Self::BootFailed,
            32 => Self::Panic,
            48 => Self::Memory,
            64 => Self::InFlight,
            other => Self::Unknown(other),
        }
    }

    /// Whether it goes to the agents' ring.
    pub fn is_of_an_agent(self) -> bool {
        self.number() < 16
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact<'a> {
    /// An agent runs.
    AgentStart(AgentStart<'a>),
    /// An incarnation ended as intended.
    AgentExit(AgentEnd<'a>),
    /// An incarnation ended otherwise.
    AgentCrash(AgentEnd<'a>),
    /// The run began.
    ColdStart(ColdStart<'a>),
    /// A phase of the drain begins.
    Draining(Draining<'a>),
    /// A deliberate end begins.
    StopIntent(StopIntent<'a>),
    /// The boot failed.
    BootFailed(BootFailed<'a>),
    /// A panic that nothing contains.
    Panic(Panic<'a>),
    /// A memory sample.
    Memory(MemoryFigures),
    /// Work at hand.
    InFlight(Work<'a>),
}

/// See [`Fact::AgentStart`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStart<'a> {
    /// Who.
    pub agent_id: Cow<'a, str>,
    /// Its role.
    pub role: Cow<'a, str>,
    /// Which incarnation.
    pub incarnation: u64,
}

/// See [`Fact::AgentExit`] and [`Fact::AgentCrash`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentEnd<'a> {
    /// Who.
    pub agent_id: Cow<'a, str>,
    /// Which incarnation.
    pub incarnation: u64,
    /// Why, in the words of `ExitReason`.
    pub reason: Cow<'a, str>,
    /// The crash record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_id: Option<Cow<'a, str>>,
}

/// See [`Fact::ColdStart`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdStart<'a> {
    /// Of the program.
    pub version: Cow<'a, str>,
}

/// See [`Fact::Draining`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draining<'a> {
    /// In the words of `DrainPhase`.
    pub phase: Cow<'a, str>,
    /// Agents that are there.
    pub agents: usize,
}

/// See [`Fact::StopIntent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopIntent<'a> {
    /// Who asked, for example `SIGTERM`.
    pub by: Cow<'a, str>,
    /// Why.
    pub reason: Cow<'a, str>,
    /// How long the end may take. Absent when there is no grace, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_ms: Option<u64>,
}

/// See [`Fact::BootFailed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootFailed<'a> {
    /// Which part of the boot.
    pub phase: Cow<'a, str>,
    /// What went wrong.
    pub message: Cow<'a, str>,
}

/// See [`Fact::Panic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Panic<'a> {
    /// The thread or task.
    pub name: Cow<'a, str>,
    /// What it said.
    pub message: Cow<'a, str>,
    /// `file:line:column`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Cow<'a, str>>,
}

/// See [`Fact::InFlight`]. When it began is when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work<'a> {
    /// Whose it is.
    pub agent_id: Cow<'a, str>,
    /// In which of its incarnations.
    pub incarnation: u64,
    /// In the words of `Phase`, or `load` for what comes before an instance.
    pub phase: Cow<'a, str>,
    /// The message whose turn it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Cow<'a, str>>,
}

impl Work<'_> {
    pub(super) fn borrowed(&self) -> Work<'_> {
        Work {
            agent_id: Cow::Borrowed(&self.agent_id),
            incarnation: self.incarnation,
            phase: Cow::Borrowed(&self.phase),
            message_id: self.message_id.as_deref().map(Cow::Borrowed),
        }
    }
}

impl Fact<'_> {
    /// Its sort.
    pub fn kind(&self) -> Kind {
        match self {
            Self::AgentStart(_) => Kind::AgentStart,
            Self::AgentExit(_) => Kind::AgentExit,
            Self::AgentCrash(_) => Kind::AgentCrash,
            Self::ColdStart(_) => Kind::ColdStart,
            Self::Draining(_) => Kind::Draining,
            Self::StopIntent(_) => Kind::StopIntent,
            Self::BootFailed(_) => Kind::BootFailed,
            Self::Panic(_) => Kind::Panic,
            Self::Memory(_) => Kind::Memory,
            Self::InFlight(_) => Kind::InFlight,
        }
    }

    /// Reads the payload of a record. Nothing when the sort is unknown or the payload is not of it.
    pub fn decode(kind: Kind, payload: &[u8]) -> Option<Fact<'static>> {
        fn from<T: for<'de> Deserialize<'de>>(payload: &[u8]) -> Option<T> {
            serde_json::from_slice(payload).ok()
        }
        Some(match kind {
            Kind::AgentStart => Fact::AgentStart(from(payload)?),
            Kind::AgentExit => Fact::AgentExit(from(payload)?),
            Kind::AgentCrash => Fact::AgentCrash(from(payload)?),
            Kind::ColdStart => Fact::ColdStart(from(payload)?),
            Kind::Draining => Fact::Draining(from(payload)?),
            Kind::StopIntent => Fact::StopIntent(from(payload)?),
            Kind::BootFailed => Fact::BootFailed(from(payload)?),
            Kind::Panic => Fact::Panic(from(payload)?),
            Kind::Memory => Fact::Memory(from(payload)?),
            Kind::InFlight => Fact::InFlight(from(payload)?),
            Kind::Unknown(_) => return None,
        })
    }

    fn write(&self, out: impl Write) -> serde_json::Result<()> {
        match self {
            Self::AgentStart(fact) => serde_json::to_writer(out, fact),
            Self::AgentExit(fact) | Self::AgentCrash(fact) => serde_json::to_writer(out, fact),
            Self::ColdStart(fact) => serde_json::to_writer(out, fact),
            Self::Draining(fact) => serde_json::to_writer(out, fact),
            Self::StopIntent(fact) => serde_json::to_writer(out, fact),
            Self::BootFailed(fact) => serde_json::to_writer(out, fact),
            Self::Panic(fact) => serde_json::to_writer(out, fact),
            Self::Memory(fact) => serde_json::to_writer(out, fact),
            Self::InFlight(fact) => serde_json::to_writer(out, fact),
        }
    }

    /// Every text cut at `bytes`.
    fn shorten(&mut self, bytes: usize) {
        match self {
            Self::AgentStart(AgentStart { agent_id, role, .. }) => {
                truncate([agent_id, role], bytes)
            }
            Self::AgentExit(end) | Self::AgentCrash(end) => {
                let texts = [&mut end.agent_id, &mut end.reason];
                truncate(texts.into_iter().chain(&mut end.crash_id), bytes);
            }
            Self::ColdStart(ColdStart { version }) => truncate([version], bytes),
            Self::Draining(Draining { phase, .. }) => truncate([phase], bytes),
            Self::StopIntent(StopIntent { by, reason, .. }) => truncate([by, reason], bytes),
            Self::BootFailed(BootFailed { phase, message }) => truncate([phase, message], bytes),
            Self::Panic(Panic { name, message, location }) => {
                truncate([name, message].into_iter().chain(location), bytes);
            }
            Self::Memory(_) => {}
            Self::InFlight(Work { agent_id, phase, message_id, .. }) => {
                truncate([agent_id, phase].into_iter().chain(message_id), bytes);
            }
        }
    }
}

fn truncate<'a: 't, 't>(texts: impl IntoIterator<Item = &'t mut Cow<'a, str>>, bytes: usize) {
    for text in texts {
        let end = text.floor_char_boundary(bytes);
        match text {
            Cow::Borrowed(text) => *text = &text[..end],
            Cow::Owned(text) => text.truncate(end),
        }
    }
}

/// Writes a fact as JSON into `buffer`, with texts as long as fit, and returns the length.
pub(super) fn render(fact: &Fact<'_>, buffer: &mut [u8]) -> usize {
    let room = buffer.len();
    let mut attempt = |fact: &Fact<'_>| {
        let mut rest = &mut buffer[..];
        fact.write(&mut rest).ok().map(|()| room - rest.len())
    };
    if let Some(length) = attempt(fact) {
        return length;
    }
    // A character takes six bytes at most in JSON.
    let mut fact = fact.clone();
    for bytes in [320, 240, 160, 100, 60, 30, 10, 0] {
        fact.shorten(bytes);
        if let Some(length) = attempt(&fact) {
            return length;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PAYLOAD_BYTES;

    #[test]
    fn a_sort_is_its_number() {
        for number in 0..200 {
            assert_eq!(Kind::of(number).number(), number);
        }
    }

    #[test]
    fn a_long_message_is_cut_and_the_rest_stays() {
        let fact = Fact::Panic(Panic {
            name: "main".into(),
            message: "\u{1}".repeat(5000).into(),
            location: Some("src/main.rs:1:2".into()),
        });
        let mut buffer = [0; PAYLOAD_BYTES];
        let length = render(&fact, &mut buffer);
        let Some(Fact::Panic(read)) = Fact::decode(Kind::Panic, &buffer[..length]) else {
            panic!()
        };
        assert_eq!((&*read.name, read.location.as_deref()), ("main", Some("src/main.rs:1:2")));
        assert_eq!(read.message.len(), 60);
    }

    proptest! {
        #[test]
        fn every_fact_fits(name: String, message: String, location: Option<String>, n: u64) {
            let facts = [
                Fact::Panic(Panic {
                    name: name.clone().into(),
                    message: message.clone().into(),
                    location: location.clone().map(Into::into),
                }),
                Fact::AgentCrash(AgentEnd {
                    agent_id: name.repeat(20).into(),
                    incarnation: n,
                    reason: message.into(),
                    crash_id: location.map(Into::into),
                }),
            ];
            for fact in facts {
                let mut buffer = [0; PAYLOAD_BYTES];
                let length = render(&fact, &mut buffer);
                prop_assert!(Fact::decode(fact.kind(), &buffer[..length]).is_some());
            }
        }

        #[test]
        fn no_payload_is_too_strange(kind: u16, payload: Vec<u8>) {
            let _ = Fact::decode(Kind::of(kind), &payload);
        }
    }
}
