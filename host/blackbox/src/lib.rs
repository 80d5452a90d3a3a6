//! The black box: a mapped file that keeps the last facts of a run through SIGKILL.
//!
//! ```text
//!  byte 0     ┌──────────────────────────────────────────────────────────────────────┐
//!             │ magic, version, checksum, numbers of slots, the run as JSON            │ written once
//!       2048  │ starting, started, hydrated, draining, clean: when each was reached    │ one word each,
//!             │ stop intent, last heartbeat, last log seq, records lost, work that     │ checked
//!             │ has no slot                                                            │
//!       3072  │ clean marker: checksum and run id                                      │ written last
//!       4096  ├──────────────────────────────────────────────────────────────────────┤
//!             │ in flight: 256 slots, taken when work begins and freed when it ends    │
//!             ├──────────────────────────────────────────────────────────────────────┤
//!             │ facts of the container: ring of 512 slots                              │
//!             ├──────────────────────────────────────────────────────────────────────┤
//!             │ facts of agents: ring of 4096 slots                                    │
//!             └──────────────────────────────────────────────────────────────────────┘
//!
//!  slot, 512 bytes:  seq (bit 63: being written) │ crc32, length, kind │ unix ms │ payload, 488 bytes
//! ```
//!
//! A store into the mapping is in the page cache at once, so it outlives the process without a system call;
//! `msync` is for the end of the machine, and is done when a state is reached. Every word of the mapping is
//! an atomic, so writers on any threads race without undefined behaviour; a slot has one writer at a time,
//! which takes it by a compare-and-swap and publishes the sequence number last. A slot that was being
//! written, and one whose checksum is wrong, is torn: counted, and not believed.
//!
//! Agents have a ring of their own, so that a storm of crashes does not push out what the container said.
//! The counters of the kernel as they were at the beginning stand in the header for the same reason.
//!
//! A run reads what the one before it left ([`open`]), keeps that file as `blackbox.previous`, and begins
//! a new one. A file that does not parse is kept as `blackbox.corrupt-<n>`.
//!
//! [`previous`] judges from it why the run before ended, and [`runs`] lists which runs there were, so that no box
//! is taken for another run's.

mod facts;
mod files;
mod in_flight;
mod layout;
mod map;
mod noise;
pub mod previous;
mod read;
pub mod runs;
mod slot;

/// What other mapped files of the state directory are made of.
pub mod mapped {
    pub use crate::files::{create_private, fill_holes, whereabouts};
    pub use crate::in_flight::FreeSlots;
    pub use crate::map::Map;
}

pub use facts::{
    AgentEnd, AgentStart, BootFailed, ColdStart, Draining, Fact, Kind, Panic, StopIntent, Work,
};
pub use files::{Found, Opened, in_memory, left, open, read};
pub use in_flight::{InFlightTable, Marker};
pub use layout::{Geometry, Run};
pub use noise::read_any;
pub use read::{CleanMarker, Damage, Previous, Record, parse};
pub use slot::PAYLOAD_BYTES;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bulkhead_types::Timestamp;
use bulkhead_types::previous::RunState;

use rustix::time::{ClockId, clock_gettime};

use in_flight::FreeSlots;
use layout::{Area, Word};
use map::Map;

