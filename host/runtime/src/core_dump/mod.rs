//! Core dumps of incarnations, for the roles that ask for them.
//!
//! ```text
//!  trap ─▶ Exit, TrappedStore (the store, which nobody can enter any more, and the engine's list of its parts)
//!            │ record first
//!            ▼
//!   CoreDumps::keep ── bounded queue; full ▶ no dump, the store goes at once
//!            ▼
//!   bulkhead-dumps (one thread, nice 10): serialize ─▶ the store is gone ─▶ make room ─▶ CRASH-ID.wasm.core
//! ```
//!
//! A disk that hangs holds the thread and nobody else: a store that waits behind it for too long is given up
//! ([`PendingDump::released`]).
//!
//! A dump is WebAssembly's standard format (`core`, `coremodules`, `coreinstances`, `corestack`, with
//! memories and globals) as the engine writes it. Off by default: it holds whatever the agent had in
//! memory, secrets included. The directory and its files are for their owner alone.
//!
//! The engine lists the parts of a store at the trap or not at all: `Config::coredump_on_trap` belongs to
//! the engine, not to a store. It is switched on when some role asks for dumps. Then every trap of every
//! role walks its stack twice and lists its instances, which costs microseconds and copies no memory; a
//! second engine would compile every component twice and need a pool of its own. Copying memory is left
//! to the thread here, and to the roles that asked.
//!
//! | bound | when it is passed |
//! | --- | --- |
//! | [`CoreDumpRules::max_bytes`] of one dump | stack without memories, with a note in [`KeptCoreDump`] and in the section `bulkhead.note` |
//! | `max_count`, `max_age`, `max_total_bytes` | the oldest go first |
//! | 4 that wait, each with its store | [`CoreDumpError::QueueFull`] |
//!
//! Over composed components the engine's writer panics (48.0.8). Then a plainer one writes the same but for
//! globals and for which instance has which memory; the panic shows as a `container.log` line.
//!
//! While it is made, a dump takes up to three times its size in the host. There is one at a time.

mod directory;
mod serialize;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_tasks::containment;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wasmtime::WasmCoreDump;

use crate::config::CoreDumpRules;
use crate::guest_instance::GuestInstance;
use directory::Directory;

/// Dumps that may wait. Each holds a store, and so a slot of the pool.
const QUEUE: usize = 4;

/// What a crash left: a store that nobody can enter, and the engine's list of its parts. Holds the
/// store's slot of the pool until it is dropped or kept.
pub struct TrappedStore {
    instance: GuestInstance,
    /// Has a [`WasmCoreDump`].
    error: wasmtime::Error,
    /// The component's name, which the dump shows.
    component: Arc<str>,
}

/// A core dump in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCoreDump {
    /// The file's name in the directory: the crash's id, and `.wasm.core`.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// What is not in it, and why.
    pub note: Option<&'static str>,
}

/// Why there is no core dump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreDumpError {
    /// Too many wait.
    #[error("too many core dumps wait to be written")]
    QueueFull,
    /// Even the stack alone is above a bound.
    #[error("the core dump has {bytes} bytes, at most {max_bytes} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// It could not be made or written.
    #[error("{doing} the core dump: {message}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// The system's words.
        message: String,
    },
    /// Its agent waited too long for its turn, because the disk is slow or hangs.
    #[error("it was given up: those before it took too long to be written")]
    GivenUp,
    /// The host is going away.
    #[error("the host is going away")]
    Ended,
}

impl CoreDumpError {
    fn failed(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Failed { doing, message: error.to_string() }
    }
}

/// Makes core dumps and looks after their directory. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct CoreDumps {
    queue: SyncSender<Job>,
    directory: Arc<Mutex<Directory>>,
    counts: Arc<Counts>,
    max_bytes: u64,
}

/// What became of the core dumps of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreDumpFigures {
    /// Files that were written. Some may be gone again, for newer ones.
    pub kept: u64,
    /// Dumps that there are not, for any [`CoreDumpError`].
    pub refused: u64,
}

#[derive(Default)]
struct Counts {
    kept: AtomicU64,
    refused: AtomicU64,
}

/// A store on its way to the thread. The first to take it out owns it.
type Waiting = Arc<Mutex<Option<TrappedStore>>>;

struct Job {
    remains: Waiting,
    crash_id: String,
    released: oneshot::Sender<()>,
    done: oneshot::Sender<Result<KeptCoreDump, CoreDumpError>>,
}

/// A core dump in the making. Dropping it is fine: the dump is made all the same.
pub struct PendingDump {
    remains: Waiting,
    released: Option<oneshot::Receiver<()>>,
    done: oneshot::Receiver<Result<KeptCoreDump, CoreDumpError>>,
    counts: Arc<Counts>,
    given_up: bool,
}

