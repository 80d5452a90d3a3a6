//! A tool that runs, as its caller has it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::end::{End, Ended, Finished, KillReason, Usage};

/// What is read of a pipe at once: what it holds.
const PIECE_BYTES: usize = 64 * 1024;
/// What is read at a time before others have their turn: 50 to 100 µs. A tool may write as fast as it is read.
const TURN_BYTES: usize = 4 * PIECE_BYTES;
/// What a tool wrote is in its pipes when it has ended.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// A tool that runs. Dropping it kills the tool with [`KillReason::Cancelled`].
#[derive(Debug)]
pub struct Child {
    /// Dropping it is the end of the tool's input.
    pub stdin: Option<pipe::Sender>,
    /// What the tool writes; counted.
    pub stdout: Option<Output>,
    /// What the tool writes; counted.
    pub stderr: Option<Output>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) switch: Arc<Switch>,
    pub(crate) meter: Arc<Meter>,
}

/// One of a tool's outputs. Above [`Limits::output_bytes`](crate::Limits), of both together, it ends, and the tool is
/// killed with [`End::OutputLimit`].
#[derive(Debug)]
pub struct Output {
    pipe: pipe::Receiver,
    meter: Arc<Meter>,
    which: Which,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    Stdout,
    Stderr,
}

/// What is known of a tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub usage: Usage,
    pub ended: Option<Ended>,
}

/// Who wants to hear of an end.
type OnEnd = Box<dyn FnOnce(Ended) + Send>;

/// Kills one tool, and hears of its end. The task that drives the socket checks it when notified.
pub(crate) struct Switch {
    why: AtomicU8,
    notify: Arc<Notify>,
    on_end: Mutex<Option<OnEnd>>,
}

/// A tool as others have it that did not start it: what it uses, and the way to kill it. Dropping it does nothing.
#[derive(Debug, Clone)]
pub struct Handle {
    progress: watch::Receiver<Progress>,
    switch: Arc<Switch>,
}

impl Handle {
    /// Its memory, as of the last tenth of a second. 0 where nothing counts it, and at its end; none before the first
    /// figure.
    pub fn memory_bytes(&self) -> Option<u64> {
        let progress = self.progress.borrow();
        match progress.ended {
            Some(_) => Some(0),
            None => (!progress.usage.wall.is_zero()).then_some(progress.usage.memory_bytes),
        }
    }

    /// As [`Child::kill`].
    pub fn kill(&self, why: KillReason) {
        self.switch.kill(why);
    }
}

/// Counts output, and kills above a limit.
#[derive(Debug)]
pub(crate) struct Meter {
    stdout: AtomicU64,
    stderr: AtomicU64,
    limit: u64,
    switch: Arc<Switch>,
}

impl Child {
    /// Waits for the end, of which there is exactly one. It can be called again, and its future dropped.
    pub async fn wait(&mut self) -> Ended {
        let ended = self.progress.wait_for(|it| it.ended.is_some()).await;
        let ended = ended.ok().and_then(|progress| progress.ended.clone());
        let usage = self.progress.borrow().usage;
        let mut ended = ended.unwrap_or(Ended { end: End::LauncherDied, usage });
        self.meter.judge(&mut ended);
        ended
    }

    /// Kills it, with all that it started. The first reason counts; nothing happens if it ended.
    pub fn kill(&self, why: KillReason) {
        self.switch.kill(why);
    }

    /// For those who look at it, and may have to kill it.
    pub fn handle(&self) -> Handle {
        Handle { progress: self.progress.clone(), switch: self.switch.clone() }
    }

    /// Has `hear` called at its end, also when this is dropped. Nothing it does may wait: the task that drives the socket calls
    /// it. The last one counts.
    pub fn on_end(&self, hear: impl FnOnce(Ended) + Send + 'static) {
        let meter = self.meter.clone();
        let hear = move |mut ended: Ended| {
            meter.judge(&mut ended);
            hear(ended);
        };
        let mut on_end = self.switch.on_end.lock();
        let ended = self.progress.borrow().ended.clone();
        match ended {
            Some(ended) => {
                drop(on_end);
                hear(ended);
            }
            None => *on_end = Some(Box::new(hear)),
        }
    }

