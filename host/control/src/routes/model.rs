//! `PATCH /agents/{id}/model`: the agent uses another model from its next turn on. Its session stays.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{ModelRequest, Parsed, UpdateAnswer, WithIgnored};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::{NoParams, PathId};

pub(super) async fn patch<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<WithIgnored<UpdateAnswer>>, Refusal> {
    let parsed = ModelRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    backend.brought_back(&id).await?;
    backend.set_model(&id, request)?;
    Ok(Json(WithIgnored { answer: UpdateAnswer { updated: true }, ignored }))
}