impl TrappedStore {
    /// What an end left, when the engine listed it.
    pub(crate) fn of(
        instance: GuestInstance,
        error: wasmtime::Error,
        component: Arc<str>,
    ) -> Option<Self> {
        error.is::<WasmCoreDump>().then_some(Self { instance, error, component })
    }

    /// The dump's bytes. Takes a while: it copies the memories. The store is gone afterwards.
    fn serialize(self, max_bytes: u64) -> serialize::Dump {
        let Self { mut instance, error, component } = self;
        match error.downcast_ref::<WasmCoreDump>() {
            Some(dump) => serialize::serialize(dump, &mut instance.store, &component, max_bytes),
            None => serialize::Dump { bytes: Vec::new(), note: None },
        }
    }
}

impl CoreDumps {
    /// Makes the directory, removes what is too old or too much, and starts the thread.
    pub fn start(rules: CoreDumpRules) -> io::Result<Self> {
        let max_bytes = rules.max_bytes.min(rules.max_total_bytes);
        let directory = Arc::new(Mutex::new(Directory::open(rules)?));
        let (queue, jobs) = sync_channel(QUEUE);
        let counts = Arc::default();
        let for_thread = (Arc::clone(&directory), Arc::clone(&counts));
        std::thread::Builder::new()
            .name("bulkhead-dumps".into())
            .spawn(move || work(&jobs, &for_thread.0, &for_thread.1, max_bytes))?;
        Ok(Self { queue, directory, counts, max_bytes })
    }

    /// Writes `CRASH-ID.wasm.core`. Never blocks.
    pub fn keep(&self, remains: TrappedStore, crash_id: impl Into<String>) -> PendingDump {
        let (released, is_released) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let remains: Waiting = Arc::new(Mutex::new(Some(remains)));
        let (crash_id, waiting) = (crash_id.into(), Arc::clone(&remains));
        let job = Job { remains: waiting, crash_id, released, done };
        match self.queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                self.counts.refused.fetch_add(1, Relaxed);
                drop(remains.lock().take());
                let _ = job.done.send(Err(CoreDumpError::QueueFull));
            }
            Err(TrySendError::Disconnected(_)) => drop(remains.lock().take()),
        }
        let (released, counts) = (Some(is_released), Arc::clone(&self.counts));
        PendingDump { remains, released, done: is_done, counts, given_up: false }
    }

    /// Removes what is too old by now. Every dump does it as well.
    pub fn prune(&self) {
        self.directory.lock().prune();
    }

    /// What became of them so far.
    pub fn figures(&self) -> CoreDumpFigures {
        let Counts { kept, refused } = &*self.counts;
        CoreDumpFigures { kept: kept.load(Relaxed), refused: refused.load(Relaxed) }
    }

    /// Largest dump with memories, in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}

impl PendingDump {
    /// Until the store is gone, and its slot of the pool free: before the file is written. One that still
    /// waits for its turn after `patience` goes without a dump. One that is being copied has what it takes,
    /// which no disk can prolong.
    pub async fn released(&mut self, patience: Duration) {
        let Some(mut released) = self.released.take() else { return };
        // An error says that the job is gone, and the store with it.
        if timeout(patience, &mut released).await.is_ok() {
            return;
        }
        let given_up = self.remains.lock().take();
        match given_up {
            Some(remains) => {
                drop(remains);
                self.counts.refused.fetch_add(1, Relaxed);
                self.given_up = true;
            }
            None => _ = released.await,
        }
    }

    /// Blocks until the file is there. For threads that may.
    pub fn wait(self) -> Result<KeptCoreDump, CoreDumpError> {
        if self.given_up {
            return Err(CoreDumpError::GivenUp);
        }
        self.done.blocking_recv().unwrap_or(Err(CoreDumpError::Ended))
    }
}

impl Future for PendingDump {
    type Output = Result<KeptCoreDump, CoreDumpError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.given_up {
            return Poll::Ready(Err(CoreDumpError::GivenUp));
        }
        Pin::new(&mut self.done).poll(cx).map(|done| done.unwrap_or(Err(CoreDumpError::Ended)))
    }
}

/// The thread. It ends when nobody can ask any more.
fn work(jobs: &Receiver<Job>, directory: &Mutex<Directory>, counts: &Counts, max_bytes: u64) {
    crate::lanes::lower_priority();
    for Job { remains, crash_id, released, done } in jobs {
        // One that was given up is counted already.
        let Some(remains) = remains.lock().take() else { continue };
        let result = containment::contain(|| {
            let dump = remains.serialize(max_bytes);
            // The caller may have gone.
            let _ = released.send(());
            directory.lock().keep(&crash_id, &dump)
        });
        let result = result.unwrap_or_else(|panicked| {
            let message = panicked.to_string();
            Err(CoreDumpError::Failed { doing: "make", message })
        });
        let count = if result.is_ok() { &counts.kept } else { &counts.refused };
        count.fetch_add(1, Relaxed);
        let _ = done.send(result);
    }
}

#[cfg(test)]
mod tests;
