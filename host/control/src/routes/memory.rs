//! `GET /memory`: the container, its series and trend, the largest agents. `GET /agents/{id}/memory`: one agent
//! with its series at both resolutions, its trend, and the time left to its limit. An unknown agent is 404;
//! one that ended is known for a while.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{AgentMemoryView, ContainerMemoryView};
use bulkhead_supervisor::SendError;
use bulkhead_types::AgentId;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn container_operation() -> Operation {
    Operation::new(Group::Diagnosis, "Returns the memory of the container, over time")
        .about("`null`: this machine does not report it.")
        .answers::<ContainerMemoryView>(200, "The memory.")
}

pub(super) fn agent_operation() -> Operation {
    Operation::new(Group::Diagnosis, "Returns the memory of an agent, over time")
        .about("Series go on across incarnations. `usedBytes` and `hostBytes` are `null` when it is not up.")
        .known_agent()
        .answers::<AgentMemoryView>(200, "The memory.")
}

pub(super) async fn container<B: Backend>(
    State(backend): State<B>,
    _: NoParams,
) -> Json<ContainerMemoryView> {
    Json(backend.memory())
}

pub(super) async fn agent<B: Backend>(
    agent: PathAgent<B>,
    _: NoParams,
) -> Result<Json<AgentMemoryView>, Refusal> {
    let view = |backend: &B, id: &AgentId| {
        backend.agent_memory(id).ok_or_else(|| SendError::NoSuchAgent(id.clone()))
    };
    agent.when_restored(view).await.map(Json)
}
