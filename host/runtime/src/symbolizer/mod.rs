//! Files and lines for the frames of a crash, after the crash.
//!
//! ```text
//!  trap ─▶ raw frames (offsets, names of the name section) ─▶ crash record, `symbolized: pending`
//!                                                                  │
//!   symbolize(digest, path, frames) ── same frames done before ──▶ answer at once
//!          │        └───────────────── same frames under way ────▶ waits for that answer
//!          ▼ new: bounded queue; full ▶ unavailable, counted
//!   bulkhead-symbols (one thread, nice 10)
//!     known component? ─ no ─▶ read file ─▶ digest still right? ─▶ core modules ─▶ vet ─▶ context
//!     known address?   ─ no ─▶ address − start of the module's code ─▶ addr2line
//!          ▼
//!   file, line, column, calls in line, whose code it is ─▶ the record is updated
//! ```
//!
//! The engine could do it at the trap; it would parse the debug information every time, for 30 to 77 ms
//! on the thread of the lane. Here a component's debug information is parsed once, by a thread that
//! yields to every guest, and a storm of equal crashes costs one look-up.
//!
//! An agent that trapped has no need to wait for this. What bounds it:
//!
//! | what | bound | when full |
//! | --- | --- | --- |
//! | look-ups that wait | [`SymbolizerConfig::queue`] | `unavailable`, [`SymbolizerFigures::dropped`] |
//! | callers that wait for one look-up | 1024 | the same |
//! | components | [`SymbolizerConfig::max_components`] and [`SymbolizerConfig::max_bytes`] of debug sections and of the tables made of them | the one unused for longest goes |
//! | addresses of a component | 4096, and 2 MiB of what is known about them | all go |
//! | answers | 256, and 8 MiB | the one unused for longest goes |
//! | one answer | 256 frames, 1 KiB a name | calls in line are left out, names are cut |
//! | what a component's debug information may make the readers do | `vet` | `unavailable` |
//!
//! A component whose file was replaced keeps its names: they came with the trap. Its lines are gone
//! unless they are still in memory, because the file does not have its digest any more.

mod cache;
mod component;
mod dwarf;
#[cfg(test)]
mod noise;
pub(crate) mod source;
mod vet;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};

use bulkhead_tasks::containment::contain;
use bulkhead_types::{Digest, Frame, Frames, Symbolized};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use cache::Cache;

/// Answers that are kept, and bytes of them.
const MAX_ANSWERS: usize = 256;
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Who may wait for the same look-up.
const MAX_WAITING: usize = 1024;

/// Stack of the thread. The readers call themselves at most [`vet`]'s depth.
const STACK_BYTES: usize = 4 * 1024 * 1024;

/// Bounds of the symbolizer.
#[derive(Debug, Clone)]
pub struct SymbolizerConfig {
    /// Largest component file, in bytes.
    pub max_component_bytes: u64,
    /// Components whose debug information is kept.
    pub max_components: usize,
    /// Bytes that are kept of all components together: debug sections, and the tables that are made of them.
    pub max_bytes: usize,
    /// Look-ups that may wait.
    pub queue: usize,
}

impl Default for SymbolizerConfig {
    fn default() -> Self {
        Self {
            max_component_bytes: 64 * 1024 * 1024,
            max_components: 16,
            max_bytes: 64 * 1024 * 1024,
            queue: 64,
        }
    }
}

/// What became of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbolization {
    /// `Done` or `Unavailable`.
    pub status: Symbolized,
    /// With files and lines, and a frame more for each call in line. The raw ones when unavailable.
    pub frames: Frames,
    /// Why it is unavailable.
    pub reason: Option<Unavailable>,
}

/// Why there are no files and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The component was built without debug information.
    #[error("the component has no debug information")]
    NoDebugInfo,
    /// It has some, and none of it is about these frames.
    #[error("the component's debug information has no lines for these frames")]
    NoLines,
    /// The file was replaced since it was loaded.
    #[error("the component's file has changed since it was loaded")]
    FileChanged,
    /// The file is gone or cannot be read.
    #[error("the component's file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// The debug information is damaged.
    #[error("the component's debug information is damaged")]
    Broken,
    /// The file, or what its debug information makes a reader do, is above the bounds.
    #[error("the component's debug information is too large")]
    TooLarge,
    /// Too many look-ups wait.
    #[error("too many crashes wait for their lines")]
    QueueFull,
    /// The host is going away.
    #[error("the host is going away")]
    Ended,
}

