//! Evidence of this run on its way to the sink, and what the sink has of earlier ones.
//!
//! ```text
//!   crash records ──▶ Shipped ──▶ the store of crash records          boot ◀── AtSink: what earlier runs left
//!                        └──────▶ the sink ◀── black box, database
//! ```

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bulkhead_blackbox::BlackBox;
use bulkhead_blackbox::previous::{Observations, judge};
use bulkhead_evidence::{AgentHistory, Content, Evidence, Fault, Left, LeftRun, Notice, ThisRun};
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_memory::Kernel;
use bulkhead_store::Database;
use bulkhead_store::crashes::{CrashStore, Filter, Page, SinkStats, Stats};
use bulkhead_store::database::{AgentRow, Private, TownKnows, Wanted};
use bulkhead_supervisor::without_secrets;
use bulkhead_types::event::{EvidenceAvailable, EvidenceFailed, EvidenceFound, EvidenceLate};
use bulkhead_types::time::millis;
use bulkhead_types::{CrashRecord, Event, Frames, Incarnation, Symbolized};
use parking_lot::Mutex;

use crate::config::EvidenceSettings;
use crate::failure::Failure;

/// How long readiness waits until the sink knows of the run.
pub const ANNOUNCED: Duration = Duration::from_secs(1);

/// How long the end of a run waits until its last word is at the sink.
pub const LAST_WORD: Duration = Duration::from_secs(2);

/// The same of a process that dies of a panic. A disk that others use takes longer than half a second at times.
pub const AT_PANIC: Duration = Duration::from_secs(2);

/// What the sink said at boot.
pub struct AtSink {
    pub evidence: Evidence,
    /// Without credentials.
    pub sink: String,
    pub waited: Duration,
    pub left: Result<Left, Fault>,
}

impl AtSink {
    /// Asks the sink, if there is one, and waits for its answer within a deadline.
    pub fn ask(settings: Option<&EvidenceSettings>) -> Result<Option<Self>, Failure> {
        let Some(EvidenceSettings { settings, .. }) = settings else { return Ok(None) };
        let began = Instant::now();
        let started = Evidence::start(settings.clone());
        let (evidence, left) =
            started.map_err(|error| Failure::cannot_run("cannot store evidence", &error))?;
        let (sink, waited) = (settings.sink.to_string(), began.elapsed());
        Ok(Some(Self { evidence, sink, waited, left }))
    }

    /// The newest run that the sink knows, if it answers.
    pub fn run(&self) -> Result<Option<&LeftRun>, &Fault> {
        self.left.as_ref().map(|left| left.run.as_ref())
    }

    /// The newest run that the sink knows.
    pub fn last_run(&self) -> Option<&LeftRun> {
        self.run().ok().flatten()
    }

    /// Documents that are not believed, one sentence each.
    pub fn damaged(&self) -> &[String] {
        self.left.as_ref().map_or(&[], |left| &left.damaged)
    }

    /// The highest number of a run at the sink.
    pub fn epoch(&self) -> u64 {
        self.left.as_ref().map_or(0, |left| left.epoch)
    }

    /// Crash records that are not among these, oldest first.
    pub fn other_crashes(&self, known: &[Arc<CrashRecord>]) -> Vec<Arc<CrashRecord>> {
        let Ok(left) = &self.left else { return Vec::new() };
        let is_known = |record: &CrashRecord| known.iter().any(|it| it.crash_id == record.crash_id);
        left.crashes.iter().filter(|record| !is_known(record)).cloned().collect()
    }

    /// What the first lines of the log say of it.
    pub fn event(&self, is_believed: bool, crash_records: usize, agents: usize) -> Option<Event> {
        // The thread reports a failure.
        let left = self.left.as_ref().ok()?;
        let run = left.run.as_ref();
        Some(Event::EvidenceFound(EvidenceFound {
            sink: self.sink.clone(),
            duration_ms: millis(self.waited),
            previous_run_id: run.map(|run| run.run_id.clone()),
            written_at: run.map(|run| run.written_at),
            believed: match run {
                None => "nobody",
                Some(_) if is_believed => "sink",
                Some(_) => "disk",
            },
            crash_records,
            agents,
            damaged: left.damaged.clone(),
        }))
    }
}

/// Rows for agents of which the sink knows numbers and histories. Nobody wants them for that.
pub fn rows(run: &LeftRun) -> Vec<AgentRow> {
    let row = |agent: &AgentHistory| AgentRow {
        id: agent.id.clone(),
        // A boot is a new chance for it, as for one that was left down.
        wanted: Wanted::Failed,
        incarnation: agent.goes_on_after(),
        order: agent.order.as_ref().map(|order| Private::from(order.get().to_owned())),
        settings: None,
        restarts: Arc::clone(&agent.restarts),
        changed_at: agent.changed_at,
        town_knows: TownKnows::No,
    };
    run.agents.iter().map(row).collect()
}

