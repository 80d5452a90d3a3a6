//! `PATCH /agents/{id}/model`: the agent uses another model from its next turn on. Its session stays.

use axum::Json;
use bulkhead_api::{ModelRequest, Parsed, UpdateAnswer, WithIgnored};

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::NoParams;

pub(super) async fn patch<B: Backend>(
    agent: PathAgent<B>,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<WithIgnored<UpdateAnswer>>, Refusal> {
    let parsed = ModelRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    agent.when_restored(|backend, id| backend.set_model(id, request)).await?;
    Ok(Json(WithIgnored { answer: UpdateAnswer { updated: true }, ignored }))
}
