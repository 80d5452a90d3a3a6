//! The black box in short: what the rules about an end need of it.
//!
//! | of | are kept |
//! | --- | --- |
//! | memory samples | the newest 10 |
//! | other facts of the container | the newest 64 |
//! | facts of agents | the newest 64, and the starts of what is in flight |
//! | work in flight | all: 256 at most |

use std::collections::HashSet;
use std::time::Duration;

use bulkhead_blackbox::{CleanMarker, Fact, Kind, Previous, Record, Run};
use bulkhead_types::Timestamp;
use bulkhead_types::previous::{InFlight, RunState};
use bulkhead_types::time::millis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const SAMPLES: usize = 10;
const CONTAINER: usize = 64;
const AGENTS: usize = 64;

/// What of a black box goes to the sink.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Digest {
    run: Run,
    reached: Vec<(RunState, Timestamp)>,
    stop_intent_at: Option<Timestamp>,
    last_live: Option<Timestamp>,
    uptime_ms: Option<u64>,
    last_log_seq: Option<u64>,
    /// The run that the clean marker names.
    clean: Option<String>,
    facts: Vec<StoredRecord>,
    in_flight: Vec<InFlight>,
    untracked: u64,
}

/// A record of a ring, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRecord {
    seq: u64,
    at: Timestamp,
    kind: u16,
    fact: Box<RawValue>,
}

impl Digest {
    /// Of a box as it is now. `epoch` is the run's number from here on.
    pub fn of(contents: &Previous, epoch: u64) -> Self {
        let chosen = chosen(contents).into_iter().filter_map(StoredRecord::of).collect();
        Self {
            run: Run { number: epoch, ..contents.run.clone() },
            reached: contents.reached.clone(),
            stop_intent_at: contents.stop_intent_at,
            last_live: contents.last_live,
            uptime_ms: contents.uptime.map(millis),
            last_log_seq: contents.last_log_seq,
            clean: match &contents.clean {
                CleanMarker::Of(run_id) => Some(run_id.clone()),
                CleanMarker::Absent | CleanMarker::Damaged => None,
            },
            facts: chosen,
            in_flight: contents.in_flight.clone(),
            untracked: contents.untracked,
        }
    }

    /// As a run would have left it on its disk.
    pub fn into_previous(self) -> Previous {
        Previous {
            run: self.run,
            reached: self.reached,
            stop_intent_at: self.stop_intent_at,
            last_live: self.last_live,
            uptime: self.uptime_ms.map(Duration::from_millis),
            last_log_seq: self.last_log_seq,
            // Its output went with its container.
            in_line: false,
            clean: self.clean.map_or(CleanMarker::Absent, CleanMarker::Of),
            records: self.facts.into_iter().map(StoredRecord::into_record).collect(),
            in_flight: self.in_flight,
            untracked: self.untracked,
            torn: 0,
            missing: 0,
        }
    }
}

impl StoredRecord {
    /// Nothing of a record that says nothing.
    fn of(record: &Record) -> Option<Self> {
        let text = String::from_utf8(record.payload.clone()).ok()?;
        let fact = RawValue::from_string(text).ok()?;
        Some(Self { seq: record.seq, at: record.at, kind: record.kind.number(), fact })
    }

    fn into_record(self) -> Record {
        let Self { seq, at, kind, fact } = self;
        Record { seq, at, kind: Kind::of(kind), payload: fact.get().as_bytes().to_vec() }
    }
}

