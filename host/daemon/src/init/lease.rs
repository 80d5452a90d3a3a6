//! The lease as the init process knows it: what the keeper says of it, and until when that counts.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::child::Program;
use super::permit::{KeeperMessage, KeeperOrder, LeasePermit};
use super::signals::{self, SignalEvent, Signals};
use super::voice::Voice;

/// Between two keepers.
const AGAIN: Duration = Duration::from_secs(1);

/// The same after one that cannot hold a lease which was held before: somebody may be repairing what is wrong.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// A keeper that says nothing for so long, when it has to, hangs.
const HANGS: Duration = Duration::from_secs(2);

/// A keeper has so long to give the lease back, at least, and at most: to the fence in between.
const GIVING_BACK: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// How long at most nobody looks at the clock. The clock of a wait stands still while the machine sleeps.
const LOOK: Duration = Duration::from_millis(250);

/// The lease of this host's town.
pub struct TownLease {
    program: Program,
    keeper: Option<Keeper>,
    /// When there may be a keeper.
    not_before: Instant,
    permit: Option<LeasePermit>,
    /// The highest epoch that anybody held.
    floor: u64,
    was_held: bool,
    /// The epoch that was given back for another copy to take, or 0.
    yields: u64,
    /// What was said last of waiting for it.
    said: String,
    refused: Option<String>,
}

struct Keeper {
    pid: Pid,
    words: PipeReader,
    /// Held as long as the lease is wanted.
    stdin: PipeWriter,
    /// The beginning of a line.
    begun: Vec<u8>,
    /// It said that it holds the lease.
    holds: bool,
    /// Since when it should have said something, or be gone.
    owes_since: Option<Instant>,
}

impl TownLease {
    pub fn new() -> Self {
        Self {
            program: Program::this(),
            keeper: None,
            not_before: Instant::now(),
            permit: None,
            floor: 0,
            was_held: false,
            yields: 0,
            said: String::new(),
            refused: None,
        }
    }

    /// Starts a keeper if there is none, and ends one that hangs. To be called on the main thread: a keeper ends with the thread
    /// that started it.
    pub fn keep(&mut self, voice: &Voice) {
        if let Some(keeper) = &mut self.keeper {
            // One that took the place of another holds nothing, and may wait for long.
            let is_silent = keeper.holds && self.permit.is_some_and(LeasePermit::is_over);
            if is_silent {
                keeper.owes_since.get_or_insert_with(Instant::now);
            }
            if keeper.owes_since.is_some_and(|since| since.elapsed() > HANGS) {
                voice.print("the keeper of the lease hangs, and is replaced");
                let _ = kill_process(keeper.pid, Signal::KILL);
                self.keeper = None;
                self.permit = None;
            }
            return;
        }
        if Instant::now() < self.not_before {
            return;
        }
        self.not_before = Instant::now() + AGAIN;
        self.refused = None;
        let order = KeeperOrder {
            init_pid: std::process::id(),
            floor: self.floor,
            permit_until: self.permit().map_or(0, |permit| permit.fence_at),
            yields: self.yields,
        };
        match self.program.spawn_keeper(order) {
            Ok((pid, words, stdin)) => {
                let (begun, holds, owes_since) = (Vec::new(), false, None);
                self.keeper = Some(Keeper { pid, words, stdin, begun, holds, owes_since });
            }
            Err(error) => voice.print(&format!("cannot start the keeper of the lease: {error}")),
        }
    }

    /// Takes what the keeper said. Returns a permit that is newer than the one before.
    pub fn hear(&mut self, voice: &Voice) -> Option<LeasePermit> {
        let before = self.permit;
        let (messages, is_gone) = self.keeper.as_mut().map(Keeper::messages).unwrap_or_default();
        let (mut has_reason, mut holds) = (false, false);
        for message in messages {
            match message {
                KeeperMessage::Held { epoch, fence_at } => {
                    if self.floor < epoch || self.permit.is_none() {
                        voice.print(&format!(
                            "this host holds the lease of the town, epoch {epoch}"
                        ));
                    }
                    self.said.clear();
                    self.floor = self.floor.max(epoch);
                    self.was_held = true;
                    self.permit = Some(LeasePermit { epoch, fence_at });
                    holds = true;
                }
                KeeperMessage::Waiting { holder, epoch, failing } => {
                    self.floor = self.floor.max(epoch);
                    // While a supervisor runs it is for what an earlier keeper held.
                    if self.permit().is_none() {
                        self.wait_for(holder, failing, voice);
                    }
                }
                KeeperMessage::Lost { why } => {
                    has_reason = true;
                    self.permit = None;
                    voice.print(&format!("the lease of the town is lost: {why}"));
                }
                KeeperMessage::Unheard { why } => {
                    voice.print(&format!(
                        "probes are not answered during the wait for the lease: {why}"
                    ));
                }
                KeeperMessage::Refused { why } => {
                    has_reason = true;
                    self.refuse(why, voice);
                }
            }
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.holds |= holds;
            // After its last words it ends.
            keeper.owes_since = has_reason.then(Instant::now).or(keeper.owes_since);
        }
        let gone = self.keeper.take_if(|_| is_gone);
        if gone.is_some_and(|keeper| keeper.owes_since.is_none()) {
            voice.print("the keeper of the lease has ended, and is replaced");
        }
        self.permit.filter(|permit| Some(*permit) != before)
    }