    /// Feeds it, reads what it writes, and waits for its end. `admit` is asked before so many bytes more are kept: when it
    /// refuses them, the tool is killed as one that wrote too much. Dropping the future kills it.
    pub async fn finish(mut self, stdin: &[u8], admit: impl Fn(usize) -> bool) -> Finished {
        let (input, output, errors) = (self.stdin.take(), self.stdout.take(), self.stderr.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let switch = self.switch.clone();
        let mut moves = Box::pin(async {
            let reads = |output, into| read(output, into, &admit, &switch);
            tokio::join!(
                write(input, stdin),
                reads(output, &mut stdout),
                reads(errors, &mut stderr)
            );
        });
        let (mut ended, is_moved) = tokio::select! {
            ended = self.wait() => (ended, false),
            () = &mut moves => (self.wait().await, true),
        };
        if !is_moved {
            // Only without a namespace of processes somebody may still have the pipes.
            let _ = timeout(LAST_OUTPUT, &mut moves).await;
        }
        drop(moves);
        // It may have read more since.
        self.meter.judge(&mut ended);
        Finished { ended, stdout, stderr, cut: self.meter.is_exceeded() }
    }

    /// What it used so far, as of the last second.
    pub fn usage(&self) -> Usage {
        let mut usage = self.progress.borrow().usage;
        self.meter.complete(&mut usage);
        usage
    }
}

/// All of it, as far as somebody reads: a tool need not.
async fn write(input: Option<pipe::Sender>, bytes: &[u8]) {
    if let Some(mut input) = input {
        let _ = input.write_all(bytes).await;
    }
}

/// To the end, or until the limit: the pipe is closed then. What was read before an error counts.
async fn read(
    output: Option<Output>,
    into: &mut Vec<u8>,
    admit: &impl Fn(usize) -> bool,
    switch: &Switch,
) {
    let Some(mut output) = output else { return };
    let (mut piece, mut turn) = (vec![0; PIECE_BYTES], 0);
    while let Ok(bytes @ 1..) = output.read(&mut piece).await {
        if !admit(bytes) {
            return switch.kill(KillReason::OutputLimit);
        }
        into.extend_from_slice(&piece[..bytes]);
        turn += bytes;
        if turn >= TURN_BYTES {
            turn = 0;
            yield_now().await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.progress.borrow().ended.is_none() {
            self.switch.kill(KillReason::Cancelled);
        }
    }
}

impl Output {
    /// Reads what is there. Nothing read is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there yet.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.pipe.try_read(buffer)?;
        Ok(self.meter.count(self.which, read))
    }

    /// Waits until there is something to read, or an end.
    ///
    /// # Errors
    ///
    /// As the next [`Output::try_read`].
    pub async fn readable(&self) -> io::Result<()> {
        self.pipe.readable().await
    }

    pub(crate) fn new(pipe: pipe::Receiver, meter: Arc<Meter>, which: Which) -> Self {
        Self { pipe, meter, which }
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        let allowed = self.meter.count(self.which, read);
        buffer.set_filled(before + allowed);
        Poll::Ready(Ok(()))
    }
}

impl Meter {
    pub fn new(limit: u64, switch: Arc<Switch>) -> Self {
        Self { stdout: AtomicU64::new(0), stderr: AtomicU64::new(0), limit, switch }
    }

    /// How many of these bytes are within the limit.
    fn count(&self, which: Which, read: usize) -> usize {
        let (this, other) = match which {
            Which::Stdout => (&self.stdout, &self.stderr),
            Which::Stderr => (&self.stderr, &self.stdout),
        };
        let new = read as u64;
        let before = this.fetch_add(new, Ordering::SeqCst) + other.load(Ordering::SeqCst);
        let allowed = new.min(self.limit.saturating_sub(before));
        if allowed < new {
            self.switch.kill(KillReason::OutputLimit);
        }
        usize::try_from(allowed).unwrap_or(read)
    }

    pub fn is_exceeded(&self) -> bool {
        let all = self.stdout.load(Ordering::Relaxed) + self.stderr.load(Ordering::Relaxed);
        all > self.limit
    }

    /// What was read decides as well: one that wrote too much may have ended before it could be killed for it.
    pub fn judge(&self, ended: &mut Ended) {
        self.complete(&mut ended.usage);
        if self.is_exceeded() && matches!(ended.end, End::Exited(_) | End::Signalled(_)) {
            ended.end = End::OutputLimit;
        }
    }

    fn complete(&self, usage: &mut Usage) {
        usage.stdout_bytes = self.stdout.load(Ordering::Relaxed);
        usage.stderr_bytes = self.stderr.load(Ordering::Relaxed);
    }
}

impl Switch {
    pub fn new(notify: Arc<Notify>) -> Self {
        Self { why: AtomicU8::new(0), notify, on_end: Mutex::default() }
    }

    /// The first reason stays.
    pub fn kill(&self, why: KillReason) {
        let first = self.why.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.notify.notify_one();
        }
    }

    /// The tool has ended, and its progress says so.
    pub fn ended(&self, ended: Ended) {
        let hear = self.on_end.lock().take();
        if let Some(hear) = hear {
            hear(ended);
        }
    }

    /// Why it should be killed.
    pub fn reason(&self) -> Option<KillReason> {
        match self.why.load(Ordering::Acquire) {
            0 => None,
            1 => Some(KillReason::Cancelled),
            2 => Some(KillReason::OutputLimit),
            _ => Some(KillReason::Shed),
        }
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("why", &self.why).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

    use super::*;

    #[tokio::test]
    async fn a_flood_is_read_in_turns() {
        let (reads, writes) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let bytes = vec![b'y'; 3 * TURN_BYTES];
        // As much as a tool could have written meanwhile.
        fcntl_setpipe_size(&writes, bytes.len()).unwrap();
        assert_eq!(rustix::io::write(&writes, &bytes), Ok(bytes.len()));
        drop(writes);
        let switch = Arc::new(Switch::new(Arc::default()));
        let meter = Arc::new(Meter::new(u64::MAX, switch.clone()));
        let pipe = pipe::Receiver::from_owned_fd(reads).unwrap();
        let output = Output::new(pipe, meter, Which::Stdout);
        let turns = Mutex::new(vec![0]);
        let admit = |bytes| {
            *turns.lock().last_mut().unwrap() += bytes;
            true
        };
        let mut into = Vec::new();
        let mut read = Box::pin(read(Some(output), &mut into, &admit, &switch));
        std::future::poll_fn(|context| {
            let polled = read.as_mut().poll(context);
            turns.lock().push(0);
            polled
        })
        .await;
        drop(read);
        let most = turns.lock().iter().copied().max().unwrap();
        assert!(most <= TURN_BYTES, "{most} bytes in one turn");
        assert!(into == bytes);
    }
}
