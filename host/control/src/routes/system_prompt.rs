//! `PUT /agents/{id}/system-prompt`: the agent has other instructions from its next turn on. Its
//! session stays.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{SystemPromptRequest, UpdateAnswer};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::PathId;

pub(super) async fn put<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    body: WholeBody,
) -> Result<Json<UpdateAnswer>, Refusal> {
    let request = SystemPromptRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    backend.set_system_prompt(&id, request)?;
    Ok(Json(UpdateAnswer { updated: true }))
}
