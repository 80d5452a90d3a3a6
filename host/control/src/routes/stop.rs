//! `POST /agents/{id}/stop`: 200 when the incarnation is gone. A body is not read.

use axum::Json;
use axum::extract::State;
use bulkhead_api::StopAnswer;

use crate::Backend;
use crate::answer::Refusal;
use crate::openapi::{Group, Operation};
use crate::params::{NoParams, PathId};

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Stops an agent")
        .about("The response follows the end of its incarnation. The body is ignored.")
        .agent()
        .answers::<StopAnswer>(200, "The incarnation has ended.")
        .refuses(404, "There is no such agent (`no-such-agent`).")
        .refuses(503, "It has stopped, and for a role with `durable = \"fleet\"` that was not shipped in time (`not-shipped`).")
}

/// Who asked, in the line of the agent's exit.
const BY: &str = "control-api";

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    _: NoParams,
) -> Result<Json<StopAnswer>, Refusal> {
    Ok(Json(backend.stop(&id, BY).await?))
}
