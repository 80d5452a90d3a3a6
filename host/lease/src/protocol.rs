//! The protocol: what a process does next, and what it may believe. Pure: no I/O, no clock, no lock.
//!
//! ```text
//!              absent, released, or            written, or read back
//!              unchanged for TTL + margin      before the fence
//!   watching ───────────────▶ asking ──────────────────────▶ holding ──┐ renewed
//!      ▲  ▲                     │                             │   │  ▲  │ before the fence
//!      │  └── another was first ┘                             │   │  └──┘
//!      └───────────── not renewed at the fence, or taken ─────┘   └──▶ released
//! ```
//!
//! The register holds one [`Record`]. It is written only on the condition that it has the [`Version`] that was read last,
//! so writes have one order. Each process has a clock of its own, [`Boottime`], that is compared with no other clock:
//!
//! - What a holder believes counts from the instant before it *sent* the write.
//! - What another waits for counts from the instant after it *saw* the record, and a renewal starts it again.
//!
//! So the belief begins before the write and the wait after it, and the wait is longer by a margin for clocks of unequal
//! speed. `tests/lease-model` runs this file, and broken versions of it, through all interleavings of small worlds.

use std::sync::Arc;
use std::time::Duration;

/// Nanoseconds of `CLOCK_BOOTTIME`: it never goes back, is never set, and goes on while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Boottime(pub u64);

impl Boottime {
    /// So much later. It ends at 584 years.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` it is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The fence, in hundredths of the TTL after a renewal was sent: the work of a holder that was not renewed ends here. The
/// rest of the TTL is for work that does not end by itself.
const FENCE_PERCENT: u32 = 70;
/// A renewal is sent after so many hundredths of the TTL. Until the fence there is room for three more tries.
const RENEW_PERCENT: u32 = 30;
/// What others wait beyond the TTL, in hundredths of it. Two clocks of which one is slow and the other fast by 2.4 % each
/// differ by so much; the kernel corrects a clock by 0.05 % at most.
const MARGIN_PERCENT: u32 = 5;
/// What a process leaves a lease to others that it [gave back](Protocol::yields) to them, in hundredths of the TTL. Who waits reads it
/// a dozen times meanwhile.
const YIELD_PERCENT: u32 = 30;
/// Between two reads of what another holds, and before a try again, in thousandths of the TTL.
const PAUSE_PERMILLE: u32 = 25;
/// What a request may take, in hundredths of the TTL.
const REQUEST_PERCENT: u32 = 10;
/// Writes without an answer that are remembered. Of one more the oldest is forgotten: should that one have been written,
/// the lease is lost.
const MAX_ATTEMPTS: usize = 4;

fn percent(of: Duration, percent: u32) -> Duration {
    of * percent / 100
}

/// How long one request of the register may take, of a lease with this TTL.
pub fn request_patience(ttl: Duration) -> Duration {
    percent(ttl, REQUEST_PERCENT)
}

/// How long a record has to stay as it is before another process may take the lease.
pub fn takeover_after(ttl: Duration) -> Duration {
    ttl + percent(ttl, MARGIN_PERCENT)
}

/// Names one content of the register, in the words of the register. None is used twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub Arc<str>);

/// What the register holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// Which process holds the lease, or held it last.
    pub holder: Arc<str>,
    /// Where that process is reached. Empty: it does not say.
    pub endpoint: Arc<str>,
    /// Number of the acquisition, from 1. It grows by at least one with each, and no number is used twice.
    pub epoch: u64,
    /// Number of the write within the epoch.
    pub counter: u64,
    /// How long the holder may believe in a write of it.
    pub ttl: Duration,
    /// Of one write alone: random.
    pub nonce: u128,
    /// The holder gave it back: the next one need not wait.
    pub released: bool,
}

/// The right to act for a town, until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permit {
    /// Goes with everything that leaves the machine; who receives it refuses older ones. See [`Gate`].
    pub epoch: u64,
    /// 70 % of the TTL after the renewal was sent. From here on nothing may begin, and what runs has to end.
    pub fence_at: Boottime,
    /// The whole TTL. From here on nothing may run: another process may hold the lease.
    pub until: Boottime,
}

impl Permit {
    /// Whether work may begin.
    pub fn is_valid(&self, now: Boottime) -> bool {
        now < self.fence_at
    }

    /// Whether anything may still run.
    pub fn is_live(&self, now: Boottime) -> bool {
        now < self.until
    }
}

/// The check of who receives what holders send: an older epoch is refused after a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Gate {
    newest: u64,
}

impl Gate {
    /// Begins with an epoch that is known.
    pub fn new(newest: u64) -> Self {
        Self { newest }
    }

    /// Whether something with this epoch counts.
    pub fn admit(&mut self, epoch: u64) -> bool {
        let admitted = epoch >= self.newest;
        self.newest = self.newest.max(epoch);
        admitted
    }

