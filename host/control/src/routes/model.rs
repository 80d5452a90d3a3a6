//! `PATCH /agents/{id}/model`: the agent uses another model from its next turn on. Its session stays.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{ModelRequest, UpdateAnswer};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::PathId;

pub(super) async fn patch<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    body: WholeBody,
) -> Result<Json<UpdateAnswer>, Refusal> {
    let request = ModelRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    backend.set_model(&id, request)?;
    Ok(Json(UpdateAnswer { updated: true }))
}
