//! `GET /agents/{id}/status`: one agent.

use axum::Json;
use bulkhead_api::AgentView;
use bulkhead_supervisor::SendError;
use bulkhead_types::AgentId;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Returns an agent")
        .about("`exit`, `setAside`, `restart.nextRestartAt` and `restart.quarantine` appear when they apply.")
        .known_agent()
        .answers::<AgentView>(200, "The agent.")
}

pub(super) async fn get<B: Backend>(
    agent: PathAgent<B>,
    _: NoParams,
) -> Result<Json<AgentView>, Refusal> {
    let view = |backend: &B, id: &AgentId| {
        backend.status(id).ok_or_else(|| SendError::NoSuchAgent(id.clone()))
    };
    agent.when_restored(view).await.map(Json)
}