    /// The newest epoch that was seen.
    pub fn newest(&self) -> u64 {
        self.newest
    }
}

/// Who asks for the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Names the process for people. It is no proof: two with one name exclude each other like any two.
    pub holder: Arc<str>,
    /// Where it is reached, for people and for what routes requests. May be empty.
    pub endpoint: Arc<str>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the register, and report by [`Protocol::read`].
    Read,
    /// Write the record if the register has the expected version (`None`: if it has no record), and report by
    /// [`Protocol::wrote`].
    Write {
        /// What has to be there.
        expected: Option<Version>,
        /// What comes in its place.
        record: Record,
    },
    /// Nothing before this moment.
    Wait(Boottime),
    /// The lease is given back, or was not held.
    Released,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wrote {
    /// It is in the register, in this version.
    Written(Version),
    /// The register had another version, or it is not known.
    Unclear,
}

/// Why a lease is not held any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lost {
    /// The fence was reached without a renewal.
    Expired,
    /// The register has the record of another process.
    Taken {
        /// Whose.
        holder: Arc<str>,
        /// Its epoch.
        epoch: u64,
    },
    /// The register has no record, or one of ours that is older: it was removed or restored.
    Forgotten,
}

/// What the register had when it was read last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    content: Option<(Version, Record)>,
    /// After it was seen for the first time.
    since: Boottime,
    /// After it was seen last.
    checked_at: Boottime,
}

/// A write without an answer. It may still arrive at the register, if that has the version on which it depends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Attempt {
    record: Record,
    /// Before it was sent.
    asked_at: Boottime,
}

/// The lease, as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Holding {
    record: Record,
    asked_at: Boottime,
}

/// One process and one lease. All moments are of one clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Protocol {
    me: Identity,
    ttl: Duration,
    /// The highest epoch that this process knows of.
    floor: u64,
    seen: Option<Seen>,
    /// The register may have changed.
    must_read: bool,
    attempts: Vec<Attempt>,
    holding: Option<Holding>,
    lost: Option<Lost>,
    releasing: bool,
    /// The epoch that was given back for others to take.
    yields: Option<u64>,
    /// The last request failed: the next one waits.
    not_before: Boottime,
}

impl Protocol {
    /// Epochs begin above `floor`: the highest one that is known from elsewhere, or 0. It matters only where the register
    /// forgot.
    pub fn new(me: Identity, ttl: Duration, floor: u64) -> Self {
        Self {
            me,
            ttl,
            floor,
            seen: None,
            must_read: false,
            attempts: Vec::new(),
            holding: None,
            lost: None,
            releasing: false,
            yields: None,
            not_before: Boottime(0),
        }
    }

    /// The permit, whether or not its time is over.
    pub fn permit(&self) -> Option<Permit> {
        self.holding.as_ref().filter(|_| !self.releasing).map(|holding| Permit {
            epoch: holding.record.epoch,
            fence_at: holding.asked_at.after(percent(self.ttl, FENCE_PERCENT)),
            until: holding.asked_at.after(self.ttl),
        })
    }

    /// What the register had when it was read last. `None`: it was not read, or has no record.
    pub fn record(&self) -> Option<&Record> {
        self.seen.as_ref()?.content.as_ref().map(|(_, record)| record)
    }

    /// When this process may ask for the lease, if the register stays as it was read last. `None`: at once, or it was not
    /// read yet.
    pub fn free_at(&self) -> Option<Boottime> {
        let seen = self.seen.as_ref()?;
        match &seen.content {
            Some((_, record)) if !record.released => {
                Some(seen.since.after(takeover_after(record.ttl)))
            }
            Some((_, record)) if self.yields == Some(record.epoch) => {
                Some(seen.since.after(percent(record.ttl, YIELD_PERCENT)))
            }
            // Somebody removed it, and a holder learns that by its next renewal. Its TTL is gone with it, and
            // is the same for all copies of a town.
            None if self.floor > 0 => Some(seen.since.after(takeover_after(self.ttl))),
            _ => None,
        }
    }

