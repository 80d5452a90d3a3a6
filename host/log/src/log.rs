//! The log: a bounded buffer and one thread that writes.
//!
//! `record` renders the line, takes the next `seq`, and queues it, all without waiting for the writer. A record that is
//! longer than a line may be takes a number for each of its parts, one after the other, and is queued or dropped whole.
//! The writer takes the whole queue at once and writes without holding the lock, so a blocked stdout
//! stalls nothing but itself. When the buffer is full the line is dropped and counted; its
//! `seq` is spent, and the gap is the reader's proof. An output that refuses bytes, like a full disk, costs the
//! lines of which it took nothing; half a line is completed as soon as it takes bytes again.

mod held;
mod lines;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_account::{Account, Charge};
use bulkhead_terminal::Look;
use bulkhead_types::{Event, HostKind, Level};
use parking_lot::{Condvar, Mutex};

use crate::line;
use crate::{RunContext, Sink, now};
use held::HeldCrashes;
use lines::LineWriter;

/// How long the writer lets lines gather before it writes. Without it every line of a busy host would
/// cost a wake-up of the writer, on a core that an agent could use.
const LINGER: Duration = Duration::from_millis(1);

/// How lines look.
#[derive(Debug, Clone)]
pub enum Format {
    /// One JSON object a line: the contract.
    Json,
    /// For a person at a terminal. Not a contract.
    Text(Look),
}

impl Format {
    /// What a log of `context` writes of `event`, from number `seq` on: one line, or parts of at most `max_bytes`.
    pub fn lines(&self, event: &Event, context: &RunContext, seq: u64, max_bytes: usize) -> String {
        match self {
            Self::Json => {
                let drafts = line::lines(event, now(), context, max_bytes);
                let mut lines = String::new();
                drafts.iter().zip(seq..).for_each(|(draft, seq)| draft.write(seq, &mut lines));
                lines
            }
            Self::Text(look) => look.line(event, now(), max_bytes).unwrap_or_default(),
        }
    }
}

/// How a log is set up.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// How lines look.
    pub format: Format,
    /// Less important lines are not written and get no `seq`.
    pub level: Level,
    /// Bytes that may wait for the writer. Lines of the host of level `error` and `fatal` may take half
    /// as much again, so that they are the last to go.
    pub buffer_bytes: usize,
    /// Longest line, with its newline, at least [`LogConfig::MIN_LINE_BYTES`]. A record that needs more comes in parts.
    pub max_line_bytes: usize,
}

impl LogConfig {
    /// The smallest `max_line_bytes`: with less, the fields that every part has would leave no room.
    pub const MIN_LINE_BYTES: usize = 4 * 1024;

    /// What platforms pass on whole: Docker's json-file driver and containerd cut at 16 KiB.
    pub const MAX_LINE_BYTES: usize = 16 * 1024;
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: Format::Json,
            level: Level::Info,
            buffer_bytes: 8 * 1024 * 1024,
            max_line_bytes: Self::MAX_LINE_BYTES,
        }
    }
}

/// The log of one run.
pub struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    context: Arc<RunContext>,
    config: LogConfig,
    queue: Mutex<Queue>,
    filled: Condvar,
    hurry: Condvar,
    drained: Condvar,
    /// `next_seq` of the queue, for those who only look.
    numbered: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Waiting>,
    bytes: usize,
    next_seq: u64,
    writing: bool,
    /// Threads in `flush`: the writer hurries, and wakes them.
    flushing: usize,
    closed: bool,
    /// Crashes that a person is shown when their files and lines are known.
    crashes: HeldCrashes,
}

/// A line that waits for the writer.
struct Waiting {
    level: Level,
    seq: u64,
    draft: Draft,
    /// Of the agent that caused it, for all parts of a record with the last one.
    _held: Option<Charge>,
}

/// How an event stands to the others of its run.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    Plain,
    /// It has a reserve of the buffer.
    Error,
    /// The end of the run: nothing comes after it, whatever its threads are still at.
    Last,
}

impl Standing {
    fn of(event: &Event) -> Self {
        match event {
            Event::Stopped(_) => Self::Last,
            // Guests choose the level of their lines, so theirs do not reach the reserve.
            Event::AgentLog { .. } => Self::Plain,
            _ if event.level() >= Level::Error => Self::Error,
            _ => Self::Plain,
        }
    }
}

/// What is written of an event.
enum Draft {
    Json(line::Draft),
    /// Lines for a person.
    Text(String),
}

