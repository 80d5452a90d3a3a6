//! What is found out about a crash after its record was written: files and lines of its frames, and its core
//! dump. Neither holds up the agent's next incarnation.

use std::sync::Arc;

use bulkhead_runtime::{PendingDump, Symbolizing};
use bulkhead_types::crash::CoreDumpRef;
use bulkhead_types::{CrashRecord, Event};

use crate::container::CrashFollowUpGuard;
use crate::incarnation::IncarnationState;

/// What is still to come of one crash.
pub(crate) struct CrashFollowUp {
    state: Arc<IncarnationState>,
    crash_id: String,
    pub symbolizing: Option<Symbolizing>,
    keeping: Option<PendingDump>,
    /// From the report on: a drain that sees the end of the agent waits for what follows.
    _counted: CrashFollowUpGuard,
}

impl CrashFollowUp {
    /// Nothing, yet.
    pub(crate) fn of(state: Arc<IncarnationState>, crash_id: String) -> Self {
        let counted = state.start.container.crash_follow_up_begins();
        Self { state, crash_id, symbolizing: None, keeping: None, _counted: counted }
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
