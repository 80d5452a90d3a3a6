//! `GET /agents/{id}/events?after=N&limit=N`: what an agent did, oldest first. An unknown agent has an empty list, as
//! in the original: its clients poll before the start came through.

use axum::extract::State;
use axum::response::Response;
use bulkhead_api::EventsPage;

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params, PathId};

/// Largest id that a JavaScript client can hold exactly: 2^53 - 1. Rings never get there.
pub(super) const MAX_AFTER: u64 = (1 << 53) - 1;

const AFTER: Param = Param::new(
    "after",
    Kind::Number(0, MAX_AFTER),
    "Only events with an id above it; 0 by default.",
);
const LIMIT: Param =
    Param::new("limit", Kind::Number(0, MAX_AFTER), "Most events in the response; all by default.");
const QUERY: &[Param] = &[AFTER, LIMIT];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Lists events of an agent, oldest first")
        .about(
            "Events that were dropped before they could be read end before the id `droppedBefore`. An \
             unknown agent has an empty list.",
        )
        .agent()
        .query(QUERY)
        .answers::<EventsPage>(200, "The events.")
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(QUERY)?;
    let after = params.number(&AFTER)?.unwrap_or(0);
    let limit = params.number(&LIMIT)?;
    long::json(move || {
        let mut page = backend.events_after(&id, after);
        page.events.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        page
    })
    .await
}
