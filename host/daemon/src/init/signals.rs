//! Signals of the init process: a thread takes them, the main thread asks for them one after the other.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::dispositions::Dispositions;

/// Signals that wait for the main thread. When so many wait, the taker waits as well, and the kernel keeps
/// one of each sort.
const WAITING: usize = 64;

/// Between two checks of the children when no signal is received any more.
const DEAF: Duration = Duration::from_millis(100);

/// What is passed on to the supervisor, unless it was ignored when this process was started: then it is ignored by both.
const PASSED_ON: [i32; 6] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalEvent {
    /// A process below this one ended, perhaps more than one.
    Ended,
    /// Somebody sent this.
    Asked(Signal),
}

/// Whether a signal asks for the end of the container.
pub fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT)
}

/// Signals that came and were not asked for yet.
pub struct Signals {
    events: Receiver<SignalEvent>,
    /// A byte for each of them, as far as the pipe has room, for who waits for something else as well.
    bell: PipeReader,
}

impl Signals {
    /// From now on the signals are kept, and do not kill.
    pub fn listen() -> io::Result<Self> {
        let before = Dispositions::of_this_process();
        let heeded = PASSED_ON.into_iter().filter(|signal| !before.ignores(*signal));
        let mut signals = signal_hook::iterator::Signals::new(heeded.chain([SIGCHLD]))?;
        let (sender, events) = sync_channel(WAITING);
        let (bell, mut rings) = io::pipe()?;
        rustix::io::ioctl_fionbio(&bell, true)?;
        rustix::io::ioctl_fionbio(&rings, true)?;
        std::thread::Builder::new().name("bulkhead-signal".into()).spawn(move || {
            for number in &mut signals {
                let what = match Signal::from_named_raw(number) {
                    Some(Signal::CHILD) => SignalEvent::Ended,
                    Some(signal) => SignalEvent::Asked(signal),
                    None => continue,
                };
                if sender.send(what).is_err() {
                    return;
                }
                // One that is full has rung.
                let _ = rings.write(&[0]);
            }
        })?;
        Ok(Self { events, bell })
    }

    /// The next one.
    pub fn wait(&self) -> SignalEvent {
        self.events.recv().unwrap_or_else(|_| {
            // The thread that reports exists as long as the process. Should it be gone, a look at the
            // children now and then is the best that is left.
            std::thread::sleep(DEAF);
            SignalEvent::Ended
        })
    }

    /// The next one, or nothing as soon as there is something to read from one of `words`, or after `most`.
    pub fn wait_beside(
        &self,
        words: &[BorrowedFd<'_>],
        most: Option<Duration>,
    ) -> Option<SignalEvent> {
        match self.events.try_recv() {
            Ok(event) => return Some(event),
            Err(TryRecvError::Disconnected) => return Some(self.wait()),
            Err(TryRecvError::Empty) => {}
        }
        let mut sources = vec![PollFd::new(&self.bell, PollFlags::IN)];
        sources.extend(words.iter().map(|words| PollFd::from_borrowed_fd(*words, PollFlags::IN)));
        let _ = poll(&mut sources, most.and_then(|most| Timespec::try_from(most).ok()).as_ref());
        if sources[0].revents().contains(PollFlags::IN) {
            let _ = (&self.bell).read(&mut [0; WAITING]);
        }
        self.events.try_recv().ok()
    }

    /// The next one before `until`.
    pub fn wait_until(&self, until: Instant) -> Option<SignalEvent> {
        let left = until.checked_duration_since(Instant::now())?;
        self.events.recv_timeout(left).ok()
    }
}
