//! A turn that somebody waits for: how it ends, and what happens until then.

use std::sync::Arc;

use bulkhead_feed::{DeltaFrame, Follow, Item, Subscription};
use bulkhead_supervisor::{Delivery, FinishedTurn, SendError, TurnReport};
use bulkhead_types::AgentId;
use tokio::sync::oneshot;

use crate::Backend;
use crate::answer::Refusal;

/// Longest wait for the end of a turn, in milliseconds: ten minutes, what proxies at most let a request take.
pub(crate) const MAX_WAIT_MS: u64 = 600_000;

/// How a turn ended: what the agent says, or an answer of 400 and above.
pub(crate) type Ended = Result<FinishedTurn, Refusal>;

/// The end of a turn. Cancel safe.
pub(crate) async fn end(message_id: &str, report: &mut oneshot::Receiver<TurnReport>) -> Ended {
    let message_id = message_id.to_owned();
    match report.await {
        Ok(TurnReport::Finished(finished)) => Ok(finished),
        Ok(TurnReport::Failed { code, message }) => {
            Err(Refusal::turn_failed(message_id, code, message))
        }
        Ok(TurnReport::Ended { reason, message, crash_id }) => {
            Err(Refusal::agent_ended(message_id, reason, message, crash_id))
        }
        Ok(TurnReport::SetAside { reason, message, attempts, crash_ids }) => {
            Err(Refusal::message_set_aside(message_id, reason, message, attempts, crash_ids))
        }
        // Code that drops a message reports it first; if not, that is the host's fault.
        Err(_) => Err(Refusal::turn_unreported(message_id)),
    }
}

/// A turn as it happens.
pub(crate) struct LiveTurn {
    subscription: Subscription,
    delivery: Delivery,
    ended: Option<Ended>,
    is_over: bool,
}

/// What comes next of it.
pub(crate) enum Step {
    /// What happened.
    Deltas(Arc<DeltaFrame>),
    /// The reader was too slow for some of it.
    Gap,
    /// It is over. Nothing follows.
    Ended(Ended),
}

impl LiveTurn {
    /// Sends a message, and follows its turn from the beginning.
    pub(crate) fn begin<B: Backend>(
        backend: &B,
        id: &AgentId,
        send: impl FnOnce(&B, &AgentId) -> Result<Delivery, SendError>,
    ) -> Result<Self, SendError> {
        let ring = backend.ring(id).ok_or_else(|| SendError::NoSuchAgent(id.clone()))?;
        // First, so that nothing is missed.
        let subscription = Subscription::new(backend.feed(), Follow::Agent(ring), None, true);
        let delivery = send(backend, id)?;
        Ok(Self { subscription, delivery, ended: None, is_over: false })
    }

    /// The message.
    pub(crate) fn message_id(&self) -> &str {
        &self.delivery.message_id
    }

    /// What came next. Nothing after the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Vec<Step> {
        while !self.is_over {
            if let Some(ended) = self.ended.take() {
                self.is_over = true;
                let left = self.subscription.now();
                let mut steps = self.steps(left);
                steps.push(Step::Ended(ended));
                return steps;
            }
            let Delivery { message_id, report } = &mut self.delivery;
            let batch = tokio::select! {
                biased;
                ended = end(message_id, report) => {
                    self.ended = Some(ended);
                    continue;
                }
                batch = self.subscription.next() => batch,
            };
            let steps = match batch {
                Some(batch) => self.steps(batch),
                // The agent is forgotten, and has answered those that wait.
                None => {
                    self.ended = Some(end(message_id, report).await);
                    continue;
                }
            };
            if !steps.is_empty() {
                return steps;
            }
        }
        Vec::new()
    }

    /// Of what came, that which belongs to the message.
    fn steps(&self, batch: Vec<Item>) -> Vec<Step> {
        let is_ours = |frame: &DeltaFrame| {
            frame.message_id.as_deref() == Some(self.delivery.message_id.as_str())
        };
        let steps = batch.into_iter().filter_map(|item| match item {
            Item::Deltas(frame) if is_ours(&frame) => Some(Step::Deltas(frame)),
            Item::DeltaGap => Some(Step::Gap),
            Item::Deltas(_) | Item::Event(_) | Item::Gap { .. } => None,
        });
        steps.collect()
    }
}
