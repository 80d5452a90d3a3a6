//! Asks for nudges when an agent has nothing to do, and delivers them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use bulkhead_api::NudgeRequest;
use bulkhead_model::AgentId;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::{Loop, PARALLEL, Woken, about};
use crate::call::{Call, Payload};
use crate::client::About;

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

pub(super) async fn run(this: Loop) {
    let known = Mutex::new(Known::default());
    loop {
        if this.wait(this.shared.heard.idle.notified()).await != Woken::Work {
            return;
        }
        // While nobody answers, the next turn of an agent asks again.
        let asked = futures_util::stream::iter(this.shared.heard.take_idle());
        asked.for_each_concurrent(PARALLEL, |id| this.ask(id, &known)).await;
    }
}

impl Loop {
    async fn ask(&self, id: AgentId, known: &Mutex<Known>) {
        let client = self.client();
        let Some(view) = self.container.agent(&id) else { return };
        if view.status != "running" || view.busy || view.mailbox_depth > 0 || !client.is_reachable()
        {
            return;
        }
        let about = about(&view);
        let path = client.paths.agent(about.rig_id.as_deref(), id.as_str(), "pending-nudges");
        let asked = client.call_about(Call::PendingNudges, &path, Payload::Nothing, &about).await;
        let Ok(reply) = asked else { return };
        let nudges = client.data::<Vec<Nudge>>(Call::PendingNudges, &reply, Some(&about));
        for nudge in nudges.ok().flatten().unwrap_or_default().into_iter().take(MAX_AT_ONCE) {
            self.deliver(&about, nudge, known).await;
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
