//! What an incarnation uses of language models, and what follows when that is too much.
//!
//! ```text
//!   guest ─▶ may_ask ─▶ Ledger::admit ─ refused ─▶ event, `budget-exceeded`, and a stop order if the role wants one
//!   its answer ─▶ asked ─▶ Ledger::record ─▶ event at 80 %, rows for the database
//!   tool calls, ends of turns ─▶ Book ─▶ Stuck ─▶ event, stop order
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bulkhead_feed::Ring;
use bulkhead_log::now;
use bulkhead_runtime::ShutdownReason;
use bulkhead_types::event::{AgentStuck, AgentTag, ModelBudget};
use bulkhead_types::{AgentSpec, Event, ExitReason, Incarnation, ModelCall, ModelCounts};
use bulkhead_usage::{Book, Crossing, Exhausted, Now, Refusal, Scope, Stuck};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::container::Container;
use crate::state_publisher::StatePublisher;
use crate::stop_order::{Halt, StopOrder};

/// Who ends an agent for its use of language models.
const HOST: &str = "host";

/// One incarnation's use.
pub(crate) struct ModelUse {
    book: Mutex<Book>,
    /// An event or a message came of the turn that is under way.
    produced: AtomicBool,
    /// Where the incarnation hears of its end.
    pub stop: watch::Sender<Option<StopOrder>>,
    spec: Arc<AgentSpec>,
    publisher: Arc<StatePublisher>,
    ring: Arc<Ring>,
    container: Arc<Container>,
}

/// The event of a bound that was reached, as followers of the agent read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BoundEvent<'a> {
    message: &'a str,
    ends: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BudgetEvent<'a> {
    message: &'a str,
    exhausted: bool,
    ends: bool,
}

impl ModelUse {
    pub(crate) fn new(
        spec: Arc<AgentSpec>,
        publisher: Arc<StatePublisher>,
        ring: Arc<Ring>,
        container: Arc<Container>,
    ) -> Self {
        let book = Book::new(container.ledger().loop_rules(&spec.role));
        Self {
            book: Mutex::new(book),
            produced: AtomicBool::new(false),
            stop: watch::Sender::new(None),
            spec,
            publisher,
            ring,
            container,
        }
    }

    /// What the incarnation used so far.
    pub(crate) fn counts(&self) -> ModelCounts {
        self.book.lock().counts()
    }

    /// A message comes.
    pub(crate) fn begin_message(&self) {
        self.book.lock().begin_message();
        self.produced.store(false, Relaxed);
    }

    /// Another turn begins for the same message.
    pub(crate) fn begin_turn(&self) {
        self.book.lock().begin_turn();
        self.produced.store(false, Relaxed);
    }

    /// Something came of the turn that others see.
    pub(crate) fn produced(&self) {
        self.produced.store(true, Relaxed);
    }

    /// A turn ended, with or without a reply. Orders the end of an agent that is stuck.
    pub(crate) fn turn_ended(&self, continues: bool, replied: bool) {
        let produced = self.produced.swap(false, Relaxed) || replied;
        let stuck = self.book.lock().turn_ended(continues, produced);
        self.is_stuck(stuck);
    }

    /// A model asks for a tool.
    pub(crate) fn saw_tool_call(&self, name: &str, arguments: &str) {
        let stuck = self.book.lock().saw_tool_call(name, arguments);
        self.is_stuck(stuck);
    }

    /// Whether a call may begin.
    pub(crate) fn may_ask(&self) -> Result<(), Exhausted> {
        let admitted = {
            let mut book = self.book.lock();
            self.container.ledger().admit(&self.spec.role, &mut book, clock())
        };
        let Err(Refusal { exhausted, budget, is_first, ends }) = admitted else { return Ok(()) };
        if is_first {
            self.report(&budget, true, ends);
        }
        if ends {
            self.halt(ExitReason::BudgetExceeded, exhausted.message.clone());
        }
        Err(exhausted)
    }

    /// A call is over.
    pub(crate) fn asked(&self, call: &ModelCall) {
        let near = {
            let mut book = self.book.lock();
            let AgentSpec { id, role, .. } = &*self.spec;
            let mut ledger = self.container.ledger();
            let (near, change) = ledger.record(id, role, &mut book, call, clock());
            // Under the ledger's lock, so that the newest figures come last.
            self.container.database.record_usage(change);
            near
        };
        for budget in near {
            self.report(&budget, false, false);
        }
    }

    fn report(&self, budget: &Crossing, exhausted: bool, ends: bool) {
        let message = &budget.to_string();
        self.ring.push_value("agent.model_budget", &BudgetEvent { message, exhausted, ends });
        let scope = match budget.scope {
            Scope::Role(_) => "role",
            Scope::Container => "container",
        };
        self.container.sink.record(Event::ModelBudget(ModelBudget {
            agent: self.tag(),
            budget: budget.kind.as_str(),
            scope,
            used: budget.used,
            bound: budget.bound,
            exhausted,
            ends,
        }));
    }

    fn is_stuck(&self, stuck: Option<Stuck>) {
        let Some(stuck) = stuck else { return };
        let message = stuck.to_string();
        self.ring.push_value("agent.stuck", &BoundEvent { message: &message, ends: true });
        let (rule, count) = (stuck.rule(), stuck.count());
        let (agent, text) = (self.tag(), message.clone());
        self.container.sink.record(Event::AgentStuck(AgentStuck {
            agent,
            rule,
            count,
            message: text,
        }));
        self.halt(ExitReason::Stuck, message);
    }

    /// Asks the agent to end, within its role's grace, unless somebody did before.
    fn halt(&self, reason: ExitReason, message: String) {
        let grace = self.spec.limits.shutdown;
        self.stop.send_if_modified(|order| {
            let first = order.is_none();
            if first {
                *order = Some(StopOrder {
                    reason: ShutdownReason::Stopped,
                    by: HOST.to_owned(),
                    grace,
                    now: false,
                    eviction: None,
                    halt: Some(Arc::new(Halt { reason, message })),
                });
            }
            first
        });
    }

    fn tag(&self) -> AgentTag {
        AgentTag {
            agent_id: self.spec.id.clone(),
            role: Arc::clone(&self.spec.role),
            incarnation: self.publisher.incarnation().unwrap_or(Incarnation(0)),
        }
    }
}

/// Both clocks.
fn clock() -> Now {
    Now { at: std::time::Instant::now(), wall: now() }
}
