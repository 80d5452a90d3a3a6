//! The thread `bulkhead-ship`: one segment at a time. What is committed meanwhile goes with the next one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bulkhead_store::database::PageCopy;
use bulkhead_types::AgentId;
use tokio::time::{sleep, timeout_at};

use crate::archives::{ArchiveNotice, Archives, Carrier};
use crate::fault::ShipError;
use crate::log::{First, Log, Made};
use crate::outbox::{NotShipped, Outbox, Todo, Waiting};
use crate::restore::Opened;
use crate::segment::Kind;

/// After so many segments of changes a copy of all pages is shipped, so that a boot has little to read.
const COPY_AFTER_SEGMENTS: u64 = 256;

/// The same by bytes, where the copy is smaller.
const COPY_AFTER_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of pages in one part of a copy.
const PART_BYTES: u32 = 4 * 1024 * 1024;

/// Old segments that may wait for a moment without work. Of more, one goes with each segment that comes.
const MANY_OLD: u64 = 512;

/// Between two tries, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What a person should know, or the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It cannot be shipped, for now. It is tried again.
    Failing {
        /// Why.
        error: ShipError,
    },
    /// It is shipped again.
    Shipping {
        /// How long it was not.
        down: Duration,
    },
    /// All is shipped, and what is old cannot be put away: it takes room, and readers have more to read. It is tried again.
    Untidy {
        /// Why.
        error: ShipError,
    },
    /// What was old is put away.
    Tidy,
    /// Another copy of the town writes the log: this process must do nothing any more that others can see. Nothing is shipped
    /// after it.
    Fenced {
        /// What was found.
        error: ShipError,
    },
}

/// Makes a copy of all pages, and calls [`Outbox::is_copied`] at its moment. Nothing: there is no database any more.
pub type Copy = Box<dyn Fn(&Outbox) -> io::Result<Option<(PageCopy, u64)>> + Send>;

type Notify = Box<dyn Fn(Notice) + Send>;

/// Ships what is committed, until its end.
pub struct Ship {
    outbox: Arc<Outbox>,
    ended: Receiver<()>,
}

struct Worker {
    outbox: Arc<Outbox>,
    log: Log,
    copy: Copy,
    notify: Notify,
    every: Duration,
    /// Since the last copy of all pages.
    segments: u64,
    bytes: u64,
    copy_bytes: u64,
    failing_since: Option<Instant>,
    untidy: bool,
    /// A copy that the head does not lead to yet. Readers only have more to read meanwhile.
    head_due: Option<HeadDue>,
    /// An old segment that could not be removed is tried again.
    removes_again: Option<Again>,
}

struct HeadDue {
    first: First,
    again: Again,
}

/// When something is tried, and how long after that.
#[derive(Clone, Copy)]
struct Again {
    at: Instant,
    pause: Duration,
}

impl Again {
    fn now() -> Self {
        Self { at: Instant::now(), pause: AGAIN.0 }
    }

    fn later(self) -> Self {
        Self { at: Instant::now() + self.pause, pause: (self.pause * 2).min(AGAIN.1) }
    }
}

impl Opened {
    /// Where the town's objects are, for people.
    pub fn place(&self) -> String {
        format!("{}/{}", self.settings.to, self.settings.town.as_str())
    }

    /// Ships the workspaces in `folder`, and brings here what another machine has shipped of them. `None`: the settings do not
    /// say so, or it was begun already.
    pub fn archives(
        &mut self,
        folder: &Path,
        notify: impl Fn(&AgentId, ArchiveNotice) + Send + Sync + 'static,
    ) -> Result<Option<(Archives, Carrier)>, ShipError> {
        let Some((index, limit)) = self.index.take().zip(self.settings.workspace_bytes) else {
            return Ok(None);
        };
        Archives::begin(&self.settings, index, limit, folder, notify).map(Some)
    }

