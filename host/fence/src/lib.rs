//! The fence of this process: a moment from which it must do nothing that others can see, because another machine may do the
//! same things from then on.
//!
//! ```text
//!   who holds the lease ── put(epoch, moment) ─▶ fence ◀─ pass() ── a write to a socket, a commit
//!                                                  │
//!                                                  └─ the moment is over: SIGKILL to this process
//! ```
//!
//! There is one fence for the whole process, as there is one end of it: whoever is about to be seen asks, and nobody hands
//! anything on. A process without a lease has no fence, and asking costs it one load from memory.
//!
//! A process that was frozen, with its machine or alone, asks when it goes on. It ends before it writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::process::{Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Nanoseconds of `CLOCK_BOOTTIME`.
static MOMENT: AtomicU64 = AtomicU64::new(NEVER);
static EPOCH: AtomicU64 = AtomicU64::new(NONE);

/// Called before the end.
static LAST_WORD: OnceLock<fn()> = OnceLock::new();

/// Somebody wants another process to take over.
static IS_GIVEN_UP: AtomicBool = AtomicBool::new(false);
static GIVEN_UP: Notify = Notify::const_new();

const NEVER: u64 = u64::MAX;
const NONE: u64 = 0;

/// Puts the fence at a moment, in nanoseconds of `CLOCK_BOOTTIME`, for the holder of this epoch. One that is over already
/// stays where it is: what was to be stopped is.
pub fn put(epoch: u64, moment: u64) {
    pass();
    EPOCH.store(epoch, Ordering::Relaxed);
    MOMENT.store(moment, Ordering::Release);
}

/// Another process has taken over what this one does: the fence is here, and this process ends.
pub fn close() -> ! {
    MOMENT.store(0, Ordering::Release);
    // Not by a look at the moment: another thread may put it further at this instant.
    end()
}

/// The epoch of the lease that this process runs under, if it runs under one. It goes with whatever leaves the machine.
pub fn epoch() -> Option<u64> {
    match EPOCH.load(Ordering::Relaxed) {
        NONE => None,
        epoch => Some(epoch),
    }
}

/// Has this process end what it does in order, so that another one takes over before its time is over. The epoch that it gives up.
/// `None`: it runs under none.
pub fn give_up() -> Option<u64> {
    let epoch = epoch()?;
    IS_GIVEN_UP.store(true, Ordering::Release);
    GIVEN_UP.notify_one();
    Some(epoch)
}

/// Resolves when this process is to [give up](give_up). One waits at most.
pub async fn given_up() {
    while !IS_GIVEN_UP.load(Ordering::Acquire) {
        GIVEN_UP.notified().await;
    }
}

/// Returns before the fence. From its moment on this process ends here.
pub fn pass() {
    let moment = MOMENT.load(Ordering::Acquire);
    if moment == NEVER || now() < moment {
        return;
    }
    end()
}

fn end() -> ! {
    if let Some(last_word) = LAST_WORD.get() {
        last_word();
    }
    let _ = kill_process(getpid(), Signal::KILL);
    // Without a signal there is another way to be gone at once.
    std::process::abort()
}

/// Has this called before the end, once and quickly: so that whoever sees the end knows it from another SIGKILL.
pub fn announce(last_word: fn()) {
    let _ = LAST_WORD.set(last_word);
}

/// How long it is until the fence, in nanoseconds. `None`: there is none.
pub fn left() -> Option<u64> {
    let moment = MOMENT.load(Ordering::Acquire);
    (moment != NEVER).then(|| moment.saturating_sub(now()))
}

/// Now, in nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine sleeps.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
}

/// A stream that nothing is written to behind the fence. Reading is not seen by anybody.
#[derive(Debug)]
pub struct Fenced<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Fenced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fenced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        pass();
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pass();
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An end says something as well.
        pass();
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