/// Why there is no black box. The host goes on without one: see [`BlackBox::absent`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its blocks could not be reserved.
    #[error("reserve {bytes} bytes for the black box")]
    NoSpace {
        /// Its size.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be made.
    #[error("create the black box")]
    Create(#[source] io::Error),
    /// The file could not be mapped.
    #[error("map the black box")]
    Map(#[source] io::Error),
    /// It did not replace the one before it.
    #[error("put the new black box into place")]
    Rotate(#[source] io::Error),
    /// Its header has no room for what the run says about itself, or it would be too large.
    #[error("describe the run in the black box: {0}")]
    Describe(&'static str),
}

/// Why a state was not written down.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A run is clean only after its drain.
    #[error("the run cannot be clean: it was never draining")]
    NotThrough,
    /// It is written, and outlives the process; it may not outlive the machine.
    #[error("sync the black box")]
    Sync(#[source] io::Error),
}

/// The writing end. Cheap to clone, usable from every thread.
#[derive(Clone)]
pub struct BlackBox {
    open: Option<Arc<Open>>,
}

struct Open {
    map: Map,
    geometry: Geometry,
    run_id: String,
    /// By the clock that nobody sets.
    began_ms: u64,
    /// The last number given to a record.
    seq: AtomicU64,
    container: AtomicU64,
    agents: AtomicU64,
    /// Slots for work at hand that nobody has.
    free: FreeSlots,
    /// Work that found none, ever.
    untracked: AtomicU64,
}

impl BlackBox {
    /// One that keeps nothing, for a host that has to go on without.
    pub fn absent() -> Self {
        Self { open: None }
    }

    fn new(map: Map, geometry: Geometry, run_id: String) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            open: Some(Arc::new(Open {
                map,
                geometry,
                run_id,
                began_ms: monotonic_ms(),
                seq: zero(),
                container: zero(),
                agents: zero(),
                free: FreeSlots::new(geometry.slots(Area::InFlight)),
                untracked: zero(),
            })),
        }
    }

    /// Whether anything is kept.
    pub fn is_present(&self) -> bool {
        self.open.is_some()
    }

    /// Appends a record and returns its number. When this returns, the record outlives the process.
    ///
    /// No lock, no system call and no allocation. `payload` is cut at [`PAYLOAD_BYTES`]. Nothing is
    /// returned when there is no black box, or in the case that every slot of the ring is held by a writer
    /// that was interrupted; the latter is counted.
    pub fn append(&self, kind: Kind, payload: &[u8]) -> Option<u64> {
        let open = self.open.as_ref()?;
        let at = now_ms();
        if kind == Kind::StopIntent {
            open.word(Word::StopIntent).store(layout::checked(Word::StopIntent, at), Release);
        }
        let (area, cursor) = if kind.is_of_an_agent() {
            (Area::Agents, &open.agents)
        } else {
            (Area::Container, &open.container)
        };
        let slots = open.geometry.slots(area);
        for _ in 0..slots {
            let seq = open.seq.fetch_add(1, Relaxed) + 1;
            let words = open.slot(area, cursor.fetch_add(1, Relaxed) % slots);
            // A thread that was interrupted for a whole lap does not overwrite what is newer.
            if slot::claim(words, seq) {
                slot::publish(words, seq, at, kind.number(), payload);
                // A panic and a failed boot are the last that a run does. Agents' facts are many.
                if area == Area::Container {
                    open.beat_at(at);
                }
                return Some(seq);
            }
        }
        open.add_to(Word::Lost, 1);
        None
    }

    /// Appends a fact. Texts that do not fit are shortened.
    pub fn note(&self, fact: &Fact<'_>) -> Option<u64> {
        self.open.as_ref()?;
        let mut buffer = [0; PAYLOAD_BYTES];
        let length = facts::render(fact, &mut buffer);
        self.append(fact.kind(), &buffer[..length])
    }

    /// A heartbeat, and the last `seq` of the log. Three stores.
    pub fn alive(&self, last_log_seq: u64) {
        let Some(open) = &self.open else { return };
        open.beat_at(now_ms());
        open.word(Word::LastLogSeq).store(layout::checked(Word::LastLogSeq, last_log_seq), Relaxed);
    }

    /// Whether the output ends in the middle of a line now.
    pub fn is_in_line(&self, in_line: bool) {
        let Some(open) = &self.open else { return };
        open.word(Word::InLine).store(layout::checked(Word::InLine, in_line.into()), Release);
    }

    /// Writes down that the run came so far, and waits until the disk has it (milliseconds).
    ///
    /// [`RunState::Clean`] is refused without a drain, and is bound to the run id; after it nothing else should be
    /// written.
    pub fn reached(&self, state: RunState) -> Result<(), StateError> {
        let Some(open) = &self.open else { return Ok(()) };
        if state == RunState::Clean {
            open.make_clean()?;
        }
        let at = now_ms();
        open.word(Word::Reached(state)).store(layout::checked(Word::Reached(state), at), Release);
        open.beat_at(at);
        open.map.sync().map_err(StateError::Sync)
    }

    /// What it holds now: what a later run would read. Nothing when there is no black box.
    ///
    /// Copies and checks all of it (2.4 MiB, milliseconds): not for a thread that must not wait. A slot that is written
    /// meanwhile counts as torn.
    pub fn contents(&self) -> Option<Previous> {
        let words = self.open.as_ref()?.map.words();
        let bytes: Vec<u8> =
            words.iter().flat_map(|word| word.load(Acquire).to_le_bytes()).collect();
        parse(&bytes).ok()
    }

    /// Where work at hand is marked, for those who begin it.
    pub fn in_flight(&self) -> InFlightTable {
        InFlightTable { open: self.open.clone() }
    }

    /// Records that were lost.
    pub fn lost(&self) -> u64 {
        let Some(open) = &self.open else { return 0 };
        layout::value(Word::Lost, open.word(Word::Lost).load(Relaxed)).unwrap_or(0)
    }

    /// Waits until the disk has everything.
    pub fn sync(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| open.map.sync())
    }
}

impl Open {
    fn word(&self, word: Word) -> &AtomicU64 {
        &self.map.words()[word.index()]
    }

    fn slot(&self, area: Area, index: u64) -> &[AtomicU64] {
        &self.map.words()[self.geometry.slot_words(area, index)]
    }

    /// A heartbeat. The wall clock may be set at any time, so how long the run lived stands beside it.
    fn beat_at(&self, at: u64) {
        let lived = monotonic_ms().saturating_sub(self.began_ms);
        self.word(Word::LastLive).store(layout::checked(Word::LastLive, at), Relaxed);
        self.word(Word::Uptime).store(layout::checked(Word::Uptime, lived), Relaxed);
    }

    fn make_clean(&self) -> Result<(), StateError> {
        let word = Word::Reached(RunState::Draining);
        if layout::value(word, self.word(word).load(Acquire)).is_none() {
            return Err(StateError::NotThrough);
        }
        // What came before the marker is on the disk before the marker is.
        self.map.sync().map_err(StateError::Sync)?;
        layout::write_clean_marker(self.map.words(), &self.run_id);
        Ok(())
    }
}

/// The wall clock at the kernel's tick, which is what a read of it costs least at: a few milliseconds
/// late at most.
fn now_ms() -> u64 {
    clock_ms(ClockId::RealtimeCoarse)
}

/// The same of the clock that nobody sets.
fn monotonic_ms() -> u64 {
    clock_ms(ClockId::MonotonicCoarse)
}

fn clock_ms(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1000) + nanos.unwrap_or(0) / 1_000_000
}

fn timestamp(ms: u64) -> Timestamp {
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