impl Draft {
    /// What it takes with its number, at most.
    fn bytes(&self) -> usize {
        match self {
            Self::Json(draft) => draft.bytes(),
            Self::Text(text) => text.len(),
        }
    }

    /// Adds it as number `seq`.
    fn write(&self, seq: u64, into: &mut String) {
        match self {
            Self::Json(draft) => draft.write(seq, into),
            Self::Text(text) => into.push_str(text),
        }
    }
}

impl Log {
    /// Starts the writer thread on `output`.
    pub fn start(
        config: LogConfig,
        context: Arc<RunContext>,
        output: Box<dyn Write + Send>,
    ) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            context,
            config,
            queue: Mutex::default(),
            filled: Condvar::new(),
            hurry: Condvar::new(),
            drained: Condvar::new(),
            numbered: AtomicU64::new(0),
        });
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("bulkhead-log".into())
            .spawn(move || for_writer.write_all_lines(output))?;
        Ok(Arc::new(Self { shared, writer: Mutex::new(Some(writer)) }))
    }

    /// Shows a text to a person, if the log is for one. Takes a number like a line.
    pub fn show(&self, text: impl FnOnce(&Look) -> String) {
        if let Format::Text(look) = &self.shared.config.format {
            self.shared.queue(Level::Info, vec![Draft::Text(text(look))], None, Standing::Plain);
        }
    }

    /// What every line has in common.
    pub fn context(&self) -> &Arc<RunContext> {
        &self.shared.context
    }

    /// Lines dropped so far in this run.
    pub fn dropped(&self) -> u64 {
        self.shared.context.counts().dropped_lines()
    }

    /// The number of the last line that was given one, whether it is written yet or not.
    pub fn last_seq(&self) -> Option<u64> {
        self.shared.numbered.load(Relaxed).checked_sub(1)
    }

    /// Waits until everything queued is written, or `patience` is over. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let waits = |queue: &mut Queue| !queue.lines.is_empty() || queue.writing;
        let mut queue = self.shared.queue.lock();
        queue.flushing += 1;
        self.shared.show_crashes(&mut queue, None);
        self.shared.filled.notify_one();
        self.shared.hurry.notify_one();
        self.shared.drained.wait_while_for(&mut queue, waits, patience);
        queue.flushing -= 1;
        !waits(&mut queue)
    }

    /// Writes what is queued, for `patience` at most, and ends the writer. Later lines are dropped, as those after
    /// `container.stopped` are.
    pub fn close(&self, patience: Duration) {
        let flushed = self.flush(patience);
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_all();
        self.shared.hurry.notify_all();
        let writer = self.writer.lock().take();
        // A writer that is stuck in a blocked output is left behind.
        if let (true, Some(writer)) = (flushed, writer) {
            let _ = writer.join();
        }
    }
}

impl Sink for Log {
    fn record(&self, event: Event) {
        self.shared.record(&event, None);
    }

    fn record_for(&self, event: Event, account: &Arc<Account>) {
        self.shared.record(&event, Some(account));
    }
}

impl Shared {
    fn record(&self, event: &Event, account: Option<&Arc<Account>>) {
        self.context.counts().count(event);
        let level = event.level();
        let standing = Standing::of(event);
        match &self.config.format {
            Format::Json if level < self.config.level => {}
            Format::Json => {
                let drafts = line::lines(event, now(), &self.context, self.config.max_line_bytes);
                let drafts = drafts.into_iter().map(Draft::Json).collect();
                self.queue(level, drafts, account, standing);
            }
            Format::Text(look) => {
                if let Some(text) = self.text(event, look) {
                    self.queue(level, vec![Draft::Text(text)], account, standing);
                }
            }
        }
    }

    /// What a person is shown of an event now.
    fn text(&self, event: &Event, look: &Look) -> Option<String> {
        let is_shown = event.level() >= self.config.level;
        match event {
            Event::AgentCrash(record) if is_shown => {
                let mut queue = self.queue.lock();
                let no_room = queue.crashes.hold(record, Instant::now());
                drop(queue);
                // The writer has a new time to wait for.
                self.filled.notify_one();
                no_room.map(|record| look.crash(&record))
            }
            Event::CrashSymbolized { crash_id, frames, symbolized, .. } => {
                let held = self.queue.lock().crashes.symbolized(crash_id, frames, *symbolized);
                match held {
                    Some(record) => Some(look.crash(&record)),
                    None if is_shown => look.line(event, now(), self.config.max_line_bytes),
                    None => None,
                }
            }
            event if is_shown => look.line(event, now(), self.config.max_line_bytes),
            _ => None,
        }
    }