fn history(row: AgentRow) -> AgentHistory {
    let is_quarantined = row.restarts.quarantine.is_some();
    let order = row.order.filter(|_| is_quarantined).and_then(|order| without_secrets(&order));
    let AgentRow { id, incarnation, restarts, changed_at, .. } = row;
    AgentHistory { id, incarnation, restarts, order, changed_at }
}

/// Where a digest is made from.
pub struct Sources {
    pub blackbox: BlackBox,
    pub database: Weak<Database>,
}

impl Sources {
    /// What there is now. Of a database that is gone, what was there the last time.
    fn content(&self, last: &Mutex<(Vec<AgentHistory>, Incarnation)>) -> Content {
        let mut last = last.lock();
        if let Some(database) = self.database.upgrade() {
            let agents = database.agents().into_iter().map(history).collect();
            *last = (agents, database.forgotten());
        }
        let (agents, forgotten) = last.clone();
        Content { blackbox: self.blackbox.contents(), agents, forgotten }
    }
}

/// The run begins: its evidence is stored from now on. What goes wrong, and what comes late, is logged.
pub fn begin(evidence: &Evidence, run: ThisRun, sources: Sources, late: Late) {
    let last = Mutex::default();
    let content = move || sources.content(&last);
    evidence.begin(run, content, move |notice| late.notice(notice));
}

/// What is done about notices.
pub struct Late {
    pub sink: SharedSink,
    pub context: Arc<RunContext>,
    /// Records that come late go here. The store ends with the host, and not with the thread that has this.
    pub crashes: Weak<dyn CrashStore>,
    /// The run whose end was reported at boot.
    pub reported: Option<String>,
}

impl Late {
    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Failed { doing, fault } => {
                let cause = fault.cause.as_str();
                let fingerprint = format!("evidence:{doing}:{cause}");
                let Some(repeated) = self.context.take_repeat(&fingerprint) else { return };
                let message = fault.message;
                self.sink.record(Event::EvidenceFailed(EvidenceFailed {
                    doing,
                    cause,
                    message,
                    fingerprint,
                    repeated,
                }));
            }
            Notice::Available { down } => {
                self.sink
                    .record(Event::EvidenceAvailable(EvidenceAvailable { down_ms: millis(down) }));
            }
            Notice::Late(left) => self.late(*left),
        }
    }

    fn late(&self, left: Left) {
        let Some(crashes) = self.crashes.upgrade() else { return };
        let is_new = |record: &&Arc<CrashRecord>| crashes.get(&record.crash_id).is_none();
        let records: Vec<_> = left.crashes.iter().filter(is_new).cloned().collect();
        records.iter().for_each(|record| crashes.put(Arc::clone(record)));
        drop(crashes);
        let Some(LeftRun { run_id, previous: Some(previous), .. }) = left.run else { return };
        if self.reported.as_ref() == Some(&run_id) {
            return;
        }
        let kernel = Kernel::here();
        let (boot_id, memory) = (kernel.boot_id(), kernel.counters());
        let judged = judge(&previous, &Observations { boot_id, memory, ..Observations::default() });
        self.sink.record(Event::EvidenceLate(EvidenceLate {
            previous_run_id: run_id,
            cause: judged.cause,
            confidence: judged.confidence,
            evidence: judged.evidence,
            crash_records: records.len(),
        }));
    }
}

/// Crash records that go to the sink as well.
pub struct Shipped {
    pub kept: Arc<dyn CrashStore>,
    pub evidence: Evidence,
}

impl CrashStore for Shipped {
    fn put(&self, record: Arc<CrashRecord>) {
        self.kept.put(Arc::clone(&record));
        self.evidence.crashed(record);
    }

    fn update_frames(&self, crash_id: &str, frames: Frames, symbolized: Symbolized) {
        self.kept.update_frames(crash_id, frames, symbolized);
        if let Some(record) = self.kept.get(crash_id) {
            self.evidence.crashed(record);
        }
    }

    fn get(&self, crash_id: &str) -> Option<Arc<CrashRecord>> {
        self.kept.get(crash_id)
    }

    fn list(&self, filter: &Filter) -> Page {
        self.kept.list(filter)
    }

    fn stats(&self) -> Stats {
        let figures = self.evidence.figures();
        let sink = SinkStats {
            stored: figures.stored,
            failed: figures.failed,
            dropped: figures.dropped,
            age: figures.age,
            failing: figures.failing,
        };
        Stats { sink: Some(sink), ..self.kept.stats() }
    }
}
