//! The journal of deliveries: messages whose turn is not over, kept through SIGKILL.
//!
//! ```text
//!  byte 0     ┌──────────────────────────────────────────────────────────────┐
//!             │ magic, version, checksum, numbers of slots and blocks, slots   │
//!             │ used so far                                                    │
//!       4096  ├──────────────────────────────────────────────────────────────┤
//!             │ slots of 4 KiB, one for each desired agent                     │
//!             ├──────────────────────────────────────────────────────────────┤
//!             │ blocks of 8 KiB : bodies that a slot has no room for           │
//!             └──────────────────────────────────────────────────────────────┘
//!
//!  slot:  owner: length, crc32, agent id │ which prompt │ lane of the prompt │ lane of the mail
//!  lane:  state: none, delivered, waits, done; which half │ half │ half
//!  half:  crc32, lengths │ message id, sender, attempt, ends so far as JSON │ body
//! ```
//!
//! The file is a mapping: a store is in the page cache at once and outlives the process without a system
//! call, so a delivery costs a copy of its message and no wait. A record goes into the half of its lane that is
//! not in use, and one store of the state makes it valid: whenever the process is killed, a lane has the record
//! before or the one after, whole. The prompt has a lane of its own because it may be delivered before a message
//! that waits to be delivered again; its text is not here but in the start that the database has.
//!
//! Against the loss of the machine nothing is promised: the kernel writes the pages within its own time, half a
//! minute by default, and [`Journal::sync`] at the end of a run. What the disk has after a loss of power is
//! used if its checksums are right. A message that ended since then is delivered again, and one that came since
//! then is lost.
//!
//! A run goes on in the file of the one before. Where the sizes differ it writes what is there into a new file, and
//! puts that one in place of the old.
//! When slots or blocks run out, a message is delivered without a record: counted, and nobody waits.
//!
//! An agent that ended keeps its slot until the database has its end ([`JournalSlot::retire`]): a run that follows a kill
//! before that finds the agent desired, and here that its prompt is done.

mod bodies;
mod file;
mod lane;
mod layout;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use bulkhead_types::{AgentId, Message, Sender};
use parking_lot::Mutex;

use bodies::Bodies;
use bulkhead_blackbox::mapped::{FreeSlots, Map, whereabouts};
pub use file::open;
use lane::{Kind, Lane};
use layout::Geometry;

/// Ends of deliveries that a record names. Older ones are left out.
pub const MAX_CRASH_IDS: usize = 10;

/// The writing end. Cheap to clone, usable from every thread.
#[derive(Clone)]
pub struct Journal {
    open: Option<Arc<Open>>,
}

/// A journal for a new run.
pub struct Opened {
    /// The new one; it has what the run before left.
    pub journal: Journal,
    /// What went wrong. With one of them there may be no journal.
    pub problems: Vec<Problem>,
}

/// What went wrong when the journal was opened. The host goes on.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nothing is kept in this run.
    #[error("there is no journal of deliveries: {0}")]
    Absent(#[source] io::Error),
    /// The file of the run before says nothing, or cannot be read.
    #[error("the journal of the run before cannot be used ({reason}); {}", whereabouts(kept_as.as_deref()))]
    Unreadable {
        /// Why.
        reason: String,
        /// Where it is now. `None`: it could not be renamed, and stays where it is.
        kept_as: Option<PathBuf>,
    },
    /// Records that were damaged. They are lost.
    #[error("{0} records of the journal are damaged; their messages are lost")]
    Damaged(usize),
}

/// A message whose turn was not over when its agent, or its host, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// As it was delivered last. The body of a prompt is empty: its start has it.
    pub message: Message,
    /// Deliveries that ended through the agent, so far.
    pub faults: u32,
    /// The crash records of its deliveries, oldest first, at most [`MAX_CRASH_IDS`].
    pub crash_ids: Vec<String>,
    /// Its turn was under way when the process ended.
    pub in_turn: bool,
}

