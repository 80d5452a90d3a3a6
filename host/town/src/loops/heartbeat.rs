//! Heartbeats: of the container always, of each agent that is there.

use bulkhead_api::AgentView;
use bulkhead_log::now;
use bulkhead_types::{AgentId, Timestamp};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::{Loop, PARALLEL, Woken, about};
use crate::answers;
use crate::call::{Call, Payload, Request};
use crate::container::AgentReport;
use crate::transport::Reply;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfContainer<'a> {
    town_id: &'a str,
    timestamp: Timestamp,
    container_instance_id: &'a str,
    agents: usize,
    active_agents: usize,
    status: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfAgent<'a> {
    agent_id: &'a AgentId,
    rig_id: Option<&'a str>,
    town_id: &'a str,
    status: &'a str,
    timestamp: Timestamp,
    last_event_type: Option<&'a str>,
    last_event_at: Option<Timestamp>,
    active_tools: &'a [String],
    message_count: u64,
    container_instance_id: &'a str,
}

pub(super) async fn run(this: Loop) {
    let mut beat = interval(this.shared.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let tick = async {
            beat.tick().await;
        };
        if this.wait(tick).await != Woken::Work {
            return;
        }
        this.beat().await;
    }
}

impl Loop {
    async fn beat(&self) {
        let reports = self.container.agents();
        let active: Vec<_> = reports.iter().filter(|report| is_active(&report.view)).collect();
        self.beat_for_container(reports.len(), active.len()).await;
        let mut active = active.into_iter();
        // A town that does not have the call before is asked for by one agent whether it is back.
        if !self.client().is_reachable()
            && self.client().optional.is_off(Call::ContainerHeartbeat, None)
            && let Some(first) = active.next()
        {
            self.beat_for(first, true).await;
        }
        let beats = futures_util::stream::iter(active);
        beats.for_each_concurrent(PARALLEL, |report| self.beat_for(report, false)).await;
    }

    async fn beat_for_container(&self, agents: usize, active_agents: usize) {
        let client = self.client();
        let payload = Payload::json(&OfContainer {
            town_id: &self.shared.town_id,
            timestamp: now(),
            container_instance_id: client.context.run_id(),
            agents,
            active_agents,
            status: if self.container.is_ready() { "ok" } else { "degraded" },
        });
        let path = client.paths.town("container-heartbeat");
        if let Ok(reply) = client.send(Request::new(Call::ContainerHeartbeat, path, payload)).await
        {
            self.look_for_nonce(&reply);
        }
    }

    async fn beat_for(&self, report: &AgentReport, finds_out: bool) {
        let client = self.client();
        // The next round begins with a call that finds out whether it is back.
        if !finds_out && !client.is_reachable() {
            return;
        }
        let (view, last) = (&report.view, report.last_event.as_ref());
        let payload = Payload::json(&OfAgent {
            agent_id: &view.agent_id,
            rig_id: view.rig_id.as_deref(),
            town_id: &self.shared.town_id,
            status: &view.status,
            timestamp: now(),
            last_event_type: last.map(|(name, _)| &**name),
            last_event_at: last.map(|(_, at)| *at),
            active_tools: &view.active_tools,
            message_count: view.message_count,
            container_instance_id: client.context.run_id(),
        });
        let path = client.paths.agent(view.rig_id.as_deref(), view.agent_id.as_str(), "heartbeat");
        let about = about(view);
        if let Ok(reply) =
            client.send(Request::new(Call::Heartbeat, path, payload).about(&about)).await
        {
            self.look_for_nonce(&reply);
        }
    }

    fn look_for_nonce(&self, reply: &Reply) {
        if let Some(nonce) = answers::drain_nonce(&reply.body) {
            self.shared.heard.nonce(&nonce);
        }
    }
}

/// Whether something of it is there. One in backoff is not, for now.
pub(super) fn is_active(view: &AgentView) -> bool {
    matches!(view.status.as_ref(), "starting" | "running" | "stopping")
}
