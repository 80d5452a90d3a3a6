//! `POST /agents/{id}/nudge`: leaves a message that comes when no other does. It is a hint: it takes no
//! place in the mailbox, nobody waits for its turn, and what is left at the agent's end is dropped.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{NudgeAnswer, NudgeRequest};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::{NoParams, PathId};

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<NudgeAnswer>, Refusal> {
    let request = NudgeRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    drop(body);
    backend.brought_back(&id).await?;
    let nudge_id = backend.nudge(&id, request)?;
    Ok(Json(NudgeAnswer { queued: true, nudge_id }))
}