impl Unavailable {
    fn with(self, frames: &Frames) -> Arc<Symbolization> {
        Arc::new(Symbolization {
            status: Symbolized::Unavailable,
            frames: frames.clone(),
            reason: Some(self),
        })
    }
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SymbolizerFigures {
    /// Look-ups that went through the thread.
    pub looked_up: u64,
    /// Questions that an earlier look-up had answered, or that joined one under way.
    pub repeated: u64,
    /// Questions that were refused because too many waited.
    pub dropped: u64,
    /// Look-ups that failed.
    pub unavailable: u64,
    /// Bytes that are kept now: debug sections, and what their tables can take at most.
    pub kept_bytes: u64,
}

/// Finds files and lines, on a thread of its own. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct Symbolizer {
    shared: Arc<Shared>,
    queue: SyncSender<Job>,
}

/// An answer to come. Dropping it is fine: the look-up goes on for the next caller.
pub struct Symbolizing {
    answer: Waiting,
    frames: Frames,
}

enum Waiting {
    Ready(Arc<Symbolization>),
    Later(oneshot::Receiver<Arc<Symbolization>>),
}

struct Job {
    question: Arc<Question>,
    path: Arc<Path>,
    frames: Frames,
}

/// Equal questions have equal answers.
#[derive(PartialEq, Eq, Hash)]
struct Question {
    digest: Digest,
    locations: Vec<(u32, Option<u64>)>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<Answers>,
    looked_up: AtomicU64,
    repeated: AtomicU64,
    dropped: AtomicU64,
    unavailable: AtomicU64,
    kept_bytes: AtomicU64,
}

#[derive(Default)]
struct Answers {
    known: HashMap<Arc<Question>, Answer>,
    /// Of those that are done.
    bytes: usize,
    now: u64,
}

enum Answer {
    UnderWay(Vec<oneshot::Sender<Arc<Symbolization>>>),
    Done { answer: Arc<Symbolization>, used: u64, bytes: usize },
}

impl Symbolizer {
    /// Starts the thread.
    pub fn start(config: SymbolizerConfig) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(config.queue.max(1));
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("bulkhead-symbols".into())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&jobs, &for_thread, config))?;
        Ok(Self { shared, queue })
    }

    /// Asks for the files and lines of `frames`, which are raw ones of the component with `digest` that
    /// was loaded from `path`. Never blocks.
    pub fn symbolize(&self, digest: Digest, path: &Arc<Path>, frames: &Frames) -> Symbolizing {
        let locations = frames.iter().map(|frame| (frame.function_index, frame.module_offset));
        let question = Arc::new(Question { digest, locations: locations.collect() });
        let answer = if frames.is_empty() {
            let done =
                Symbolization { status: Symbolized::Done, frames: Frames::default(), reason: None };
            Waiting::Ready(Arc::new(done))
        } else {
            self.ask(&question, path, frames)
        };
        let frames = match &answer {
            Waiting::Ready(_) => Frames::default(),
            Waiting::Later(_) => frames.clone(),
        };
        Symbolizing { answer, frames }
    }

    /// Counts since the start.
    pub fn figures(&self) -> SymbolizerFigures {
        let Shared { looked_up, repeated, dropped, unavailable, kept_bytes, .. } = &*self.shared;
        let [looked_up, repeated, dropped, unavailable, kept_bytes] =
            [looked_up, repeated, dropped, unavailable, kept_bytes]
                .map(|count| count.load(Ordering::Relaxed));
        SymbolizerFigures { looked_up, repeated, dropped, unavailable, kept_bytes }
    }

    fn ask(&self, question: &Arc<Question>, path: &Arc<Path>, frames: &Frames) -> Waiting {
        let mut answers = self.shared.answers.lock();
        answers.now += 1;
        let now = answers.now;
        match answers.known.get_mut(question) {
            Some(Answer::Done { answer, used, .. }) => {
                *used = now;
                self.shared.repeated.fetch_add(1, Ordering::Relaxed);
                Waiting::Ready(Arc::clone(answer))
            }
            Some(Answer::UnderWay(waiting)) if waiting.len() < MAX_WAITING => {
                let (send, answer) = oneshot::channel();
                waiting.push(send);
                self.shared.repeated.fetch_add(1, Ordering::Relaxed);
                Waiting::Later(answer)
            }
            Some(Answer::UnderWay(_)) => self.shared.refuse(Unavailable::QueueFull, frames),
            None => {
                let (question, path) = (Arc::clone(question), Arc::clone(path));
                let key = Arc::clone(&question);
                match self.queue.try_send(Job { question, path, frames: frames.clone() }) {
                    Ok(()) => {
                        let (send, answer) = oneshot::channel();
                        answers.known.insert(key, Answer::UnderWay(vec![send]));
                        Waiting::Later(answer)
                    }
                    Err(TrySendError::Full(_)) => {
                        self.shared.refuse(Unavailable::QueueFull, frames)
                    }
                    Err(TrySendError::Disconnected(_)) => {
                        self.shared.refuse(Unavailable::Ended, frames)
                    }
                }
            }
        }
    }
}

