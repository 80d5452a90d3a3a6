//! Other code for an agent that runs.
//!
//! ```text
//!   ordered ─▶ waits for the end of a message ─▶ snapshot kept ─▶ shutdown ─▶ the next incarnation, of the new code
//!                │                                  │                            │
//!                │                                  └─ not kept: refused         ├─ a turn went well, and its state is kept: proven
//!                └─ a program, or its memory does not suffice: refused           └─ a fault before: back to the old code
//! ```
//!
//! The agent keeps its slot, its mailbox and its journal meanwhile, so no message is lost. One in backoff takes the new
//! code when it restarts, and is not on trial: it failed before. Everything else about an end, the crash record above
//! all, is as it always is; a fault on trial counts neither against the agent nor against its message.

use std::sync::Arc;

use bulkhead_types::ExitClass;
use tokio::sync::watch;

use crate::engine::{Code, Component};

/// What an agent is to be made from.
#[derive(Clone)]
pub struct NewCode {
    /// Where it is.
    pub code: Code,
    /// It is loaded.
    pub component: Arc<dyn Component>,
    /// A fault before the first turn went well brings the old code back.
    pub on_trial: bool,
}

/// How far an upgrade of one agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpgradeStage {
    /// It waits for the end of a message, a start or a backoff.
    Waits,
    /// The agent runs on the new code, or is about to, and no turn has shown that it works.
    OnTrial,
    /// The agent has the new code for good.
    Done,
    /// It had a fault on trial, and has the old code again.
    RolledBack {
        /// The end in one sentence.
        why: String,
    },
    /// It goes on with the old code.
    Refused {
        /// In one sentence.
        why: String,
    },
    /// It ended, for another reason.
    Gone,
}

impl UpgradeStage {
    /// Whether nothing follows from it any more.
    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Waits | Self::OnTrial)
    }
}

/// The upgrades of one start of an agent.
pub(crate) struct Upgrade(watch::Sender<State>);

struct State {
    /// What incarnations are made from; `None` until it is loaded.
    current: Option<Arc<dyn Component>>,
    ordered: Option<NewCode>,
    /// What comes back after a fault.
    before: Option<Arc<dyn Component>>,
    stage: UpgradeStage,
    /// The incarnation ends for the order, and the next one follows at once.
    is_leaving: bool,
    /// Why no order is taken.
    closed: Option<UpgradeStage>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self(watch::Sender::new(State {
            current: None,
            ordered: None,
            before: None,
            stage: UpgradeStage::Done,
            is_leaving: false,
            closed: None,
        }))
    }
}

impl Upgrade {
    /// Orders other code. The newest order counts; one that the agent is on trial with is settled by it.
    pub(crate) fn order(&self, new: NewCode) {
        self.0.send_modify(|state| {
            if let Some(closed) = &state.closed {
                state.stage = closed.clone();
                return;
            }
            (state.ordered, state.before) = (Some(new), None);
            state.stage = UpgradeStage::Waits;
        });
    }

    /// Takes back what was ordered, unless the agent leaves for it already.
    pub(crate) fn cancel(&self, why: &str) {
        self.0.send_if_modified(|state| {
            let waits = state.ordered.is_some() && !state.is_leaving;
            if waits {
                state.ordered = None;
                state.stage = UpgradeStage::Refused { why: why.to_owned() };
            }
            waits
        });
    }

    /// Whether it takes no order because it has no turns.
    pub(crate) fn is_program(&self) -> bool {
        matches!(self.0.borrow().closed, Some(UpgradeStage::Refused { .. }))
    }

    /// The agent has what was ordered.
    pub(crate) fn is_there(&self) {
        self.0.send_modify(|state| {
            (state.ordered, state.stage) = (None, UpgradeStage::Done);
        });
    }

    /// How far the newest order is.
    pub(crate) fn stage(&self) -> UpgradeStage {
        self.0.borrow().stage.clone()
    }

