//! Heartbeats of the container: on a timer of their own, and when a call about one agent met silence, to find out if
//! that is the town's.

use bulkhead_api::AgentView;
use bulkhead_log::now;
use bulkhead_types::Timestamp;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::{Loop, Woken, ask_for_registry};
use crate::answers;
use crate::call::{Call, Payload, Request};
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

pub(super) async fn run(this: Loop) {
    let mut beat = interval(this.shared.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut is_in_doubt = false;
        let work = async {
            tokio::select! {
                _ = beat.tick() => {}
                () = this.client().doubt.notified() => is_in_doubt = true,
            }
        };
        if this.wait(work).await != Woken::Work {
            return;
        }
        this.beat().await;
        // A town that does not have this call is asked by an agent.
        if is_in_doubt && this.client().optional.is_off(Call::ContainerHeartbeat, None) {
            this.shared.finder_wanted.notify_one();
        }
    }
}

impl Loop {
    async fn beat(&self) {
        let client = self.client();
        let reports = self.container.agents();
        let active = reports.iter().filter(|report| is_active(&report.view)).count();
        let payload = Payload::json(&OfContainer {
            town_id: &self.shared.town_id,
            timestamp: now(),
            container_instance_id: client.context.run_id(),
            agents: reports.len(),
            active_agents: active,
            status: if self.container.is_ready() { "ok" } else { "degraded" },
        });
        let path = client.paths.town("container-heartbeat");
        match client.send(Request::new(Call::ContainerHeartbeat, path, payload)).await {
            Ok(reply) => self.look_for_nonce(&reply),
            // Without agents nobody else finds out if it is the token that is refused, or only this call: a call that
            // the town must have does, and asks for another token if it has to.
            Err(fault) if fault.status == Some(401) && active == 0 => {
                let _ = ask_for_registry(&self.shared, client.patience()).await;
            }
            // That was logged.
            Err(_) => {}
        }
    }

    /// A heartbeat's answer may have a nonce.
    pub(super) fn look_for_nonce(&self, reply: &Reply) {
        if let Some(nonce) = answers::drain_nonce(&reply.body) {
            self.shared.heard.nonce(&nonce);
        }
    }
}

/// Whether something of it is there. One in backoff is not, for now.
pub(super) fn is_active(view: &AgentView) -> bool {
    matches!(view.status.as_ref(), "starting" | "running" | "stopping")
}