impl Symbolizing {
    /// Blocks until the answer is there. For threads that may.
    pub fn wait(self) -> Arc<Symbolization> {
        match self.answer {
            Waiting::Ready(answer) => answer,
            Waiting::Later(answer) => {
                answer.blocking_recv().unwrap_or_else(|_| Unavailable::Ended.with(&self.frames))
            }
        }
    }
}

impl Future for Symbolizing {
    type Output = Arc<Symbolization>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Arc<Symbolization>> {
        match &mut self.answer {
            Waiting::Ready(answer) => Poll::Ready(Arc::clone(answer)),
            Waiting::Later(answer) => Pin::new(answer)
                .poll(cx)
                .map(|answer| answer.unwrap_or_else(|_| Unavailable::Ended.with(&self.frames))),
        }
    }
}

impl Shared {
    fn refuse(&self, reason: Unavailable, frames: &Frames) -> Waiting {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        Waiting::Ready(reason.with(frames))
    }

    /// Notifies all callers that wait. What failed is not remembered here: it may work next time,
    /// and the cache knows when it cannot.
    fn answer(&self, question: &Arc<Question>, answer: &Arc<Symbolization>) {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        let waiting = {
            let mut answers = self.answers.lock();
            let waiting = answers.known.remove(question);
            if answer.status == Symbolized::Done {
                answers.keep(Arc::clone(question), Arc::clone(answer));
            } else {
                self.unavailable.fetch_add(1, Ordering::Relaxed);
            }
            waiting
        };
        if let Some(Answer::UnderWay(waiting)) = waiting {
            for waiting in waiting {
                // The caller may have gone.
                let _ = waiting.send(Arc::clone(answer));
            }
        }
    }
}

impl Answers {
    fn keep(&mut self, question: Arc<Question>, answer: Arc<Symbolization>) {
        let bytes = answer.frames.iter().map(bytes_of).sum();
        while self.known.len() >= MAX_ANSWERS || self.bytes + bytes > MAX_ANSWER_BYTES {
            let Some(oldest) = self.oldest() else { break };
            if let Some(Answer::Done { bytes, .. }) = self.known.remove(&oldest) {
                self.bytes -= bytes;
            }
        }
        self.bytes += bytes;
        self.known.insert(question, Answer::Done { answer, used: self.now, bytes });
    }

    /// Of those that are done, the one unused for longest.
    fn oldest(&self) -> Option<Arc<Question>> {
        let age = |(question, answer): (&Arc<Question>, &Answer)| match answer {
            Answer::UnderWay(_) => None,
            Answer::Done { used, .. } => Some((*used, Arc::clone(question))),
        };
        self.known.iter().filter_map(age).min_by_key(|(used, _)| *used).map(|(_, oldest)| oldest)
    }
}

/// What a frame takes in memory.
fn bytes_of(frame: &Frame) -> usize {
    let texts = [&frame.function, &frame.module, &frame.file];
    size_of::<Frame>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

/// The thread. It ends when nobody can ask any more.
fn work(jobs: &Receiver<Job>, shared: &Shared, config: SymbolizerConfig) {
    crate::lanes::lower_priority();
    let mut cache = Cache::new(config);
    for Job { question, path, frames } in jobs {
        let look_up = contain(|| cache.symbolize(&question.digest, &path, &frames));
        let answer = match look_up {
            Ok(Ok(frames)) => {
                let frames = frames.into();
                Arc::new(Symbolization { status: Symbolized::Done, frames, reason: None })
            }
            Ok(Err(reason)) => reason.with(&frames),
            // The readers are made to return errors: this is a bug of one of them.
            Err(panicked) => {
                tracing::error!(%panicked, digest = %question.digest, "debug information broke its reader");
                cache.is_broken(question.digest);
                Unavailable::Broken.with(&frames)
            }
        };
        shared.kept_bytes.store(cache.bytes() as u64, Ordering::Relaxed);
        shared.answer(&question, &answer);
    }
}

#[cfg(test)]
mod tests;