    /// Starts the thread.
    pub fn begin(self, copy: Copy, notify: impl Fn(Notice) + Send + 'static) -> io::Result<Ship> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = sync_channel(1);
        let outbox = Arc::clone(&self.outbox);
        let mut worker = Worker {
            outbox: self.outbox,
            log: self.log,
            copy,
            notify: Box::new(notify),
            every: self.settings.every,
            segments: 0,
            bytes: 0,
            copy_bytes: 0,
            failing_since: None,
            untidy: false,
            head_due: None,
            removes_again: None,
        };
        let work = move || {
            runtime.block_on(worker.work(&end));
            // A volume or a look-up of a name may hang for longer.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("bulkhead-ship".into()).spawn(work)?;
        Ok(Ship { outbox, ended })
    }
}

impl Ship {
    /// What was committed, and what of it is shipped.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Ships the rest and ends the log, within `patience`. Nothing that is committed later is shipped.
    pub fn finish(self, patience: Duration) -> Result<(), NotShipped> {
        self.outbox.end();
        self.ended.recv_timeout(patience).map_err(|_| {
            let reason = self.outbox.failing();
            NotShipped { reason: reason.unwrap_or_else(|| format!("no answer in {patience:?}")) }
        })
    }

    /// Ships nothing more, and leaves the log without an end.
    pub fn abandon(self, reason: &str) -> NotShipped {
        NotShipped { reason: reason.to_owned() }
    }
}

impl Drop for Ship {
    /// Nothing more is shipped but what is on its way.
    fn drop(&mut self) {
        self.outbox.abandon();
    }
}

impl Worker {
    async fn work(&mut self, end: &SyncSender<()>) {
        loop {
            let due = self.head_due.as_ref().map(|due| due.again.at);
            let worked = match self.outbox.todo() {
                Todo::Abandoned => return,
                _ if due.is_some_and(|at| at <= Instant::now()) => self.move_head().await,
                Todo::Nothing => self.rest(due).await,
                Todo::Pages { since, hurry } => {
                    let at = since + self.every;
                    if !hurry && Instant::now() < at {
                        self.rest(Some(at)).await
                    } else {
                        let waiting = self.outbox.take();
                        self.ship_changes(waiting).await
                    }
                }
                Todo::Copy => self.ship_copy().await,
                Todo::End => {
                    let ended = self.ship(Kind::End, (0, 0), &[], None).await.map(drop);
                    if ended.is_ok() {
                        let _ = end.try_send(());
                        return;
                    }
                    ended
                }
            };
            match worked {
                Ok(()) => {}
                Err(error @ (ShipError::Fenced { .. } | ShipError::Newer { .. })) => {
                    self.outbox.fails(&error.to_string());
                    return (self.notify)(Notice::Fenced { error });
                }
                // Nothing of it counts, and nothing is known of what was taken.
                Err(error) => {
                    self.fail(error);
                    self.outbox.wants_copy();
                    sleep(AGAIN.1).await;
                }
            }
        }
    }

    /// Nothing has to be shipped before this moment: what nobody reads any more goes, one segment at a time.
    async fn rest(&mut self, mut until: Option<Instant>) -> Result<(), ShipError> {
        if self.log.old_segments() > 0 {
            let at = self.removes_again.map_or(Instant::now(), |again| again.at);
            if at <= Instant::now() {
                return self.remove_oldest().await;
            }
            until = Some(until.map_or(at, |until| until.min(at)));
        }
        let filled = self.outbox.filled.notified();
        match until {
            Some(until) => _ = timeout_at(until.into(), filled).await,
            None => filled.await,
        }
        Ok(())
    }

