//! Asks for nudges when an agent has nothing to do, and delivers them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bulkhead_api::NudgeRequest;
use bulkhead_api::nudge::{MAX_NAME_BYTES, MAX_NUDGE_BYTES};
use bulkhead_model::AgentId;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{Loop, PARALLEL, Woken, about, backoff};
use crate::call::{Call, Payload};
use crate::client::About;

/// Between the line of a start or a turn and the state that follows from it there is a moment.
const LOOK: Duration = Duration::from_millis(20);

/// Looks at one agent. Who is busy for longer is in another turn, which has an end of its own.
const MAX_LOOKS: u32 = 50;

/// Nudges that are delivered at one time.
const MAX_AT_ONCE: usize = 16;

/// Delivered nudges that are remembered: the town offers one again whose delivery it did not hear of.
const REMEMBERED: usize = 4096;

#[derive(Deserialize)]
struct Nudge {
    nudge_id: String,
    message: String,
    #[serde(default)]
    source: Option<String>,
}

impl Nudge {
    /// What the agent gets of it, within the bounds that nudges have on every way. One whose id is too long could
    /// not be told as delivered.
    fn request(self) -> Result<NudgeRequest, String> {
        let Self { nudge_id, mut message, source } = self;
        if nudge_id.is_empty() || nudge_id.len() > MAX_NAME_BYTES {
            let length = nudge_id.len();
            return Err(format!("its id has {length} bytes, 1 to {MAX_NAME_BYTES} are taken"));
        }
        let mut source = source.unwrap_or_else(|| "town".to_owned());
        message.truncate(message.floor_char_boundary(MAX_NUDGE_BYTES));
        source.truncate(source.floor_char_boundary(MAX_NAME_BYTES));
        // What was cut off gives its room back.
        message.shrink_to_fit();
        source.shrink_to_fit();
        Ok(NudgeRequest { message, source, nudge_id: Some(nudge_id) })
    }
}

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
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        if self.ids.insert(id.to_owned()) {
            self.order.push_back(id.to_owned());
        }
    }
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It was answered, or is nobody's business any more.
    Through,
    /// The agent is not idle yet.
    TooEarly,
    /// The town did not answer.
    Unheard,
}

pub(super) async fn run(this: Loop) {
    let known = Mutex::new(Known::default());
    // Who is to be asked for again, and how often its state was looked at in vain.
    let (mut later, mut failures) = (HashMap::<AgentId, u32>::new(), 0);
    loop {
        let pause = match failures {
            0 => LOOK,
            _ => backoff(failures),
        };
        let work = async {
            tokio::select! {
                () = this.shared.heard.idle.notified() => {}
                () = sleep(pause), if !later.is_empty() => {}
            }
        };
        if this.wait(work).await != Woken::Work {
            return;
        }
        let new = this.shared.heard.take_idle();
        later.extend(new.into_iter().map(|id| (id, 0)));
        let asking = futures_util::stream::iter(std::mem::take(&mut later));
        let (asking_of, known) = (&this, &known);
        let ask = |(id, looks): (AgentId, u32)| async move {
            let asked = asking_of.ask(&id, known).await;
            (id, looks, asked)
        };
        let asked: Vec<_> = asking.map(ask).buffer_unordered(PARALLEL).collect().await;
        failures =
            if asked.iter().any(|asked| asked.2 == Asked::Unheard) { failures + 1 } else { 0 };
        later.extend(asked.into_iter().filter_map(|(id, looks, asked)| match asked {
            Asked::Unheard => Some((id, 0)),
            Asked::TooEarly if looks < MAX_LOOKS => Some((id, looks + 1)),
            Asked::TooEarly | Asked::Through => None,
        }));
    }
}

impl Loop {
    async fn ask(&self, id: &AgentId, known: &Mutex<Known>) -> Asked {
        let client = self.client();
        let Some(view) = self.container.agent(id) else { return Asked::Through };
        match view.status.as_ref() {
            "starting" => return Asked::TooEarly,
            "running" if view.busy || view.mailbox_depth > 0 => return Asked::TooEarly,
            "running" if !client.is_reachable() => return Asked::Unheard,
            "running" => {}
            _ => return Asked::Through,
        }
        let about = about(&view);
        let path = client.paths.agent(about.rig_id.as_deref(), id.as_str(), "pending-nudges");
        let asked = client.call_about(Call::PendingNudges, &path, Payload::Nothing, &about).await;
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
            Err(_) => Asked::Unheard,
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
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.ids.contains(&nudge_id)
        };
        if !is_known {
            if let Err(error) = self.container.nudge(&about.agent_id, request) {
                // The town keeps it.
                tracing::info!(agent = %about.agent_id, error, "a nudge was not taken");
                return;
            }
            known.lock().unwrap_or_else(PoisonError::into_inner).insert(&nudge_id);
        }
        let (client, id) = (self.client(), about.agent_id.as_str());
        let path = client.paths.agent(about.rig_id.as_deref(), id, "nudge-delivered");
        let payload = Payload::json(&Delivered { nudge_id: &nudge_id });
        // The next time that it is offered, its delivery is told again.
        let _ = client.call_about(Call::NudgeDelivered, &path, payload, about).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nudge_of_the_town_has_the_bounds_of_any_other() {
        let nudge = |id: usize, message: usize, source: usize| {
            let text = |bytes: usize| "\u{e4}".repeat(bytes / 2);
            let source = Some(text(source));
            Nudge { nudge_id: "i".repeat(id), message: text(message), source }.request()
        };
        let large = nudge(128, 1 << 20, 1 << 20).unwrap();
        assert_eq!((large.message.len(), large.source.len()), (MAX_NUDGE_BYTES, MAX_NAME_BYTES));
        assert!(large.message.capacity() < 2 * MAX_NUDGE_BYTES);
        assert!(nudge(129, 2, 2).unwrap_err().contains("129") && nudge(0, 2, 2).is_err());
    }
}
