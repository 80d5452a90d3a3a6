//! `PUT /agents/{id}/system-prompt`: the agent has other instructions from its next turn on. Its
//! session stays.

use axum::Json;
use bulkhead_api::{Parsed, SystemPromptRequest, UpdateAnswer, WithIgnored};

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::NoParams;

pub(super) async fn put<B: Backend>(
    agent: PathAgent<B>,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<WithIgnored<UpdateAnswer>>, Refusal> {
    let parsed = SystemPromptRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    agent.when_restored(|backend, id| backend.set_system_prompt(id, request)).await?;
    Ok(Json(WithIgnored { answer: UpdateAnswer { updated: true }, ignored }))
}