    async fn remove_oldest(&mut self) -> Result<(), ShipError> {
        match self.log.remove_oldest().await {
            Ok(()) => {
                self.removes_again = None;
                self.is_tidy();
                Ok(())
            }
            // It takes room, and nothing else.
            Err(error) if error.may_pass() => {
                self.removes_again = Some(self.removes_again.unwrap_or_else(Again::now).later());
                self.is_untidy(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn ship_changes(&mut self, waiting: Waiting) -> Result<(), ShipError> {
        let Waiting { pages, size, through } = waiting;
        let pages: Vec<_> = pages.iter().map(|(number, page)| (*number, &**page)).collect();
        let made = self.ship(Kind::Changes, size, &pages, Some(through)).await?;
        self.segments += 1;
        self.bytes += made.bytes.len() as u64;
        if self.log.old_segments() > MANY_OLD && self.removes_again.is_none() {
            self.remove_oldest().await?;
        }
        let bound = COPY_AFTER_BYTES.max(4 * self.copy_bytes);
        if self.segments >= COPY_AFTER_SEGMENTS || self.bytes >= bound {
            self.outbox.wants_copy();
        }
        Ok(())
    }

    async fn ship_copy(&mut self) -> Result<(), ShipError> {
        let failed = |error: io::Error| ShipError::local("copy the database", &error);
        let Some((copy, through)) = (self.copy)(&self.outbox).map_err(failed)? else {
            return Err(ShipError::Local("there is no database to copy".into()));
        };
        let (size, count) = ((copy.page_bytes, copy.page_count), copy.page_count);
        let per_part = (PART_BYTES / copy.page_bytes).max(1);
        let (mut first, mut bytes) = (None, 0);
        for (part, begins) in (1..=count.max(1)).step_by(per_part as usize).enumerate() {
            let pages = per_part.min((count + 1).saturating_sub(begins));
            let read = copy.read(begins, pages).map_err(failed)?;
            let pages = read.chunks_exact(copy.page_bytes as usize).zip(begins..);
            let pages: Vec<_> = pages.map(|(page, number)| (number, page)).collect();
            let is_last = begins.saturating_add(per_part) > count;
            let kind = Kind::Copy { part: u32::try_from(part).unwrap_or(u32::MAX), is_last };
            let made = self.ship(kind, size, &pages, is_last.then_some(through)).await?;
            bytes += made.bytes.len() as u64;
            first.get_or_insert_with(|| made.first());
        }
        (self.segments, self.bytes, self.copy_bytes) = (0, 0, bytes);
        let Some(first) = first else { return Ok(()) };
        self.head_due = Some(HeadDue { first, again: Again::now() });
        Ok(())
    }

    async fn move_head(&mut self) -> Result<(), ShipError> {
        let Some(due) = self.head_due.take() else { return Ok(()) };
        match self.log.begin_at(&due.first).await {
            Ok(()) => {
                self.is_tidy();
                Ok(())
            }
            // What is shipped is shipped.
            Err(error) if error.may_pass() => {
                self.head_due = Some(HeadDue { again: due.again.later(), ..due });
                self.is_untidy(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a segment and writes it, however often that takes. `through`: with it all
    /// commits up to this one are shipped.
    async fn ship(
        &mut self,
        kind: Kind,
        size: (u32, u32),
        pages: &[(u32, &[u8])],
        through: Option<u64>,
    ) -> Result<Made, ShipError> {
        let made = self.log.make(kind, size, pages.iter().copied())?;
        let mut pause = AGAIN.0;
        loop {
            match self.log.append(&made).await {
                Ok(()) => break,
                Err(error) if error.may_pass() && self.outbox.todo() != Todo::Abandoned => {
                    self.fail(error);
                }
                Err(error) => return Err(error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
        self.is_well();
        self.outbox.is_shipped(made.bytes.len(), through);
        Ok(made)
    }

    fn is_well(&mut self) {
        if let Some(since) = self.failing_since.take() {
            self.outbox.is_well();
            (self.notify)(Notice::Shipping { down: since.elapsed() });
        }
    }

    fn fail(&mut self, error: ShipError) {
        self.outbox.fails(&error.to_string());
        if self.failing_since.is_none() {
            self.failing_since = Some(Instant::now());
            (self.notify)(Notice::Failing { error });
        }
    }

    fn is_tidy(&mut self) {
        let is_tidy = self.head_due.is_none() && self.removes_again.is_none();
        if is_tidy && std::mem::take(&mut self.untidy) {
            (self.notify)(Notice::Tidy);
        }
    }

    fn is_untidy(&mut self, error: ShipError) {
        if !std::mem::replace(&mut self.untidy, true) {
            (self.notify)(Notice::Untidy { error });
        }
    }
}
