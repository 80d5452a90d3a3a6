//! The start slot of an agent id: at most one incarnation lives, and every start gets an answer.
//!
//! ```text
//!   running A ◀── waits for its end ── starting B ◀── a start C of another spec: takes over B's wait
//!      │ asked to stop                    │ answered 409 at once, ends without having lived
//!      ▼                                  ▼
//!   gone ────────────────────────────▶ C begins
//! ```
//!
//! An incarnation that has a predecessor waits at its gate until the predecessor is gone, and only then
//! touches the engine. A newer start either takes over that wait, and then the older one can never pass
//! its gate, or it comes too late for that, and then it waits for the older one itself. Which of the two
//! is decided by one atomic change of the gate. So there is never a queue of more than one, nothing is
//! cancelled under a lock, and an end that is published means that nothing of the id lives.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::handle::AgentHandle;
use crate::refusal::StartError;

/// How the start of an incarnation ended.
type Answer = Result<(), StartError>;

/// One incarnation's part of the slot.
pub(crate) struct Slot {
    gate: watch::Sender<Gate>,
    answer: watch::Sender<Option<Answer>>,
    estate: Mutex<Estate>,
}

#[derive(Clone)]
enum Gate {
    /// The predecessor may live.
    Waiting(AgentHandle),
    /// Nothing of the id lives but this one.
    Open,
    /// A successor waits for the predecessor now. This one must never touch the engine.
    TakenOver,
}

/// The place among all agents, on its way from one incarnation to the next, so that a replacement
/// cannot lose it to somebody else.
#[derive(Default)]
struct Estate {
    has_heir: bool,
    bequeathed: Option<OwnedSemaphorePermit>,
    inherited: Option<OwnedSemaphorePermit>,
}

/// What waiting at the gate led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The predecessor is gone.
    Mine,
    /// A newer start took over.
    TakenOver,
}

impl Slot {
    pub(crate) fn new(predecessor: Option<AgentHandle>) -> Self {
        Self {
            gate: watch::Sender::new(predecessor.map_or(Gate::Open, Gate::Waiting)),
            answer: watch::Sender::new(None),
            estate: Mutex::default(),
        }
    }

    /// Waits until this incarnation may begin, or never may. The same answer every time.
    pub(crate) async fn turn(&self) -> Turn {
        let predecessor = match &*self.gate.borrow() {
            Gate::Waiting(predecessor) => predecessor.clone(),
            Gate::Open => return Turn::Mine,
            Gate::TakenOver => return Turn::TakenOver,
        };
        let mut gate = self.gate.subscribe();
        tokio::select! {
            biased;
            _ = gate.wait_for(|gate| matches!(gate, Gate::TakenOver)) => return Turn::TakenOver,
            _ = predecessor.ended() => {}
        }
        let mut turn = Turn::TakenOver;
        self.gate.send_modify(|gate| {
            if matches!(gate, Gate::Waiting(_)) {
                *gate = Gate::Open;
                turn = Turn::Mine;
            }
        });
        if turn == Turn::Mine {
            let place = predecessor.shared.slot.estate().bequeathed.take();
            self.estate().inherited = place;
        }
        turn
    }

    /// Whom the successor of `owner` has to wait for: the one that `owner` waits for, which it then
    /// never follows, or `owner` itself.
    pub(crate) fn succeed(&self, owner: &AgentHandle) -> AgentHandle {
        self.estate().has_heir = true;
        let mut taken_over = None;
        self.gate.send_if_modified(|gate| {
            if let Gate::Waiting(predecessor) = gate {
                taken_over = Some(predecessor.clone());
                *gate = Gate::TakenOver;
            }
            taken_over.is_some()
        });
        taken_over.unwrap_or_else(|| owner.clone())
    }

    /// Answers everyone who waits for the start. The first answer counts; says whether this was it.
    pub(crate) fn answer(&self, answer: Answer) -> bool {
        self.answer.send_if_modified(|given| {
            let first = given.is_none();
            if first {
                *given = Some(answer);
            }
            first
        })
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answer.borrow().is_some()
    }

    /// How the start ended, once it has.
    pub(crate) async fn answered(&self) -> Answer {
        let mut answer = self.answer.subscribe();
        match answer.wait_for(Option::is_some).await.map(|given| given.clone()) {
            Ok(Some(answer)) => answer,
            // The sender is ours: it cannot be gone while this waits.
            _ => std::future::pending().await,
        }
    }

    /// Leaves the place to the successor, or gives it back when there is none.
    pub(crate) fn bequeath(&self, place: OwnedSemaphorePermit) {
        let mut estate = self.estate();
        if estate.has_heir {
            estate.bequeathed = Some(place);
        }
    }

    /// The place that the predecessor left.
    pub(crate) fn take_inheritance(&self) -> Option<OwnedSemaphorePermit> {
        self.estate().inherited.take()
    }

    fn estate(&self) -> MutexGuard<'_, Estate> {
        self.estate.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
