//! `PUT /agents/{id}/system-prompt`: the agent has other instructions from its next turn on. Its
//! session stays.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{Parsed, SystemPromptRequest, UpdateAnswer, WithIgnored};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::{NoParams, PathId};

pub(super) async fn put<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<WithIgnored<UpdateAnswer>>, Refusal> {
    let parsed = SystemPromptRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    backend.brought_back(&id).await?;
    backend.set_system_prompt(&id, request)?;
    Ok(Json(WithIgnored { answer: UpdateAnswer { updated: true }, ignored }))
}
