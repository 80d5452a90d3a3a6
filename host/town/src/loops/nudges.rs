//! Asks for nudges when an agent has nothing to do, and delivers them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_types::AgentId;
use parking_lot::Mutex;
use serde::Serialize;

use super::attempts::{Attempts, Failure};
use super::sweep::{Over, Sweep, work_or_due};
use super::{Loop, PARALLEL, Woken, about};
use crate::call::{About, Call, Payload, Request};
use crate::fault::Fault;
use crate::figures::Droppable;
use crate::nudge::Nudge;

/// Between the line of a start or a turn and the state that follows from it there is a moment.
const LOOK: Duration = Duration::from_millis(20);

/// Looks at one agent. Who is busy for longer is in another turn, which has an end of its own.
const MAX_LOOKS: u32 = 50;

/// Nudges that are delivered at one time.
const MAX_AT_ONCE: usize = 16;

/// Delivered nudges that are remembered: the town offers one again whose delivery it did not hear of.
const REMEMBERED: usize = 4096;

#[derive(Serialize)]
struct Delivered<'a> {
    nudge_id: &'a str,
}

/// What was delivered.
#[derive(Default)]
struct Known {
    order: VecDeque<String>,
    ids: HashSet<String>,
}

impl Known {
    fn insert(&mut self, id: &str) {
        if !self.ids.insert(id.to_owned()) {
            return;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// What became of a question.
enum Asked {
    /// It was answered, or is nobody's business any more.
    Through,
    /// The agent is not idle yet.
    TooEarly,
    /// The town did not answer.
    Unheard(Fault),
}

pub(super) async fn run(this: Loop) {
    let known = Arc::new(Mutex::new(Known::default()));
    let mut waiting = Waiting::new(Attempts::new(this.shared.give_up));
    let mut sweep = Sweep::new(PARALLEL);
    let each = |(id, _): Question| {
        let (this, known) = (this.clone(), Arc::clone(&known));
        async move { this.ask(&id, &known).await }
    };
    loop {
        let mut over = None;
        let pause = waiting.pause(|id| sweep.has(id));
        let work = async {
            tokio::select! {
                one = sweep.next(this.client(), each) => over = Some(one),
                () = work_or_due(this.shared.heard.idle.notified(), pause) => {}
            }
        };
        if this.wait(work).await != Woken::Work {
            return;
        }
        if let Some(over) = over {
            this.is_asked(&mut waiting, over);
        }
        waiting.take_due(this.shared.heard.take_idle(), &mut sweep);
    }
}

/// Who is asked for, and how often that was too early.
type Question = (AgentId, u32);

/// Agents to be asked for again.
struct Waiting {
    /// Not idle yet: how often that was looked at in vain, and when the next look is due.
    early: HashMap<AgentId, (u32, Instant)>,
    /// The town did not answer.
    unheard: HashSet<AgentId>,
    /// Idle again while the question before was under way.
    idle_again: HashSet<AgentId>,
    attempts: Attempts,
}

impl Waiting {
    fn new(attempts: Attempts) -> Self {
        let (unheard, idle_again) = (HashSet::new(), HashSet::new());
        Self { early: HashMap::new(), unheard, idle_again, attempts }
    }

    fn pause(&self, is_asked_now: impl Fn(&AgentId) -> bool) -> Option<Duration> {
        let now = Instant::now();
        let due = self.attempts.pause(now, is_asked_now);
        let early = self.early.values().map(|(_, due)| due.saturating_duration_since(now)).min();
        due.into_iter().chain(early).min()
    }

    /// Begins with the agents to be asked for now. One that has just become idle is among them, whatever its last
    /// question met: the backoff is between questions that nothing new is the reason of.
    fn take_due(&mut self, new: Vec<AgentId>, sweep: &mut Sweep<Question, Asked>) {
        self.idle_again.extend(new);
        let now = Instant::now();
        let Self { early, unheard, idle_again, attempts } = self;
        let idle: Vec<_> = idle_again.extract_if(|id| !sweep.has(id)).collect();
        for id in idle {
            early.remove(&id);
            unheard.remove(&id);
            sweep.push(id.clone(), (id, 0), false);
        }
        for (id, (looks, _)) in early.extract_if(|_, (_, due)| *due <= now) {
            sweep.push(id.clone(), (id, looks), false);
        }
        for id in unheard.extract_if(|id| attempts.is_due(id, now)) {
            sweep.push(id.clone(), (id, 0), true);
        }
    }
}

impl Loop {
    fn is_asked(&self, waiting: &mut Waiting, (id, (_, looks), asked): Over<Question, Asked>) {
        match asked {
            Some(Asked::Through) => waiting.attempts.forget(&id),
            Some(Asked::TooEarly) => {
                // Its next question has a reason of its own.
                waiting.attempts.forget(&id);
                if looks < MAX_LOOKS {
                    waiting.early.insert(id, (looks + 1, Instant::now() + LOOK));
                }
            }
            Some(Asked::Unheard(fault)) => {
                if self.is_tried_again(&mut waiting.attempts, Call::PendingNudges, &id, &fault) {
                    waiting.unheard.insert(id);
                } else {
                    self.client().dropped(Droppable::Nudges, 1);
                }
            }
            // The town is silent.
            None => {
                waiting.attempts.failed(&id, Failure::Silence, Instant::now());
                waiting.unheard.insert(id);
            }
        }
    }

    async fn ask(&self, id: &AgentId, known: &Mutex<Known>) -> Asked {
        let client = self.client();
        let Some(view) = self.container.agent(id) else { return Asked::Through };
        match view.status.as_ref() {
            "starting" => return Asked::TooEarly,
            "running" if view.busy || view.mailbox_depth > 0 => return Asked::TooEarly,
            "running" => {}
            _ => return Asked::Through,
        }
        let about = about(&view);
        let path = client.paths.agent(about.rig_id.as_deref(), id.as_str(), "pending-nudges");
        let asked = client
            .send(Request::new(Call::PendingNudges, path, Payload::Nothing).about(&about))
            .await;
        let nudges = match asked {
            Ok(reply) => client.data::<Vec<Nudge>>(Call::PendingNudges, &reply, Some(&about)),
            Err(fault) => Err(fault),
        };
        match nudges {
            Ok(nudges) => {
                for nudge in nudges.unwrap_or_default().into_iter().take(MAX_AT_ONCE) {
                    self.deliver(&about, nudge, known).await;
                }
                Asked::Through
            }
            Err(fault) if fault.is_final() => Asked::Through,
            Err(fault) => Asked::Unheard(fault),
        }
    }

    async fn deliver(&self, about: &About, nudge: Nudge, known: &Mutex<Known>) {
        let request = match nudge.request() {
            Ok(request) => request,
            Err(problem) => {
                tracing::warn!(agent = %about.agent_id, problem, "a nudge of the town is left there");
                return;
            }
        };
        let nudge_id = request.nudge_id.clone().unwrap_or_default();
        let is_known = {
            let known = known.lock();
            known.ids.contains(&nudge_id)
        };
        if !is_known {
            if let Err(error) = self.container.nudge(&about.agent_id, request) {
                // The town keeps it.
                tracing::info!(agent = %about.agent_id, error, "a nudge was not taken");
                return;
            }
            known.lock().insert(&nudge_id);
        }
        let (client, id) = (self.client(), about.agent_id.as_str());
        let path = client.paths.agent(about.rig_id.as_deref(), id, "nudge-delivered");
        let payload = Payload::json(&Delivered { nudge_id: &nudge_id });
        // The next time that it is offered, its delivery is reported again.
        let _ = client.send(Request::new(Call::NudgeDelivered, path, payload).about(about)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_delivered_ones_are_remembered_and_the_oldest_is_forgotten() {
        let mut known = Known::default();
        for number in 0..=REMEMBERED {
            known.insert(&number.to_string());
            known.insert(&number.to_string());
        }
        assert_eq!((known.ids.len(), known.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!known.ids.contains("0") && known.ids.contains("1"));
    }
}
