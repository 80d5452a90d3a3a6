//! The shutdown notice: the town is notified that this container goes away, and where each agent was.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::AgentView;
use bulkhead_types::{AgentId, Timestamp};
use serde::Serialize;
use tokio::time::timeout;

use super::sweep::Sweep;
use super::{PARALLEL, Shared, about, heartbeat};
use crate::call::{Call, Payload, Request};
use crate::container::Container;

/// All of it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Eviction<'a> {
    container_instance_id: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContextOfAgent<'a> {
    agent_id: &'a AgentId,
    status: &'a str,
    last_activity_at: Timestamp,
    message_count: u64,
}

/// The agents that are there.
pub(crate) fn active(container: &dyn Container) -> Vec<AgentView> {
    let views = container.agents().into_iter().map(|report| report.view);
    views.filter(heartbeat::is_active).collect()
}

/// Notifies the town, also of these agents. Returns within ten seconds, whatever the town does.
pub(crate) async fn evict(shared: &Arc<Shared>, active: Vec<AgentView>, reason: &str) {
    let client = &shared.client;
    let notices = async {
        let container_instance_id = client.context.run_id();
        let payload = Payload::json(&Eviction { container_instance_id, reason });
        let path = client.paths.town("container-eviction");
        let within = client.patience.min(PATIENCE);
        let _ =
            client.send(Request::new(Call::ContainerEviction, path, payload).within(within)).await;
        let mut sweep = Sweep::new(PARALLEL).that_waits_for_others();
        active.into_iter().for_each(|view| sweep.push(view.agent_id.clone(), view, false));
        let each = |view: AgentView| {
            let shared = Arc::clone(shared);
            async move { send_context(&shared, &view).await }
        };
        sweep.drain(client, each, |_| {}).await;
    };
    let _ = timeout(PATIENCE, notices).await;
}

async fn send_context(shared: &Shared, view: &AgentView) {
    let client = &shared.client;
    let (id, rig) = (view.agent_id.as_str(), view.rig_id.as_deref());
    let path = client.paths.agent(rig, id, "eviction-context");
    let payload = Payload::json(&ContextOfAgent {
        agent_id: &view.agent_id,
        status: &view.status,
        last_activity_at: view.last_activity_at,
        message_count: view.message_count,
    });
    let _ =
        client.send(Request::new(Call::EvictionContext, path, payload).about(&about(view))).await;
}
