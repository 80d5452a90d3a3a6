//! What an agent shows: its state, and figures that others may read at any time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bulkhead_log::now;
use bulkhead_tasks::watched;
use bulkhead_types::time::micros;
use bulkhead_types::{AgentState, ExitSummary, Incarnation, Input, RunningTool, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::changes::Changes;
use crate::tools_in_use::{ToolInUse, ToolsInUse};

/// The state, as it is handed to watchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The agent's state.
    pub state: AgentState,
    /// How it ended, once it has.
    pub exit: Option<ExitSummary>,
    /// When it is restarted, while it is in backoff.
    pub restart_at: Option<Timestamp>,
}

/// What an end leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterEnd {
    Stay,
    Backoff(Timestamp),
    Quarantine,
}

/// Publishes one incarnation's state, and figures beside it.
pub struct StatePublisher {
    state: watch::Sender<Published>,
    /// 0: none yet.
    incarnation: AtomicU64,
    started_at_ms: AtomicI64,
    asked_for: Instant,
    /// Microseconds from `asked_for` to the beginning.
    waited_us: AtomicU64,
    last_activity_ms: AtomicI64,
    messages: AtomicU64,
    turns: AtomicU64,
    active_tools: Mutex<Vec<String>>,
    tools: ToolsInUse,
    changes: Changes,
}

impl StatePublisher {
    /// Publishes `starting`, of an incarnation that may not have its number yet. Its changes, but for turns,
    /// count as `changes`.
    pub(crate) fn new(number: Option<Incarnation>, changes: Changes) -> Self {
        changes.happened();
        let published = Published { state: AgentState::Starting, exit: None, restart_at: None };
        let started_at = now();
        Self {
            state: watch::Sender::new(published),
            incarnation: AtomicU64::new(number.map_or(0, |number| number.0)),
            started_at_ms: AtomicI64::new(started_at.0),
            asked_for: Instant::now(),
            waited_us: AtomicU64::new(0),
            last_activity_ms: AtomicI64::new(started_at.0),
            messages: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            active_tools: Mutex::default(),
            tools: ToolsInUse::default(),
            changes,
        }
    }

    /// Which incarnation it is, once it has a number.
    pub fn incarnation(&self) -> Option<Incarnation> {
        let number = self.incarnation.load(Relaxed);
        (number > 0).then_some(Incarnation(number))
    }

    pub(crate) fn assign(&self, number: Incarnation) {
        self.incarnation.store(number.0, Relaxed);
        self.changes.happened();
    }

    /// The one place where the state changes: notifies watchers and stamps the activity. A transition
    /// that makes no sense is a bug of the agent's task; it is logged and the state stays.
    pub(crate) fn transition(&self, input: Input) {
        self.transitions(&[input], |_| {});
    }

    /// The end, and what follows from it, as one change.
    pub(crate) fn end(&self, exit: ExitSummary, normal: bool, then: AfterEnd) {
        let ended = Input::Ended { normal };
        let inputs = match then {
            AfterEnd::Backoff(_) => &[ended, Input::RetryScheduled][..],
            AfterEnd::Quarantine => &[ended, Input::Quarantine],
            AfterEnd::Stay => &[ended],
        };
        self.active_tools.lock().clear();
        self.transitions(inputs, |published| {
            published.exit = Some(exit);
            published.restart_at = match then {
                AfterEnd::Backoff(at) => Some(at),
                AfterEnd::Quarantine | AfterEnd::Stay => None,
            };
        });
    }

    /// A backoff that nothing follows.
    pub(crate) fn end_backoff(&self) {
        self.transitions(&[Input::StopRequested], |published| published.restart_at = None);
    }

    fn transitions(&self, inputs: &[Input], change: impl FnOnce(&mut Published)) {
        self.touch();
        if inputs.contains(&Input::TurnBegan) {
            self.turns.fetch_add(1, Relaxed);
        }
        watched::modify(&self.state, |published| {
            for input in inputs {
                match published.state.transition(*input) {
                    Ok(next) => published.state = next,
                    Err(invalid) => {
                        tracing::error!(%invalid, "an agent's task asked for a wrong transition");
                        return;
                    }
                }
            }
            change(published);
        });
        if !matches!(inputs, [Input::TurnBegan | Input::TurnEnded]) {
            self.changes.happened();
        }
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<Published> {
        self.state.subscribe()
    }

    /// The state now.
    pub fn state(&self) -> AgentState {
        self.state.borrow().state
    }

    /// State and exit together.
    pub fn published(&self) -> Published {
        self.state.borrow().clone()
    }

    /// The incarnation begins now: what it waited for before does not count.
    pub(crate) fn begin(&self) {
        self.started_at_ms.store(now().0, Relaxed);
        self.waited_us.store(micros(self.asked_for.elapsed()), Relaxed);
    }

    /// How long it is since then, whatever became of the wall clock meanwhile.
    pub(crate) fn age(&self) -> Duration {
        let waited = Duration::from_micros(self.waited_us.load(Relaxed));
        self.asked_for.elapsed().saturating_sub(waited)
    }

    /// When this incarnation began; while it waits for its turn, when it was asked for.
    pub fn started_at(&self) -> Timestamp {
        Timestamp(self.started_at_ms.load(Relaxed))
    }

    /// When something last happened.
    pub fn last_activity_at(&self) -> Timestamp {
        Timestamp(self.last_activity_ms.load(Relaxed))
    }

    pub(crate) fn touch(&self) {
        self.last_activity_ms.store(now().0, Relaxed);
    }

    pub(crate) fn count_message(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// Messages taken from the mailbox.
    pub fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// Turns begun.
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    pub(crate) fn set_active_tools(&self, tools: Vec<String>) {
        self.touch();
        *self.active_tools.lock() = tools;
    }

    /// The tools that the agent said it is using.
    pub fn active_tools(&self) -> Vec<String> {
        self.active_tools.lock().clone()
    }

    /// The native programs that it runs.
    pub(crate) fn tools(&self) -> &ToolsInUse {
        &self.tools
    }

    /// The native programs that run for it now.
    pub fn running_tools(&self) -> Vec<RunningTool> {
        self.tools.running()
    }

    /// The same, as those that could go for their memory.
    pub fn tools_in_use(&self) -> Vec<ToolInUse> {
        self.tools.all()
    }

    /// Their memory, in bytes.
    pub fn tool_bytes(&self) -> u64 {
        self.tools.memory_bytes()
    }
}