    /// Resolves when the stage is one of these.
    pub(crate) async fn reaches(&self, wanted: impl Fn(&UpgradeStage) -> bool) -> UpgradeStage {
        let mut watch = self.0.subscribe();
        let there = watch.wait_for(|state| wanted(&state.stage)).await;
        there.map_or(UpgradeStage::Gone, |state| state.stage.clone())
    }

    /// What incarnations are made from, once it is loaded.
    pub(crate) fn current(&self) -> Option<Arc<dyn Component>> {
        self.0.borrow().current.clone()
    }

    /// What a start loads that is made again.
    pub(crate) fn code(&self) -> Option<Code> {
        self.0.borrow().ordered.as_ref().map(|new| new.code.clone())
    }

    /// The task's own code is loaded. One that was ordered meanwhile comes in its place.
    pub(crate) fn loaded(&self, component: &Arc<dyn Component>) {
        self.0.send_modify(|state| state.current = Some(Arc::clone(component)));
    }

    /// Resolves when there is an order.
    pub(crate) async fn ordered(&self) -> NewCode {
        let mut watch = self.0.subscribe();
        let there = watch.wait_for(|state| state.ordered.is_some()).await;
        match there.ok().and_then(|state| state.ordered.clone()) {
            Some(new) => new,
            // The sender is ours: it cannot be gone while this waits.
            None => std::future::pending().await,
        }
    }

    /// The agent cannot do what was ordered, and goes on as it is.
    pub(crate) fn refuse(&self, why: impl Into<String>) {
        let why = why.into();
        self.0.send_modify(|state| {
            state.ordered = None;
            state.stage = UpgradeStage::Refused { why };
        });
    }

    /// No order is taken from now on, and one that waits is settled.
    pub(crate) fn close(&self, as_what: UpgradeStage) {
        self.0.send_modify(|state| {
            if !state.stage.is_over() {
                state.stage = as_what.clone();
            }
            (state.ordered, state.before) = (None, None);
            state.closed = Some(as_what);
        });
    }

    /// The incarnation is about to end for the order.
    pub(crate) fn leaves(&self) {
        self.0.send_modify(|state| state.is_leaving = true);
    }

    /// A turn went well, and its state is kept.
    pub(crate) fn is_proven(&self) {
        self.0.send_if_modified(|state| {
            let on_trial = state.stage == UpgradeStage::OnTrial;
            if on_trial {
                (state.stage, state.before) = (UpgradeStage::Done, None);
            }
            on_trial
        });
    }

    /// Whether a fault now brings the old code back.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.0.borrow().before.is_some()
    }

    /// An incarnation ended so. Says whether the next one, of other code, follows at once whatever the restart policy
    /// says.
    pub(crate) fn ended(&self, class: ExitClass, why: &str) -> Option<Succession> {
        let mut follows = None;
        self.0.send_if_modified(|state| {
            let is_fault = matches!(class, ExitClass::Fault | ExitClass::Host);
            if state.is_leaving {
                follows = Some(Succession::Upgrade);
            } else if let Some(before) = state.before.take_if(|_| is_fault) {
                state.current = Some(before);
                state.stage = UpgradeStage::RolledBack { why: why.to_owned() };
                follows = Some(Succession::Rollback);
            }
            follows == Some(Succession::Rollback)
        });
        follows
    }

    /// What the next incarnation is made from. What was ordered comes into use.
    pub(crate) fn next(&self) -> Option<Arc<dyn Component>> {
        self.0.send_if_modified(|state| {
            let left = std::mem::take(&mut state.is_leaving);
            let Some(NewCode { component, on_trial, .. }) = state.ordered.take() else {
                return false;
            };
            let before = state.current.replace(component);
            (state.before, state.stage) = match on_trial && left {
                true => (before, UpgradeStage::OnTrial),
                false => (None, UpgradeStage::Done),
            };
            true
        });
        self.current()
    }
}

/// Why another incarnation follows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Succession {
    /// The agent left for it.
    Upgrade,
    /// The new code had a fault before it was proven.
    Rollback,
}
