//! Asks for nudges when an agent has nothing to do, and delivers them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bulkhead_api::NudgeRequest;
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

/// Longest nudge, in bytes: a hint, not a document.
const MAX_NUDGE_BYTES: usize = 16 * 1024;

#[derive(Deserialize)]
struct Nudge {
    nudge_id: String,
    message: String,
    #[serde(default)]
    source: Option<String>,
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
        let Nudge { nudge_id, message, source } = nudge;
        let is_known = {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.ids.contains(&nudge_id)
        };
        if !is_known {
            let message = message[..message.floor_char_boundary(MAX_NUDGE_BYTES)].to_owned();
            let source = source.unwrap_or_else(|| "town".to_owned());
            let request = NudgeRequest { message, source, nudge_id: Some(nudge_id.clone()) };
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
