//! What an agent remembers over its incarnations: taking it, and giving it back.
//!
//! ```text
//!   turn ─▶ dirty ── debounce ─▶ snapshot ─▶ database          stop, drain, idle: at once, if dirty
//!             ▲                     │
//!             └── after a while ◀───┴── refused: no room in the queue, or the guest gave none
//!
//!   instantiate ─▶ newest snapshot ─▶ restore ─▶ start ─▶ first turn done: proven
//!                        ▲                │        │
//!                        │                └────────┴── fails: of code that works with it, counted; the second time
//!                        └── the one before it ◀────── it is set aside. Of other code: it stays
//! ```
//!
//! A turn counts as kept when its snapshot is in the hands of the database, and not before. The database keeps
//! what it took until there is a disk that takes it.

mod attempt;
mod lineage;
pub(super) mod state;

use std::sync::Arc;
use std::time::Duration;

use bulkhead_log::now;
use bulkhead_runtime::CallLimits;
use bulkhead_store::database::{Kept, Newest, Snapshot, SnapshotRefused};
use bulkhead_types::event::SnapshotNotKept;
use bulkhead_types::time::micros;
use bulkhead_types::{Event, Exit, ExitClass, ExitReason, Input, Next, Phase, Timestamp};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::base::Actor;
use super::drive::{Driven, OnStop, drive, next_order, stop_ordered};
use super::step::{Step, answer, failed};
use crate::durable::{WRITING, shipped};
use crate::engine::{BoxInstance, CallEnd};
use crate::mailbox::Envelope;
use crate::refusal::{FinishedTurn, TurnReport};
use attempt::{Attempt, NotKept};
use lineage::Lineage;
use state::Restored;

/// Failures of the guest with one snapshot, before its first turn is done, after which it is set aside.
const MAX_FAILURES: u32 = 2;

/// Snapshots that are checked in one start.
const MAX_LOOKS: usize = 4;

/// Longest time of one snapshot while the agent works.
pub(super) const TAKING: Duration = Duration::from_secs(10);

/// Snapshots that are tried at the end of an incarnation, as long as the database has no room.
const LAST_TRIES: usize = 4;

/// A disk that had less than this for a snapshot is not to blame.
const SLOW_DISK: Duration = Duration::from_millis(500);

/// The end of a start whose deadline passed while the newest snapshot was looked for: who is to blame, the deadline or the
/// disk, which had most of the time that such a start has.
fn unread(waited: Duration, patience: Duration, usual: Duration) -> Exit {
    let limit_ms = patience.as_millis();
    let (reason, text) = match waited < SLOW_DISK.min(usual / 2) {
        true => (
            ExitReason::StartFailed,
            format!(
                "did not start within {limit_ms} ms: the deadline passed before its snapshot was read"
            ),
        ),
        false => (
            ExitReason::HostError,
            format!(
                "the agent's snapshot could not be read within the {limit_ms} ms of the start: the disk of the \
                 database does not answer"
            ),
        ),
    };
    Exit::new(reason, Phase::Restore, text)
}

/// What a look for the newest snapshot found.
#[derive(Default)]
struct Lookup {
    /// What to restore from.
    kept: Option<Kept>,
    /// What the next snapshots follow from.
    lineage: Lineage,
}