    /// What cannot be held at first is for the operator. What was held may be broken for a while only.
    fn refuse(&mut self, why: String, voice: &Voice) {
        if self.was_held {
            voice.print(&format!("the lease of the town cannot be held: {why}"));
            self.not_before = Instant::now() + REFUSED_AGAIN;
        } else {
            self.refused = Some(why);
        }
    }

    fn wait_for(&mut self, holder: Option<String>, failing: Option<String>, voice: &Voice) {
        let why = match (failing, holder) {
            (Some(failing), _) => format!("the register says: {failing}"),
            (None, Some(holder)) => holder,
            (None, None) => return,
        };
        let sentence = format!("waiting for the lease of the town: {why}");
        if self.said != sentence {
            voice.print(&sentence);
            self.said = sentence;
        }
    }

    /// For whom it waits, as it was said last. Empty: it does not.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// The right to run a supervisor now.
    pub fn permit(&self) -> Option<LeasePermit> {
        self.permit.filter(|permit| !permit.is_over())
    }

    /// Why it can never be had, as the keeper says.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Where the keeper speaks.
    pub fn words(&self) -> Option<BorrowedFd<'_>> {
        self.keeper.as_ref().map(|keeper| keeper.words.as_fd())
    }

    /// How long a wait may take before somebody has to look at the clock.
    pub fn patience(&self) -> Duration {
        let left = self.permit().map_or(LOOK, |permit| {
            Duration::from_nanos(permit.fence_at.saturating_sub(bulkhead_fence::now()))
        });
        // A millisecond too early costs another look.
        left.clamp(Duration::from_millis(1), LOOK)
    }

    /// Gives the lease back for another copy to take, and asks for it again as one that waits. Nothing of this one may run any more.
    /// Says whether a signal asked for the end meanwhile.
    pub fn hand_over(&mut self, signals: &Signals, voice: &Voice) -> bool {
        let epoch = self.permit.map_or(self.floor, |permit| permit.epoch);
        let ends = self.release(signals);
        self.yields = epoch;
        self.not_before = Instant::now();
        voice.print(&format!(
            "the lease of the town is given back (epoch {epoch}) for another copy to take"
        ));
        ends
    }

    /// Gives the lease back, so that the next copy need not wait. Nothing of this one may run any more. A signal that asks for
    /// the end ends this as well, and is said.
    pub fn release(&mut self, signals: &Signals) -> bool {
        let fence = self.permit.take().map_or(0, |permit| permit.fence_at);
        let Some(Keeper { words, stdin, .. }) = self.keeper.take() else { return false };
        drop(stdin);
        let left = Duration::from_nanos(fence.saturating_sub(bulkhead_fence::now()));
        let [least, most] = GIVING_BACK;
        let until = Instant::now() + left.clamp(least, most);
        let mut bytes = [0; 512];
        while Instant::now() < until {
            match (&words).read(&mut bytes) {
                // Its end is the end of what it says.
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match signals.wait_beside(&[words.as_fd()], Some(LOOK)) {
                        Some(SignalEvent::Asked(signal)) if signals::ends(signal) => return true,
                        Some(_) | None => {}
                    }
                }
                Err(_) => return false,
            }
        }
        false
    }
}

impl Keeper {
    /// The lines that are whole, and whether there is nobody any more to say others.
    fn messages(&mut self) -> (Vec<KeeperMessage>, bool) {
        let mut bytes = [0; 4096];
        let is_gone = loop {
            match self.words.read(&mut bytes) {
                Ok(0) => break true,
                Ok(length) => self.begun.extend(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        let whole = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.begun.drain(..whole).collect();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        (lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(), is_gone)
    }
}
