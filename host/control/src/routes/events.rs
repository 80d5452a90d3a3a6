//! `GET /agents/{id}/events?after=N&limit=N`: what an agent did, oldest first. An unknown agent has an empty list, as
//! in the original: its clients poll before the start came through.

use axum::extract::State;
use axum::response::Response;

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::params::{Params, PathId};

/// Largest id that a JavaScript client can hold exactly: 2^53 - 1. Rings never get there.
pub(super) const MAX_AFTER: u64 = (1 << 53) - 1;

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(&["after", "limit"])?;
    let after = params.whole_number("after", MAX_AFTER)?.unwrap_or(0);
    let limit = params.whole_number("limit", MAX_AFTER)?;
    long::json(move || {
        let mut page = backend.events_after(&id, after);
        page.events.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        page
    })
    .await
}