impl Actor<'_> {
    /// A turn is done: there is something new to keep, and the snapshot of the beginning did no harm.
    pub(super) fn remember_turn(&mut self) {
        if self.keeps_snapshots() {
            self.snapshots.dirty_since.get_or_insert_with(Instant::now);
        }
        if let (Some(restored), Some(code)) =
            (self.snapshots.unproven.take(), self.state.start.code())
            && restored.is_news_to(code)
        {
            self.container.database.prove_snapshot(restored.generation, code);
        }
    }

    /// When the next snapshot is due, if one is.
    pub(super) fn snapshot_due(&self) -> Option<Instant> {
        let rules = &self.state.start.spec.snapshots;
        let since = self.snapshots.dirty_since.filter(|_| rules.when.after_turns())?;
        Some(self.snapshots.attempts.due(since + rules.debounce))
    }

    /// Takes a snapshot when one is due.
    pub(super) async fn snapshot_if_due(&mut self, instance: BoxInstance) -> Step<()> {
        match self.snapshot_due() {
            Some(due) if Instant::now() >= due => {
                let (instance, _) = self.take_snapshot(instance, TAKING).await?;
                Ok((instance, ()))
            }
            _ => Ok((instance, ())),
        }
    }

    /// Whether somebody waits for this turn who is answered when its snapshot is shipped.
    pub(super) fn ships_turn(&self, envelope: &Envelope) -> bool {
        let is_waited_for = envelope.report.as_ref().is_some_and(|report| !report.is_closed());
        is_waited_for && self.state.start.spec.snapshots.ships_turns
    }

    /// Takes the snapshot of a turn at once, and has its sender answered when that is shipped, or is not in time. The agent
    /// does not wait for it.
    pub(super) async fn answer_shipped(
        &mut self,
        instance: BoxInstance,
        mut envelope: Envelope,
        mut finished: FinishedTurn,
    ) -> Step<()> {
        let (instance, attempt) = match self.take_snapshot(instance, TAKING).await {
            Ok(taken) => taken,
            Err(ended) => {
                answer(&mut envelope, TurnReport::Finished(finished));
                return Err(ended);
            }
        };
        if attempt != Attempt::Kept {
            answer(&mut envelope, TurnReport::Finished(finished));
            return Ok((instance, ()));
        }
        let database = Arc::clone(&self.container.database);
        let name = format!("answer of {} when it is shipped", envelope.message.id);
        self.container.spawner().spawn_infallible(name, async move {
            finished.durable = shipped(&database).await;
            answer(&mut envelope, TurnReport::Finished(finished));
        });
        Ok((instance, ()))
    }

    /// Takes the last snapshot of an incarnation, for at most this long, if there is anything new. Waits in that
    /// time for room in the queue of the database. Yields what came of it.
    pub(super) async fn last_snapshot(
        &mut self,
        mut instance: BoxInstance,
        time: Duration,
    ) -> Step<Attempt> {
        let until = Instant::now() + time;
        let mut last = self.snapshots.last_attempt;
        for _ in 0..LAST_TRIES {
            let left = until.saturating_duration_since(Instant::now());
            if self.snapshots.dirty_since.is_none() || left.is_zero() {
                break;
            }
            (instance, last) = self.take_snapshot(instance, left).await?;
            if last != Attempt::NoRoom || !self.is_room_by(until).await {
                break;
            }
        }
        Ok((instance, last))
    }

    /// Waits until the database has written what it has. `false`: not in this time, or there is no grace left.
    async fn is_room_by(&mut self, until: Instant) -> bool {
        let written = self.container.database.receipt().durable();
        let ordered = self.stop.borrow().is_some();
        tokio::select! {
            biased;
            written = timeout_at(until, written) => written.is_ok(),
            order = next_order(&mut self.stop, ordered) => !order.now,
        }
    }

    /// New code came through a turn. It is proven when what it remembers can be kept as well, where its role keeps it:
    /// otherwise no other code could ever follow it.
    pub(super) async fn prove(&mut self, instance: BoxInstance, next: Next) -> Step<()> {
        let mut instance = instance;
        if self.state.start.upgrade.is_on_trial() && next != Next::Done {
            let attempt;
            (instance, attempt) = self.last_snapshot(instance, TAKING).await?;
            if attempt == Attempt::NoRoom {
                // The host's affair: the next turn proves it.
                return Ok((instance, ()));
            }
            // Another order may have come meanwhile, and then nothing is left to go back to.
            let why_not = attempt.why_not().filter(|_| self.state.start.upgrade.is_on_trial());
            if let Some(why) = why_not {
                let text = format!("its state could not be kept: {why}");
                let mut exit = Exit::new(ExitReason::GuestError, Phase::Snapshot, text);
                exit.code = Some(NOT_KEPT.into());
                return Err(exit.into());
            }
        }
        self.state.start.upgrade.is_proven();
        Ok((instance, ()))
    }

    /// The work is over: there is nothing to resume.
    pub(super) fn forget_state(&mut self) {
        if self.keeps_snapshots() {
            self.keep(Arc::default(), digest(&[]));
        }
    }

    fn keeps_snapshots(&self) -> bool {
        self.state.start.spec.snapshots.when.at_the_end()
    }

    async fn take_snapshot(&mut self, instance: BoxInstance, time: Duration) -> Step<Attempt> {
        let limits = &self.state.start.spec.limits;
        let wall = time.min(limits.wall);
        let limits = CallLimits { cpu: limits.cpu.min(wall), wall, host_call: limits.host_call };
        self.mark_in_flight(Phase::Snapshot.as_str(), None);
        let call = instance.snapshot(limits);
        let is_ordered = self.stop.borrow().is_some();
        let on_stop = if is_ordered { OnStop::OnlyNow } else { OnStop::Grace };
        let Driven { end, .. } = drive(call, &mut self.stop, on_stop, |_| {}).await;
        self.clear_in_flight();
        let (instance, attempt) = match end {
            CallEnd::Returned(instance, Ok(snapshot)) => {
                let attempt = self.keep_taken((*snapshot).as_ref()).await;
                (instance, attempt)
            }
            CallEnd::Returned(_, Err(failure)) if failure.fatal => {
                return Err(failed(failure, Phase::Snapshot).into());
            }
            CallEnd::Returned(instance, Err(failure)) => {
                let (code, message) = (failure.code, failure.message);
                self.is_not_kept(NotKept { code, message, size: None });
                (instance, Attempt::NotGiven)
            }
            CallEnd::Ended(exit, remains) => return Err((exit, remains).into()),
        };
        self.snapshots.last_attempt = attempt;
        if self.snapshots.attempts.is_settled_by(attempt, Instant::now(), fastrand::f64()) {
            self.snapshots.dirty_since = None;
        }
        Ok((instance, attempt))
    }

    async fn keep_taken(&mut self, bytes: &[u8]) -> Attempt {
        let max_bytes = self.state.start.spec.snapshots.max_bytes;
        if bytes.len() > max_bytes {
            let bytes = bytes.len();
            let message = format!(
                "the snapshot has {bytes} bytes, and the role's limit is {max_bytes} (snapshot_kb)"
            );
            let code = TOO_LARGE.to_owned();
            self.is_not_kept(NotKept { code, message, size: Some((bytes, max_bytes)) });
            return Attempt::TooLarge;
        }
        let bytes: Arc<[u8]> = bytes.into();
        let digest = digest_of(&bytes).await;
        self.keep(bytes, digest)
    }

    fn keep(&mut self, bytes: Arc<[u8]>, digest: [u8; 32]) -> Attempt {
        if self.snapshots.last == Some(digest) {
            self.snapshots.not_kept = None;
            return Attempt::Kept;
        }
        let snapshot = Snapshot {
            agent: self.state.id().clone(),
            incarnation: self.number(),
            taken_at: self.snapshots.lineage.next(now()),
            code: self.state.start.code(),
            bytes,
        };
        match self.container.database.keep_snapshot(snapshot) {
            Ok(_) => {
                (self.snapshots.last, self.snapshots.not_kept) = (Some(digest), None);
                Attempt::Kept
            }
            Err(error) => {
                let (attempt, code, size) = match &error {
                    SnapshotRefused::TooLarge { bytes, max_bytes } => {
                        (Attempt::TooLarge, TOO_LARGE, Some((*bytes, *max_bytes)))
                    }
                    SnapshotRefused::Full => (Attempt::NoRoom, NO_ROOM, None),
                };
                let message = error.to_string();
                self.is_not_kept(NotKept { code: code.to_owned(), message, size });
                attempt
            }
        }
    }

    /// Says why the state is not kept, unless that was the last that was said about it.
    fn is_not_kept(&mut self, why: NotKept) {
        if self.snapshots.not_kept.as_ref().is_some_and(|before| why.is_like(before)) {
            return;
        }
        let NotKept { code, message, size } = why.clone();
        self.snapshots.not_kept = Some(why);
        self.state.publish(Event::SnapshotNotKept(SnapshotNotKept {
            agent: self.state.tag(),
            code,
            message: self.reporter.affordable(message),
            bytes: size.map(|(bytes, _)| bytes),
            limit_bytes: size.map(|(_, limit)| limit),
        }));
    }

    /// Gives the agent what an earlier incarnation of it kept. Says whether there was anything.
    pub(super) async fn restore(&mut self, instance: BoxInstance) -> Step<bool> {
        if !self.keeps_snapshots() || instance.is_command() {
            return Ok((instance, false));
        }
        let began = Instant::now();
        let Lookup { kept, lineage } = self.find_snapshot().await?;
        self.snapshots.lineage = lineage;
        let Some(kept) = kept else { return Ok((instance, false)) };
        self.snapshots.unproven = Some(Restored::from(&kept));
        self.mark_in_flight(Phase::Restore.as_str(), None);
        let call = instance.restore(kept.snapshot.bytes.to_vec(), self.start_limits());
        let (instance, ()) = self.begin(call, Phase::Restore).await?;
        self.timings.restore_us = micros(began.elapsed());
        Ok((instance, true))
    }

    /// Looks for the newest snapshot within the deadline of the start, and hears a stop meanwhile: a disk that
    /// does not answer holds up neither.
    async fn find_snapshot(&mut self) -> Result<Lookup, Exit> {
        let mut stop = self.stop.clone();
        let began = Instant::now();
        tokio::select! {
            biased;
            _ = stop_ordered(&mut stop) => {}
            lookup = self.newest_snapshot() => return lookup,
            () = sleep_until(self.deadline) => {
                let usual = self.state.start.spec.limits.start;
                return Err(unread(began.elapsed(), self.patience, usual));
            }
        }
        self.state.publisher.transition(Input::StopRequested);
        Err(self.stopped_at_start(Phase::Restore))
    }

    /// The newest snapshot that may be believed. Those that may not are set aside on the way. One that cannot be read
    /// ends the start: what would begin without it would overwrite it.
    async fn newest_snapshot(&self) -> Result<Lookup, Exit> {
        let mut lookup = Lookup::default();
        for _ in 0..MAX_LOOKS {
            // What the incarnation before wrote about it counts.
            let written = self.container.database.receipt().durable();
            let _ = timeout(WRITING, written).await;
            match self.container.read_snapshot(self.state.id()).await {
                Ok(Newest::Kept(kept)) => {
                    // What follows is newer than this one, also if it is not restored from.
                    lookup.lineage.follows(kept.snapshot.taken_at);
                    if kept.failures < MAX_FAILURES {
                        lookup.kept = Some(kept).filter(|kept| !kept.snapshot.bytes.is_empty());
                        return Ok(lookup);
                    }
                    self.set_aside(&Restored::from(&kept), FAILED);
                }
                Ok(Newest::Rotten { generation }) => {
                    let (taken_at, code) = (Timestamp(0), None);
                    self.set_aside(
                        &Restored { generation, failures: 0, taken_at, bytes: 0, code },
                        ROTTEN,
                    );
                }
                Ok(Newest::None) => return Ok(lookup),
                Err(error) => {
                    let text = format!("the agent's snapshot could not be read: {error}");
                    return Err(Exit::new(ExitReason::HostError, Phase::Restore, text));
                }
            }
        }
        Ok(lookup)
    }

    /// An incarnation ended before its first turn was done: its snapshot may be what it died of, if its code has worked
    /// with it before.
    pub(super) fn blame_snapshot(&mut self, exit: &Exit) {
        let Some(mut restored) = self.snapshots.unproven.take() else { return };
        if exit.reason.class() != ExitClass::Fault || self.state.start.upgrade.is_on_trial() {
            return;
        }
        if !restored.is_judged_by(self.state.start.code()) {
            let (agent, generation) = (self.state.id(), restored.generation);
            tracing::warn!(
                %agent,
                generation,
                "{agent} failed with a snapshot that its code has not worked with yet: the snapshot stays as it is"
            );
            return;
        }
        restored.failures += 1;
        self.container.database.count_snapshot_failure(restored.generation);
        if restored.failures >= MAX_FAILURES {
            self.set_aside(&restored, FAILED);
        }
    }

    fn set_aside(&self, restored: &Restored, reason: &'static str) {
        self.container.database.set_snapshot_aside(restored.generation, reason);
        self.state.publish(Event::SnapshotSetAside {
            agent: self.state.tag(),
            generation: restored.generation,
            taken_at: restored.taken_at,
            bytes: restored.bytes,
            failures: restored.failures,
            reason,
        });
    }
}