/// What became of a start's prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeptPrompt {
    /// It was never delivered, as far as anybody knows.
    #[default]
    Undelivered,
    /// It was delivered and its turn was not over.
    Open(Kept),
    /// Its turn is over, or it was set aside.
    Done,
}

/// What an earlier run left of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Of the prompt, when the start has the same one.
    pub prompt: KeptPrompt,
    /// Any other message.
    pub mail: Option<Kept>,
}

/// Names a prompt well enough to distinguish it from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptMark(u64);

impl PromptMark {
    /// Of this text.
    pub fn of(prompt: &str) -> Self {
        let length = u64::try_from(prompt.len()).unwrap_or(u64::MAX);
        Self(length << 32 | u64::from(crc32fast::hash(prompt.as_bytes())))
    }
}

/// What a start that takes its agent's slot brings along.
#[derive(Debug, Clone, Copy)]
pub struct Takes {
    /// Its prompt.
    pub prompt: PromptMark,
    /// It goes on with what an earlier run began, so what became of its prompt counts when it is the same.
    pub resumes: bool,
    /// The message that the slot has a record of waits in its mailbox.
    pub adopts_mail: bool,
}

/// The slot of one agent, as one start of it holds it. Written by one task at a time.
pub struct JournalSlot {
    open: Option<Arc<Open>>,
    agent: Option<AgentId>,
    /// `None`: all slots were taken.
    taken: Option<TakenSlot>,
    /// A message of it had no record, and it was reported.
    reported: AtomicBool,
}

#[derive(Clone, Copy)]
struct TakenSlot {
    index: u64,
    /// Which taking of the slot this is: one that somebody else has taken since is not given back.
    taking: u64,
}

struct Open {
    map: Map,
    geometry: Geometry,
    free: FreeSlots,
    bodies: Bodies,
    table: Mutex<Table>,
    untracked: AtomicU64,
}

#[derive(Default)]
struct Table {
    slots: HashMap<AgentId, TakenSlot>,
    /// What the run before left, until somebody asks for it.
    left: HashMap<AgentId, (PromptMark, Left)>,
    /// Of those in `slots`, agents that ended, in this order.
    retired: VecDeque<AgentId>,
    takings: u64,
}

impl Journal {
    /// One that keeps nothing, for a host that has to go on without.
    pub fn absent() -> Self {
        Self { open: None }
    }

    /// The slot of an agent whose start has its turn. Records of starts before it in this run are over, and go; what
    /// an earlier run left stays, until [`JournalSlot::left`] hands it out.
    pub fn take(&self, agent: &AgentId, takes: Takes) -> JournalSlot {
        let Some(open) = &self.open else { return JournalSlot::absent() };
        let Takes { prompt, resumes, adopts_mail } = takes;
        let mut table = open.table.lock();
        table.takings += 1;
        let taking = table.takings;
        let goes_on = match table.left.get_mut(agent) {
            Some((mark, left)) if !resumes || *mark != prompt => {
                (*mark, left.prompt) = (prompt, KeptPrompt::Undelivered);
                false
            }
            left => left.is_some(),
        };
        let has_left = table.left.contains_key(agent);
        table.retired.retain(|retired| retired != agent);
        let index = table.slots.get(agent).map(|taken| taken.index);
        let index = index.or_else(|| open.claim_or_inherit(agent, &mut table));
        let taken = index.map(|index| TakenSlot { index, taking });
        if let Some(taken) = taken {
            table.slots.insert(agent.clone(), taken);
            if !goes_on {
                open.clear(taken.index, Lane::Prompt, Kind::None);
            }
            if !has_left && !adopts_mail {
                open.clear(taken.index, Lane::Mail, Kind::None);
            }
            open.slot(taken.index)[layout::MARK].store(prompt.0, Release);
        }
        drop(table);
        let (open, agent) = (Some(Arc::clone(open)), Some(agent.clone()));
        JournalSlot { open, agent, taken, reported: AtomicBool::new(false) }
    }

