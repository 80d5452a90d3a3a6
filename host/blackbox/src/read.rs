//! Reading what a run left. Takes any bytes and never panics.

use std::borrow::Cow;
use std::time::Duration;

use bulkhead_types::Timestamp;
use bulkhead_types::previous::{InFlight, MemoryFigures, RunState};

use super::layout::{self, Area, Geometry, Word};
use super::slot::{self, Held};
use super::{Fact, Kind, Run, Work, timestamp};

const STATES: [RunState; 5] = [
    RunState::Starting,
    RunState::Started,
    RunState::Hydrated,
    RunState::Draining,
    RunState::Clean,
];

/// Why a file is no black box that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub &'static str);

/// One record of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number among all records of the run.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What it is about.
    pub kind: Kind,
    /// JSON, as a rule.
    pub payload: Vec<u8>,
}

impl Record {
    /// What it says, unless it is of a sort that this version does not know.
    pub fn fact(&self) -> Option<Fact<'static>> {
        Fact::decode(self.kind, &self.payload)
    }
}

/// The mark of a run that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanMarker {
    /// There is none.
    Absent,
    /// It names this run. That may be another one than the file's.
    Of(String),
    /// It cannot be read.
    Damaged,
}

/// What a run left in its black box.
#[derive(Debug, Clone, PartialEq)]
pub struct Previous {
    /// What it said about itself at its beginning.
    pub run: Run,
    /// The states that it reached, and when.
    pub reached: Vec<(RunState, Timestamp)>,
    /// When somebody asked it to end.
    pub stop_intent_at: Option<Timestamp>,
    /// Its last heartbeat.
    pub last_live: Option<Timestamp>,
    /// How long it had lived by then. No wall clock, so setting one does not show.
    pub uptime: Option<Duration>,
    /// The last `seq` of its log.
    pub last_log_seq: Option<u64>,
    /// Its output ended in the middle of a line.
    pub in_line: bool,
    /// The mark of a good end.
    pub clean: CleanMarker,
    /// By sequence number. Gaps are records that newer ones replaced, or torn ones.
    pub records: Vec<Record>,
    /// What it was at.
    pub in_flight: Vec<InFlight>,
    /// More that it was at, for which there was no slot.
    pub untracked: u64,
    /// Slots that were half-written or damaged.
    pub torn: u32,
    /// Slots that the file should have and has not.
    pub missing: u32,
}

impl Previous {
    /// The last state that it reached.
    pub fn state(&self) -> Option<RunState> {
        self.reached.iter().map(|(state, _)| *state).max()
    }

    /// Whether it reached `state`.
    pub fn has_reached(&self, state: RunState) -> bool {
        self.reached.iter().any(|(reached, _)| *reached == state)
    }

    /// When it last did anything that is known of. Not the latest time that it names: that may be from
    /// before the clock was set back.
    pub fn last_ts(&self) -> Timestamp {
        let by_number = || self.records.last().map(|record| record.at);
        self.last_live.or_else(by_number).unwrap_or(self.run.started_at())
    }

    /// Its memory samples, oldest first.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = (Timestamp, MemoryFigures)> {
        let samples = self.records.iter().filter(|record| record.kind == Kind::Memory);
        samples.filter_map(|record| match record.fact()? {
            Fact::Memory(figures) => Some((record.at, figures)),
            _ => None,
        })
    }
}

/// Reads the bytes of a black box.
pub fn parse(bytes: &[u8]) -> Result<Previous, Damage> {
    let (geometry, run) = layout::read_header(bytes).map_err(Damage)?;
    let word = |word| layout::read_word(bytes, word);
    let reached = STATES
        .into_iter()
        .filter_map(|state| Some((state, timestamp(word(Word::Reached(state))?))))
        .collect();
    let mut slots = Slots { bytes, geometry, torn: 0, missing: 0 };
    let mut records = slots.read(Area::Container);
    records.extend(slots.read(Area::Agents));
    records.sort_by_key(|record| record.seq);
    records.dedup_by_key(|record| record.seq);
    let mut at_hand: Vec<InFlight> = slots
        .read(Area::InFlight)
        .iter()
        .filter_map(|record| match record.fact()? {
            Fact::InFlight(work) => Some(in_flight(work, record.at)),
            _ => None,
        })
        .collect();
    at_hand.sort_by_key(|work| work.since);
    Ok(Previous {
        reached,
        stop_intent_at: word(Word::StopIntent).map(timestamp),
        last_live: word(Word::LastLive).map(timestamp),
        uptime: word(Word::Uptime).map(Duration::from_millis),
        last_log_seq: word(Word::LastLogSeq),
        in_line: word(Word::InLine) == Some(1),
        clean: match layout::read_clean_marker(bytes) {
            Ok(None) => CleanMarker::Absent,
            Ok(Some(run_id)) => CleanMarker::Of(run_id),
            Err(()) => CleanMarker::Damaged,
        },
        records,
        in_flight: at_hand,
        untracked: word(Word::Untracked).unwrap_or(0),
        torn: slots.torn,
        missing: slots.missing,
        run,
    })
}

fn in_flight(work: Work<'_>, since: Timestamp) -> InFlight {
    InFlight {
        agent_id: work.agent_id.into_owned(),
        incarnation: work.incarnation,
        phase: work.phase.into_owned(),
        message_id: work.message_id.map(Cow::into_owned),
        since,
    }
}

struct Slots<'a> {
    bytes: &'a [u8],
    geometry: Geometry,
    torn: u32,
    missing: u32,
}

impl Slots<'_> {
    fn read(&mut self, area: Area) -> Vec<Record> {
        let mut records = Vec::new();
        for index in 0..self.geometry.slots(area) {
            let Some(slot) = self.bytes.get(self.geometry.slot_bytes(area, index)) else {
                self.missing += 1;
                continue;
            };
            match slot::read(slot) {
                Held::Nothing => {}
                Held::Torn => self.torn += 1,
                Held::Record { seq, at_ms, kind, payload } => records.push(Record {
                    seq,
                    at: timestamp(at_ms),
                    kind: Kind::of(kind),
                    payload: payload.to_vec(),
                }),
            }
        }
        records
    }
}
