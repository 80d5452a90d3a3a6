//! `GET /agents/{id}/events?after=N`: what an agent did. An unknown agent has an empty list, as in
//! the original: its clients poll before the start came through.

use axum::Json;
use axum::extract::State;
use bulkhead_api::EventsPage;

use crate::Backend;
use crate::answer::Refusal;
use crate::params::{Params, PathId};

/// Largest id that a JavaScript client can hold exactly: 2^53 - 1. Rings never get there.
const MAX_AFTER: u64 = (1 << 53) - 1;

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Json<EventsPage>, Refusal> {
    let after = params.whole_number("after", MAX_AFTER)?.unwrap_or(0);
    Ok(Json(backend.events_after(&id, after)))
}