    /// Queues the crashes that were held until `due`; without it, all.
    fn show_crashes(&self, queue: &mut Queue, due: Option<Instant>) {
        let Format::Text(look) = &self.config.format else { return };
        if queue.closed {
            return;
        }
        for record in queue.crashes.due(due) {
            let draft = Draft::Text(look.crash(&record));
            let seq = self.take_numbers(queue, 1);
            queue.bytes += held(&draft);
            queue.lines.push_back(Waiting { level: Level::Error, seq, draft, _held: None });
        }
    }

    /// Queues lines that belong together, or drops all of them.
    fn queue(
        &self,
        level: Level,
        drafts: Vec<Draft>,
        account: Option<&Arc<Account>>,
        standing: Standing,
    ) {
        let bytes: usize = drafts.iter().map(held).sum();
        // Before the queue is locked: an account may have something to record itself.
        let charge = |account: &Arc<Account>| account.charge(HostKind::Log, bytes as u64);
        let Ok(mut charge) = account.map(charge).transpose() else {
            return self.lose(level, drafts.len());
        };
        let reserve = if standing == Standing::Plain { 0 } else { self.config.buffer_bytes / 2 };
        let room = self.config.buffer_bytes + reserve;
        let (mut queue, count) = (self.queue.lock(), drafts.len());
        let is_last = standing == Standing::Last;
        if is_last {
            self.show_crashes(&mut queue, None);
        }
        let seq = self.take_numbers(&mut queue, count);
        if queue.closed || queue.bytes + bytes > room {
            return self.context.counts().drop_lines(level, count);
        }
        queue.bytes += bytes;
        queue.closed = is_last;
        let was_empty = queue.lines.is_empty();
        for (part, (seq, draft)) in (1..).zip((seq..).zip(drafts)) {
            let _held = if part == count { charge.take() } else { None };
            queue.lines.push_back(Waiting { level, seq, draft, _held });
        }
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// The number of the first of so many lines.
    fn take_numbers(&self, queue: &mut Queue, count: usize) -> u64 {
        let seq = queue.next_seq;
        queue.next_seq += count as u64;
        self.numbered.store(queue.next_seq, Relaxed);
        seq
    }

    /// Drops lines before they had their place: their numbers are spent all the same.
    fn lose(&self, level: Level, count: usize) {
        self.take_numbers(&mut self.queue.lock(), count);
        self.context.counts().drop_lines(level, count);
    }

    fn write_all_lines(&self, output: Box<dyn Write + Send>) {
        let mut writer = LineWriter::new(output);
        let lose = |level| self.context.counts().drop_lines(level, 1);
        let mut text = String::new();
        while let Some(lines) = self.next_batch() {
            let bytes: usize = lines.iter().map(|line| held(&line.draft)).sum();
            // A line is let go as soon as it is with the writer, so that nothing is there twice.
            for Waiting { level, seq, draft, .. } in lines {
                text.clear();
                draft.write(seq, &mut text);
                writer.add(&text, level);
                if writer.is_full() {
                    writer.write(lose);
                }
            }
            writer.write(lose);
            let mut queue = self.queue.lock();
            queue.bytes -= bytes;
            queue.writing = false;
            if queue.flushing > 0 {
                self.drained.notify_all();
            }
        }
    }

    /// Everything that waits, or nothing once the log is closed and empty.
    fn next_batch(&self) -> Option<VecDeque<Waiting>> {
        let mut queue = self.queue.lock();
        loop {
            let now = Instant::now();
            self.show_crashes(&mut queue, Some(now));
            if !queue.lines.is_empty() {
                break;
            }
            if queue.closed {
                return None;
            }
            match queue.crashes.next_due() {
                None => self.filled.wait(&mut queue),
                Some(due) => _ = self.filled.wait_until(&mut queue, due),
            }
        }
        if queue.flushing == 0 && !queue.closed {
            self.hurry.wait_for(&mut queue, LINGER);
        }
        queue.writing = true;
        Some(std::mem::take(&mut queue.lines))
    }
}

/// What a line that waits takes in memory, as good as exactly.
fn held(draft: &Draft) -> usize {
    draft.bytes() + size_of::<Waiting>()
}

#[cfg(test)]
mod tests;