/// The records that count most, by number.
fn chosen(contents: &Previous) -> Vec<&Record> {
    let at_hand: HashSet<_> =
        contents.in_flight.iter().map(|work| (work.agent_id.as_str(), work.incarnation)).collect();
    let is_start_of_it = |record: &Record| match record.fact() {
        Some(Fact::AgentStart(start)) => at_hand.contains(&(&*start.agent_id, start.incarnation)),
        _ => false,
    };
    let (mut samples, mut container, mut agents) = (0, 0, 0);
    let newest = |count: &mut usize, most: usize| {
        *count += 1;
        *count <= most
    };
    let mut chosen: Vec<_> = contents
        .records
        .iter()
        .rev()
        .filter(|record| match record.kind {
            Kind::Memory => newest(&mut samples, SAMPLES),
            kind if kind.is_of_an_agent() => newest(&mut agents, AGENTS) || is_start_of_it(record),
            _ => newest(&mut container, CONTAINER),
        })
        .collect();
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use bulkhead_blackbox as blackbox;
    use bulkhead_blackbox::{AgentStart, Geometry, Panic, StopIntent, Work};
    use bulkhead_types::previous::MemoryFigures;

    use super::*;

    fn start(agent: &str) -> Fact<'_> {
        Fact::AgentStart(AgentStart { agent_id: agent.into(), role: "r".into(), incarnation: 1 })
    }

    fn there_and_back(contents: &Previous) -> Previous {
        let text = serde_json::to_vec(&Digest::of(contents, 12)).unwrap();
        serde_json::from_slice::<Digest>(&text).unwrap().into_previous()
    }

    #[test]
    fn a_box_that_is_small_comes_through_whole() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run { run_id: "run".into(), boot_id: Some("b".into()), pid: 7, ..Run::default() };
        let blackbox = blackbox::open(dir.path(), &run, Geometry::default()).blackbox.unwrap();
        blackbox.note(&start("a"));
        let figures = MemoryFigures { anon_bytes: Some(5), ..MemoryFigures::default() };
        blackbox.note(&Fact::Memory(figures));
        let (by, reason) = ("SIGTERM".into(), "asked \"for\"".into());
        blackbox.note(&Fact::StopIntent(StopIntent { by, reason, drain_ms: Some(9) }));
        blackbox.note(&Fact::Panic(Panic {
            name: "main".into(),
            message: "ä\n".into(),
            location: None,
        }));
        blackbox.alive(17);
        let work =
            Work { agent_id: "a".into(), incarnation: 1, phase: "handle".into(), message_id: None };
        let _marker = blackbox.in_flight().begin(&work);
        for state in [RunState::Started, RunState::Hydrated, RunState::Draining, RunState::Clean] {
            blackbox.reached(state).unwrap();
        }
        let contents = blackbox.contents().unwrap();
        assert_eq!(contents.records.len(), 4);
        let mut expected = contents.clone();
        expected.run.number = 12;
        assert_eq!(there_and_back(&contents), expected);
    }

    #[test]
    fn of_a_full_box_the_newest_and_what_is_at_hand_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run { run_id: "run".into(), ..Run::default() };
        let blackbox = blackbox::open(dir.path(), &run, Geometry::default()).blackbox.unwrap();
        let (by, reason) = ("SIGTERM".into(), "".into());
        blackbox.note(&Fact::StopIntent(StopIntent { by, reason, drain_ms: None }));
        blackbox.note(&start("at-hand"));
        for n in 0..300 {
            blackbox.note(&Fact::Memory(MemoryFigures {
                oom_kills: Some(n),
                ..MemoryFigures::default()
            }));
            blackbox.note(&start("other"));
        }
        let work = Work {
            agent_id: "at-hand".into(),
            incarnation: 1,
            phase: "start".into(),
            message_id: None,
        };
        let _marker = blackbox.in_flight().begin(&work);
        let kept = there_and_back(&blackbox.contents().unwrap());
        let facts: Vec<_> = kept.records.iter().filter_map(Record::fact).collect();
        assert!(matches!(facts[0], Fact::StopIntent(_)), "samples do not push it out");
        assert!(matches!(&facts[1], Fact::AgentStart(it) if it.agent_id == "at-hand"));
        assert_eq!(facts.len(), 1 + 1 + SAMPLES + AGENTS);
        assert_eq!(kept.samples().next_back().unwrap().1.oom_kills, Some(299));
        assert_eq!(kept.in_flight.len(), 1);
    }
}
