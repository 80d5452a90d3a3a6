//! The lifecycle machine.
//!
//! ```text
//!            Started                    StopRequested
//!  Starting ─────────▶ Running ─────────────────────────▶ Stopping
//!     │  │              │   ▲ │ TurnBegan / TurnEnded        │
//!     │  │ Ended        │   └─┘ (idle ⇄ busy)                │ Ended
//!     │  └───────────┐  │ Ended                              │
//!     │ StopRequested│  ▼                                    ▼
//!     └────▶ Stopping└─▶ Failed (abnormal) / Exited (normal) ◀
//!                          │            │
//!      RetryScheduled      ▼            ▼  Quarantine
//!                        Backoff      Quarantined
//!                          │              │
//!                          ├── Begin ─────┴──▶ Starting   (also from Exited and Failed)
//!                          └── StopRequested ▶ Exited
//! ```
//!
//! A state says nothing about the store or the task behind it; `agent` owns those. Only the agent's own
//! task calls [`AgentState::transition`], in one place.

use serde::Serialize;

use crate::names::names;

/// Where an agent is in its lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentState {
    /// Waiting for its component, being instantiated, or in the guest's `start`.
    Starting,
    /// Ready for messages.
    Running {
        /// A turn is under way.
        busy: bool,
    },
    /// Asked to end and not yet gone.
    Stopping,
    /// Ended abnormally; is restarted automatically.
    Backoff,
    /// Ended abnormally too often; is started again only by a person or a new spec.
    Quarantined,
    /// Ended as intended.
    Exited,
    /// Ended abnormally, and stays so.
    Failed,
}

/// What happens to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// A new incarnation begins.
    Begin,
    /// The guest's `start` returned.
    Started,
    /// A turn began.
    TurnBegan,
    /// A turn ended and the agent keeps running.
    TurnEnded,
    /// Somebody asked it to end.
    StopRequested,
    /// The incarnation is gone.
    Ended {
        /// As intended, or not.
        normal: bool,
    },
    /// After [`AgentState::Failed`] or [`AgentState::Exited`]: it will be restarted.
    RetryScheduled,
    /// After [`AgentState::Failed`] or [`AgentState::Exited`]: it will not be restarted automatically.
    Quarantine,
}

/// An input that makes no sense in a state: a bug of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no transition from {from:?} by {input:?}")]
pub struct InvalidTransition {
    /// The state that stays.
    pub from: AgentState,
    /// What was refused.
    pub input: Input,
}

impl AgentState {
    /// The next state, or the reason why there is none. Pure.
    pub fn transition(self, input: Input) -> Result<Self, InvalidTransition> {
        use AgentState::*;
        Ok(match (self, input) {
            (Backoff | Quarantined | Exited | Failed, Input::Begin) => Starting,
            (Starting, Input::Started) => Running { busy: false },
            (Running { busy: false }, Input::TurnBegan) => Running { busy: true },
            (Running { busy: true }, Input::TurnEnded) => Running { busy: false },
            (Starting | Running { .. } | Stopping, Input::StopRequested) => Stopping,
            // No incarnation is active in a backoff: there is no end to wait for.
            (Backoff, Input::StopRequested) => Exited,
            (Starting | Running { .. } | Stopping, Input::Ended { normal: true }) => Exited,
            (Starting | Running { .. } | Stopping, Input::Ended { normal: false }) => Failed,
            (Failed | Exited, Input::RetryScheduled) => Backoff,
            (Failed | Exited, Input::Quarantine) => Quarantined,
            (from, input) => return Err(InvalidTransition { from, input }),
        })
    }

    /// Whether an incarnation exists or is being made.
    pub fn is_live(self) -> bool {
        match self {
            Self::Starting | Self::Running { .. } | Self::Stopping => true,
            Self::Backoff | Self::Quarantined | Self::Exited | Self::Failed => false,
        }
    }

    /// Whether no incarnation exists, and none follows by itself.
    pub fn is_down(self) -> bool {
        match self {
            Self::Quarantined | Self::Exited | Self::Failed => true,
            Self::Starting | Self::Running { .. } | Self::Stopping | Self::Backoff => false,
        }
    }

    /// Whether messages are taken. In a backoff they wait for the next incarnation.
    pub fn accepts_messages(self) -> bool {
        match self {
            Self::Starting | Self::Running { .. } | Self::Backoff => true,
            Self::Stopping | Self::Quarantined | Self::Exited | Self::Failed => false,
        }
    }
}

names! {
    /// The word for it in answers and log lines. `running` covers busy and idle.
    AgentState::as_str {
        Starting => "starting",
        Running => "running",
        Stopping => "stopping",
        Backoff => "backoff",
        Quarantined => "quarantined",
        Exited => "exited",
        Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(inputs: &[Input]) -> Result<AgentState, InvalidTransition> {
        inputs.iter().try_fold(AgentState::Starting, |state, input| state.transition(*input))
    }

    #[test]
    fn an_ordinary_incarnation_ends_exited() {
        use Input::*;
        let inputs = [Started, TurnBegan, TurnEnded, StopRequested, Ended { normal: true }];
        assert_eq!(run(&inputs), Ok(AgentState::Exited));
    }

    #[test]
    fn a_crash_in_a_turn_is_failed_and_can_come_back() {
        use Input::*;
        let inputs = [Started, TurnBegan, Ended { normal: false }, RetryScheduled, Begin, Started];
        assert_eq!(run(&inputs), Ok(AgentState::Running { busy: false }));
    }

    #[test]
    fn a_turn_cannot_begin_twice() {
        assert!(run(&[Input::Started, Input::TurnBegan, Input::TurnBegan]).is_err());
    }

    #[test]
    fn what_has_ended_takes_no_turns() {
        assert!(run(&[Input::Ended { normal: true }, Input::TurnBegan]).is_err());
        assert!(run(&[Input::Ended { normal: true }, Input::Ended { normal: true }]).is_err());
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Begin),
            Just(Input::Started),
            Just(Input::TurnBegan),
            Just(Input::TurnEnded),
            Just(Input::StopRequested),
            any::<bool>().prop_map(|normal| Input::Ended { normal }),
            Just(Input::RetryScheduled),
            Just(Input::Quarantine),
        ]
    }

    proptest! {
        /// Between two `Begin` that are accepted lies exactly one `Ended` that is accepted.
        #[test]
        fn every_incarnation_ends_once(inputs in prop::collection::vec(input(), 0..64)) {
            let mut state = AgentState::Starting;
            let mut live = true;
            for input in inputs {
                let Ok(next) = state.transition(input) else { continue };
                match input {
                    Input::Begin => { prop_assert!(!live); live = true; }
                    Input::Ended { .. } => { prop_assert!(live); live = false; }
                    _ => {}
                }
                state = next;
                if live { prop_assert!(state.is_live()); }
            }
        }
    }
}