    /// Forgets what the run before left of all others: nobody brings them back. Who was started meanwhile keeps it.
    pub fn keep_only(&self, agents: &HashSet<AgentId>) {
        let Some(open) = &self.open else { return };
        let mut table = open.table.lock();
        let Table { slots, left, .. } = &mut *table;
        let is_taken = |agent: &AgentId| slots.get(agent).is_some_and(|taken| taken.taking > 0);
        let is_gone = |agent: &AgentId| !agents.contains(agent) && !is_taken(agent);
        let gone: Vec<_> = left.extract_if(|agent, _| is_gone(agent)).collect();
        for (agent, _) in gone {
            if let Some(taken) = slots.remove(&agent) {
                open.free_slot(taken.index);
            }
        }
    }

    /// Deliveries without a record, because the journal was full.
    pub fn untracked(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.untracked.load(Relaxed))
    }

    /// Waits until the disk has all of it.
    pub fn sync(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |open| open.map.sync())
    }
}

impl JournalSlot {
    /// One that keeps nothing.
    pub fn absent() -> Self {
        Self { open: None, agent: None, taken: None, reported: AtomicBool::new(false) }
    }

    /// What an earlier run left of the agent, to the start that can deliver it: once. Until then it is there for the
    /// start that comes next.
    pub fn left(&self) -> Left {
        let (Some(open), Some(agent)) = (&self.open, &self.agent) else { return Left::default() };
        let left = open.table.lock().left.remove(agent);
        left.map(|(_, left)| left).unwrap_or_default()
    }

    /// A turn for this message begins. `faults` and `crash_ids` are those of the deliveries before it. Says whether
    /// there is a record of it; without one it is counted.
    pub fn delivers(&self, message: &Message, faults: u32, crash_ids: &[String]) -> bool {
        self.write(Kind::Delivered, message, faults, crash_ids)
    }

    /// Whether a message without a record is news: once for each slot, and never where there is no journal.
    pub fn is_first_loss(&self) -> bool {
        self.open.is_some() && !self.reported.swap(true, Relaxed)
    }

    /// The message waits to be delivered again: nothing of it is under way.
    pub fn waits(&self, message: &Message, faults: u32, crash_ids: &[String]) -> bool {
        self.write(Kind::Waits, message, faults, crash_ids)
    }

    /// The message is done with, whatever became of it.
    pub fn is_done(&self, sender: &Sender) {
        let (Some(open), Some(TakenSlot { index, .. })) = (&self.open, self.taken) else { return };
        let (lane, kind) = match sender {
            Sender::Prompt => (Lane::Prompt, Kind::Done),
            _ => (Lane::Mail, Kind::None),
        };
        open.clear(index, lane, kind);
    }

    /// The same, of a message that may have waited for long: does nothing when another start has taken the slot.
    pub fn forgets(&self, sender: &Sender) {
        self.if_last(|_, _, _, _| self.is_done(sender));
    }

    /// The agent is not to be there any more, and the database is about to have that: of its prompt it stays known that
    /// it is done, until [`Self::release`] or until another agent finds no other slot. Does nothing when another start
    /// has taken its slot.
    pub fn retire(&self) {
        self.if_last(|open, table, agent, taken| {
            table.left.remove(agent);
            open.clear(taken.index, Lane::Mail, Kind::None);
            table.retired.push_back(agent.clone());
        });
    }

    /// Nobody takes the agent for a desired one any more. Does nothing when another start has taken its slot.
    pub fn release(&self) {
        self.if_last(|open, table, agent, _| open.give_back(agent, table));
    }

    /// Does something under the lock, unless another start has taken the slot.
    fn if_last(&self, does: impl FnOnce(&Open, &mut Table, &AgentId, TakenSlot)) {
        let (Some(open), Some(agent), Some(taken)) = (&self.open, &self.agent, self.taken) else {
            return;
        };
        let mut table = open.table.lock();
        if table.is_last(agent, taken) {
            does(open, &mut table, agent, taken);
        }
    }

