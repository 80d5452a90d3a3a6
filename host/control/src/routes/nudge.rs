//! `POST /agents/{id}/nudge`: leaves a message that comes when no other does. It is a hint: it takes no
//! place in the mailbox, nobody waits for its turn, and what is left at the agent's end is dropped.

use axum::Json;
use bulkhead_api::{NudgeAnswer, NudgeRequest};

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::NoParams;

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
