//! The lease as the init process knows it: what the keeper says of it, and until when that counts.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::child::Program;
use super::permit::{KeeperMessage, LeasePermit};
use super::voice::Voice;

/// Before another keeper is started after one that ended without a reason.
const AGAIN: Duration = Duration::from_secs(1);

/// A keeper has so long to give the lease back.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// How long at most nobody looks at the clock. The clock of a wait stands still while the machine sleeps.
const LOOK: Duration = Duration::from_millis(250);

/// The lease of this host's town.
pub struct TownLease {
    program: Program,
    keeper: Option<Keeper>,
    /// When there may be a keeper.
    not_before: Instant,
    permit: Option<LeasePermit>,
    /// What was said last of waiting for it.
    said: String,
    refused: Option<String>,
}

struct Keeper {
    words: PipeReader,
    /// Held as long as the lease is wanted.
    stdin: PipeWriter,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl TownLease {
    pub fn new() -> Self {
        Self {
            program: Program::this(),
            keeper: None,
            not_before: Instant::now(),
            permit: None,
            said: String::new(),
            refused: None,
        }
    }

    /// Starts a keeper if there is none. To be called on the main thread: it ends with the thread that started it.
    pub fn keep(&mut self, voice: &Voice) {
        if self.keeper.is_some() || Instant::now() < self.not_before {
            return;
        }
        self.not_before = Instant::now() + AGAIN;
        match self.program.spawn_keeper() {
            Ok((words, stdin)) => self.keeper = Some(Keeper { words, stdin, begun: Vec::new() }),
            Err(error) => voice.print(&format!("cannot start the keeper of the lease: {error}")),
        }
    }

    /// Takes what the keeper said. Returns a permit that is newer than the one before.
    pub fn hear(&mut self, voice: &Voice) -> Option<LeasePermit> {
        let before = self.permit;
        let (messages, is_gone) = self.keeper.as_mut().map(Keeper::messages).unwrap_or_default();
        for message in messages {
            match message {
                KeeperMessage::Held { epoch, fence_at } => {
                    let is_new = self.permit.is_none_or(|permit| permit.epoch != epoch);
                    self.permit = Some(LeasePermit { epoch, fence_at });
                    if is_new {
                        self.said.clear();
                        voice.print(&format!(
                            "this host holds the lease of the town, epoch {epoch}"
                        ));
                    }
                }
                KeeperMessage::Waiting { holder, failing } => {
                    self.wait_for(holder, failing, voice);
                }
                KeeperMessage::Lost { why } => {
                    self.permit = None;
                    voice.print(&format!("the lease of the town is lost: {why}"));
                }
                KeeperMessage::Refused { why } => self.refused = Some(why),
            }
        }
        if is_gone {
            self.keeper = None;
        }
        self.permit.filter(|permit| Some(*permit) != before)
    }

    fn wait_for(&mut self, holder: Option<String>, failing: Option<String>, voice: &Voice) {
        let why = match (failing, holder) {
            (Some(failing), _) => format!("the register does not answer: {failing}"),
            (None, Some(holder)) => holder,
            (None, None) => return,
        };
        let sentence = format!("waiting for the lease of the town: {why}");
        if self.said != sentence {
            voice.print(&sentence);
            self.said = sentence;
        }
    }

    /// The right to run a supervisor now.
    pub fn permit(&self) -> Option<LeasePermit> {
        self.permit.filter(|permit| bulkhead_fence::now() < permit.fence_at)
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
        let left = self.permit.map_or(LOOK, |permit| {
            Duration::from_nanos(permit.fence_at.saturating_sub(bulkhead_fence::now()))
        });
        // A millisecond too early costs another look.
        left.clamp(Duration::from_millis(1), LOOK)
    }

    /// Gives the lease back, so that the next copy need not wait. Nothing of this one may run any more.
    pub fn release(&mut self) {
        let Some(Keeper { words, stdin, .. }) = self.keeper.take() else { return };
        drop(stdin);
        self.permit = None;
        let until = Instant::now() + GIVING_BACK;
        let mut bytes = [0; 512];
        // The end of what it says is its own.
        while Instant::now() < until {
            match (&words).read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_more(&words),
                Err(_) => return,
            }
        }
    }
}

fn wait_for_more(words: &PipeReader) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let most = Timespec::try_from(LOOK).ok();
    let _ = poll(&mut [PollFd::new(words, PollFlags::IN)], most.as_ref());
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
