//! What is found out about a crash after its record was written: the places of the sources of what was thrown, files and
//! lines of its frames, and its core dump. None of it holds up the agent's next incarnation.
//!
//! ```text
//!   end ─▶ record ─▶ slot is free, next incarnation
//!            ├─ code of a bundler ─▶ places of its sources ─▶ record again, log line, answers to callers that wait for the turn
//!            │                         at most MAPPING
//!            └─ then: lines of the frames, core dump
//! ```

use std::sync::Arc;
use std::time::Duration;

use bulkhead_runtime::{PendingDump, Symbolizing};
use bulkhead_types::crash::CoreDumpRef;
use bulkhead_types::{CrashRecord, Event, Exception, Exit};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::container::CrashFollowUpGuard;
use crate::engine::Mapping;
use crate::incarnation::IncarnationState;

/// How long the line of a crash waits for the places of its sources, of all crashes before it as well.
const MAPPING: Duration = Duration::from_secs(2);

/// Resolves when a crash is logged: with the places of its sources, or without them, or never.
#[derive(Clone)]
pub(crate) struct Logged(watch::Receiver<()>);

impl Logged {
    pub(crate) async fn wait(mut self) {
        // Nothing is sent: the sender goes.
        while self.0.changed().await.is_ok() {}
    }
}

/// What is still to come of one crash.
pub(crate) struct CrashFollowUp {
    state: Arc<IncarnationState>,
    crash_id: String,
    pub symbolizing: Option<Symbolizing>,
    keeping: Option<PendingDump>,
    /// `None`: it is logged already.
    logged: Option<Logged>,
    /// From the report on: a drain that sees the end of the agent waits for what follows.
    _counted: CrashFollowUpGuard,
}

impl CrashFollowUp {
    /// Nothing, yet.
    pub(crate) fn of(state: Arc<IncarnationState>, crash_id: String) -> Self {
        let counted = state.start.container.crash_follow_up_begins();
        Self { state, crash_id, symbolizing: None, keeping: None, logged: None, _counted: counted }
    }

    /// Logs the record when the places of its sources are known, and puts it into the store once more. Begins at once, on a
    /// task of the slow lane: the end of the incarnation waits for none of it.
    pub(crate) fn map(&mut self, record: Arc<CrashRecord>, exit: Exit, mapping: Mapping) {
        let (logging, logged) = watch::channel(());
        self.logged = Some(Logged(logged));
        let state = Arc::clone(&self.state);
        let counted = state.start.container.crash_follow_up_begins();
        let name = format!("sources of crash {}", self.crash_id);
        let spawner = state.start.container.slow_spawner();
        spawner.spawn(name, async move {
            let record = match timeout(MAPPING, mapping).await {
                Ok(Some(mapped)) => with_exceptions(&record, exit, mapped),
                Ok(None) | Err(_) => record,
            };
            state.start.container.crashes.put(Arc::clone(&record));
            state.record(Event::AgentCrash(record));
            drop((logging, counted));
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// What callers wait for that are to read the record.
    pub(crate) fn logged(&self) -> Option<Logged> {
        self.logged.clone()
    }

    /// A core dump is being written as well.
    pub(crate) fn with_core_dump(self, keeping: Option<PendingDump>) -> Self {
        Self { keeping, ..self }
    }

    /// Waits for it on a task of its own, when there is something to wait for. It is on the slow lane: names of functions
    /// are the guest's, and the record with all of them can have a hundred kilobytes.
    pub(crate) fn spawn(self) {
        if self.symbolizing.is_none() && self.keeping.is_none() {
            return;
        }
        let container = &self.state.start.container;
        let spawner = container.slow_spawner();
        let name = format!("follow-up of crash {}", self.crash_id);
        spawner.spawn(name, async move {
            self.see_through().await;
            Ok::<_, std::convert::Infallible>(())
        });
    }

    async fn see_through(mut self) {
        // Only one at a time changes the record.
        if let Some(logged) = self.logged.take() {
            logged.wait().await;
        }
        if let Some(symbolizing) = self.symbolizing.take() {
            let found = symbolizing.await;
            let crashes = &self.state.start.container.crashes;
            crashes.update_frames(&self.crash_id, found.frames.clone(), found.status);
            self.state.record(Event::CrashSymbolized {
                agent: self.state.tag(),
                crash_id: self.crash_id.clone(),
                symbolized: found.status,
                frames: found.frames.clone(),
                unavailable: found.reason.map(|reason| reason.to_string()),
            });
        }
        if let Some(keeping) = self.keeping.take() {
            match keeping.await {
                Ok(kept) => {
                    let note = kept.note.map(str::to_owned);
                    self.kept(CoreDumpRef { id: kept.file, bytes: kept.bytes, note });
                }
                Err(error) => {
                    let (agent, crash_id) = (self.state.id(), &self.crash_id);
                    tracing::warn!(%agent, crash_id, %error, "core dump was not kept");
                }
            }
        }
    }

    fn kept(&self, core_dump: CoreDumpRef) {
        let crashes = &self.state.start.container.crashes;
        if let Some(record) = crashes.get(&self.crash_id) {
            let core_dump = Some(core_dump.clone());
            crashes.put(Arc::new(CrashRecord { core_dump, ..CrashRecord::clone(&record) }));
        }
        self.state.record(Event::CoreDumpKept {
            agent: self.state.tag(),
            crash_id: self.crash_id.clone(),
            core_dump,
        });
    }
}

/// A record with other places of what was thrown, and the fingerprint that follows from them.
fn with_exceptions(
    record: &CrashRecord,
    exit: Exit,
    exceptions: Vec<Exception>,
) -> Arc<CrashRecord> {
    let exit = exit.with_exceptions(exceptions);
    Arc::new(CrashRecord {
        fingerprint: exit.fingerprint(),
        location: exit.location,
        exceptions: exit.exceptions,
        ..record.clone()
    })
}
