//! `POST /agents/{id}/nudge`: leaves a message that comes when no other does. It is a hint: it takes no
//! place in the mailbox, nobody waits for its turn, and what is left at the agent's end is dropped.

use axum::Json;
use bulkhead_api::{NudgeAnswer, NudgeRequest};
use serde_json::json;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Leaves a message that the agent gets when its mailbox is empty")
        .about("The host assigns a missing `nudgeId`.")
        .known_agent()
        .body::<NudgeRequest>(
            json!({"message": "the build is red", "source": "witness", "nudgeId": "n-4"}),
        )
        .answers::<NudgeAnswer>(200, "The nudge waits.")
        .delivers()
}

pub(super) async fn post<B: Backend>(
    agent: PathAgent<B>,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<NudgeAnswer>, Refusal> {
    let request = NudgeRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    drop(body);
    let nudge_id = agent.when_restored(|backend, id| backend.nudge(id, request)).await?;
    Ok(Json(NudgeAnswer { queued: true, nudge_id }))
}
