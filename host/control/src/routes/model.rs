//! `PATCH /agents/{id}/model`: the agent uses another model from its next turn on. Its session stays.

use axum::Json;
use bulkhead_api::{ModelRequest, Parsed, UpdateAnswer, WithIgnored};
use serde_json::json;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Settings, "Changes the models of an agent from its next turn on")
        .about("Without `smallModel` it stays; `null` removes it.")
        .known_agent()
        .body::<ModelRequest>(json!({"model": "large", "smallModel": "small"}))
        .answers::<WithIgnored<UpdateAnswer>>(200, "The next turn goes by it.")
        .refuses(409, "The agent takes no settings in its state (`not-running`).")
}

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
