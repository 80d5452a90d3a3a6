//! `GET /agents/{id}/status`: one agent.

use axum::Json;
use axum::extract::State;
use bulkhead_api::AgentView;
use bulkhead_supervisor::SendError;

use crate::Backend;
use crate::answer::Refusal;
use crate::params::{NoParams, PathId};

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    _: NoParams,
) -> Result<Json<AgentView>, Refusal> {
    backend.brought_back(&id).await?;
    backend.status(&id).map(Json).ok_or_else(|| SendError::NoSuchAgent(id).into())
}
