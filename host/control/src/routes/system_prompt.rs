//! `PUT /agents/{id}/system-prompt`: the agent has other instructions from its next turn on. Its
//! session stays.

use axum::Json;
use bulkhead_api::{Parsed, SystemPromptRequest, UpdateAnswer, WithIgnored};
use serde_json::json;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(
        Group::Settings,
        "Changes the standing instructions of an agent from its next turn on",
    )
    .known_agent()
    .body::<SystemPromptRequest>(json!({"systemPrompt": "be brief"}))
    .answers::<WithIgnored<UpdateAnswer>>(200, "The next turn goes by it.")
    .refuses(409, "The agent takes no settings in its state (`not-running`).")
}

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