    /// The highest epoch that is known.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Why the lease was lost, once.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.lost.take()
    }

    /// Gives the lease back. There is no permit from here on. Nothing that needs one may run.
    pub fn release(&mut self) {
        self.releasing = true;
    }

    /// This process gave the lease of this epoch back so that another one takes it. It asks for it again only when nobody does.
    pub fn yields(&mut self, epoch: u64) {
        self.yields = Some(epoch);
    }

    /// Asks for the lease again, after it was given back.
    pub fn resume(&mut self) {
        self.releasing = false;
    }

    /// What to do at this moment. `nonce` is a new random number, for a write. Not while a request is under way.
    pub fn step(&mut self, now: Boottime, nonce: u128) -> Step {
        self.fence(now);
        if self.releasing && self.holding.is_none() && self.attempts.is_empty() {
            return Step::Released;
        }
        if now < self.not_before {
            return self.wait(self.not_before);
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.must_read) else {
            return Step::Read;
        };
        match (&self.holding, self.releasing) {
            (Some(holding), true) => {
                let record = Record { released: true, ..self.next_of(&holding.record, nonce) };
                self.write(now, record)
            }
            (Some(holding), false) => {
                let due = holding.asked_at.after(percent(self.ttl, RENEW_PERCENT));
                if now < due {
                    return self.wait(due);
                }
                let record = self.next_of(&holding.record, nonce);
                self.write(now, record)
            }
            // What was asked for has not arrived, and may yet: others wait for it as for one that died.
            (None, true) => {
                self.attempts.clear();
                Step::Released
            }
            (None, false) => {
                let free_at = self.free_at().unwrap_or(now);
                if now >= free_at {
                    let record = self.acquisition(nonce);
                    return self.write(now, record);
                }
                let next_read = seen.checked_at.after(self.pause());
                if now >= next_read { Step::Read } else { Step::Wait(next_read.min(free_at)) }
            }
        }
    }

    /// Reports what [`Step::Read`] found; `None`: no answer.
    pub fn read(&mut self, now: Boottime, found: Option<Option<(Version, Record)>>) {
        self.fence(now);
        let Some(content) = found else {
            self.not_before = now.after(self.pause());
            return;
        };
        self.must_read = false;
        let was = self.seen.as_ref().map(|seen| &seen.content);
        if was == Some(&content) {
            if let Some(seen) = &mut self.seen {
                seen.checked_at = now;
            }
            // What was not written is written again, but not without a pause.
            if !self.attempts.is_empty() {
                self.not_before = now.after(self.pause());
            }
        } else {
            self.found(now, content);
        }
        self.fence(now);
    }

    /// Reports what became of [`Step::Write`].
    pub fn wrote(&mut self, now: Boottime, wrote: Wrote) {
        self.fence(now);
        match (wrote, self.attempts.last()) {
            (Wrote::Written(version), Some(attempt)) => {
                let record = attempt.record.clone();
                self.found(now, Some((version, record)));
            }
            _ => self.must_read = true,
        }
        self.fence(now);
    }

    /// The register has something else than before: a write of ours, or that of another.
    fn found(&mut self, now: Boottime, content: Option<(Version, Record)>) {
        let attempts = std::mem::take(&mut self.attempts);
        let record = content.as_ref().map(|(_, record)| record);
        self.floor = self.floor.max(record.map_or(0, |record| record.epoch));
        let ours = attempts.into_iter().find(|attempt| Some(&attempt.record) == record);
        if let Some(Attempt { record, asked_at }) = ours {
            self.holding = (!record.released).then_some(Holding { record, asked_at });
        } else if self.holding.as_ref().is_some_and(|holding| Some(&holding.record) != record) {
            self.lose(match record {
                Some(Record { holder, epoch, .. }) if Some(*epoch) > self.held_epoch() => {
                    Lost::Taken { holder: Arc::clone(holder), epoch: *epoch }
                }
                _ => Lost::Forgotten,
            });
        }
        self.seen = Some(Seen { content, since: now, checked_at: now });
    }

    fn held_epoch(&self) -> Option<u64> {
        self.holding.as_ref().map(|holding| holding.record.epoch)
    }

    /// A permit whose fence is reached is gone, and does not come again: neither by a renewal whose answer comes later.
    fn fence(&mut self, now: Boottime) {
        if self.permit().is_some_and(|permit| !permit.is_valid(now)) {
            self.lose(Lost::Expired);
        }
    }

    fn lose(&mut self, why: Lost) {
        self.holding = None;
        self.attempts.clear();
        self.lost = Some(why);
    }

    fn wait(&self, until: Boottime) -> Step {
        Step::Wait(match self.permit() {
            Some(permit) => until.min(permit.fence_at),
            None => until,
        })
    }

    fn write(&mut self, now: Boottime, record: Record) -> Step {
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(Attempt { record: record.clone(), asked_at: now });
        let content = self.seen.as_ref().and_then(|seen| seen.content.as_ref());
        Step::Write { expected: content.map(|(version, _)| version.clone()), record }
    }

    fn acquisition(&self, nonce: u128) -> Record {
        Record {
            holder: Arc::clone(&self.me.holder),
            endpoint: Arc::clone(&self.me.endpoint),
            epoch: self.floor + 1,
            counter: 0,
            ttl: self.ttl,
            nonce,
            released: false,
        }
    }

    fn next_of(&self, record: &Record, nonce: u128) -> Record {
        Record { counter: record.counter + 1, nonce, ..record.clone() }
    }

    fn pause(&self) -> Duration {
        self.ttl * PAUSE_PERMILLE / 1000
    }
}

#[cfg(test)]
mod tests;