/// Bytes that are digested on the fast lane: some tens of microseconds.
const DIGESTED_HERE: usize = 64 * 1024;

/// The digest of a snapshot. Other agents do not wait for that of a large one.
async fn digest_of(bytes: &Arc<[u8]>) -> [u8; 32] {
    if bytes.len() <= DIGESTED_HERE {
        return digest(bytes);
    }
    let for_thread = Arc::clone(bytes);
    let digested = tokio::task::spawn_blocking(move || digest(&for_thread)).await;
    // The thread can only fail with the host, which ends then.
    digested.unwrap_or_else(|_| digest(bytes))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Why a snapshot is not kept, beside what agents say themselves.
const TOO_LARGE: &str = "too-large";
const NO_ROOM: &str = "no-room";

/// Code of the end of new code whose state is not kept.
const NOT_KEPT: &str = "state-not-kept";

/// Why a snapshot is set aside.
const FAILED: &str = "the agent failed with it before its first turn was done";
const ROTTEN: &str = "its bytes are not those that were written";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_leaves_no_time_for_a_snapshot_is_not_blamed_on_the_disk() {
        let ms = Duration::from_millis;
        for (waited, patience, usual, reason) in [
            (ms(0), ms(1), ms(30_000), ExitReason::StartFailed),
            (ms(1), ms(30_000), ms(30_000), ExitReason::StartFailed),
            (ms(650), ms(700), ms(30_000), ExitReason::HostError),
            // A role that starts fast.
            (ms(90), ms(100), ms(100), ExitReason::HostError),
            (ms(9), ms(100), ms(100), ExitReason::StartFailed),
        ] {
            let exit = unread(waited, patience, usual);
            assert_eq!((exit.reason, exit.phase), (reason, Phase::Restore), "{waited:?}");
            assert!(exit.message.contains(&format!("{} ms", patience.as_millis())), "{exit:?}");
        }
    }
}