    fn write(&self, kind: Kind, message: &Message, faults: u32, crash_ids: &[String]) -> bool {
        let Some(open) = &self.open else { return false };
        let crash_ids = &crash_ids[crash_ids.len().saturating_sub(MAX_CRASH_IDS)..];
        let write = |taken: TakenSlot| open.write(taken.index, kind, message, faults, crash_ids);
        let written = self.taken.is_some_and(write);
        if !written {
            open.untracked.fetch_add(1, Relaxed);
        }
        written
    }
}

impl Table {
    /// Whether nobody has taken the agent's slot since.
    fn is_last(&self, agent: &AgentId, taken: TakenSlot) -> bool {
        self.slots.get(agent).is_some_and(|there| there.taking == taken.taking)
    }
}

impl Open {
    fn slot(&self, index: u64) -> &[AtomicU64] {
        &self.map.words()[self.geometry.slot_words(index)]
    }

    fn lane(&self, index: u64, lane: Lane) -> lane::Words<'_> {
        lane::Words::of(self.slot(index), lane)
    }

    /// Takes a free slot for an agent.
    fn claim(&self, agent: &AgentId) -> Option<u64> {
        let index = self.free.take()?;
        layout::mark_used(self.map.words(), index + 1);
        // A run that was killed may have left another agent's records in a slot that nobody owns.
        self.clear(index, Lane::Prompt, Kind::None);
        self.clear(index, Lane::Mail, Kind::None);
        layout::write_owner(self.slot(index), agent.as_str());
        Some(index)
    }

    /// The same, or else the slot of the agent that ended first: a message without a record is the greater loss.
    fn claim_or_inherit(&self, agent: &AgentId, table: &mut Table) -> Option<u64> {
        self.claim(agent).or_else(|| {
            let retired = table.retired.front()?.clone();
            self.give_back(&retired, table);
            self.claim(agent)
        })
    }

    fn give_back(&self, agent: &AgentId, table: &mut Table) {
        table.left.remove(agent);
        table.retired.retain(|retired| retired != agent);
        if let Some(taken) = table.slots.remove(agent) {
            self.free_slot(taken.index);
        }
    }

    fn free_slot(&self, index: u64) {
        // The owner last: a kill in between leaves an owner without records, and never records without an owner.
        self.clear(index, Lane::Prompt, Kind::None);
        self.clear(index, Lane::Mail, Kind::None);
        layout::write_owner(self.slot(index), "");
        self.free.give(index);
    }

    fn clear(&self, index: u64, lane: Lane, kind: Kind) {
        let has_blocks = self.lane(index, lane).clear(kind);
        if has_blocks {
            self.bodies.release(index);
        }
    }

    /// Writes a record, if need be without its oldest crash ids. Says whether there is one.
    fn write(
        &self,
        index: u64,
        kind: Kind,
        message: &Message,
        faults: u32,
        crash_ids: &[String],
    ) -> bool {
        let is_prompt = message.sender == Sender::Prompt;
        let written = (0..=crash_ids.len()).any(|oldest| {
            let head = lane::Head::of(message, faults, &crash_ids[oldest..]);
            match is_prompt {
                true => self.lane(index, Lane::Prompt).write(kind, &head, b""),
                false => self.write_mail(index, kind, head, message.body.as_bytes()),
            }
        });
        if !written && !is_prompt {
            // What it has is about another message, and that one is done with.
            self.clear(index, Lane::Mail, Kind::None);
            self.bodies.release(index);
        }
        written
    }

    /// Writes a record, with its body in the slot or in blocks. One that finds no room leaves the record before it.
    fn write_mail(&self, index: u64, kind: Kind, head: lane::Head<'_>, body: &[u8]) -> bool {
        let lane = self.lane(index, Lane::Mail);
        if lane.write(kind, &head, body) {
            self.bodies.release(index);
            return true;
        }
        let id = head.id.clone();
        let Some(blocks) = self.bodies.keep(self.map.words(), index, &id, body) else {
            return false;
        };
        let written = lane.write(kind, &head.with_blocks(&blocks.indexes, blocks.sum), b"");
        if written {
            self.bodies.release_before(index);
        }
        written
    }
}
