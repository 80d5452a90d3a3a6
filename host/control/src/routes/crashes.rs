//! `GET /crashes?agent=&reason=&before=&after=&limit=`, `GET /crashes/{crashId}`, and
//! `GET /agents/{id}/crashes`: crash records, newest first. `before` and `after` take a crash id. Records of
//! earlier runs are among them, as far as they are kept. An unknown agent gets an empty list: its records may
//! be there when it is forgotten, and the other way round.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use bulkhead_api::crashes::MAX_CRASHES;
use bulkhead_api::{CrashesPage, Issue};
use bulkhead_supervisor::{CrashFilter, CrashPage};
use bulkhead_types::{AgentId, CrashRecord, ExitReason};
use hyper::StatusCode;

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::params::{NoParams, Params, PathId};

pub(super) async fn list<B: Backend>(
    State(backend): State<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(&["agent", "reason", "before", "after", "limit"])?;
    let agent = params.text("agent").map(|text: String| AgentId::parse(&text)).transpose();
    let agent =
        agent.map_err(|error| Refusal::invalid_query([Issue::new("agent", error.to_string())]))?;
    page(backend, &params, agent).await
}

pub(super) async fn of_agent<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(&["reason", "before", "after", "limit"])?;
    page(backend, &params, Some(id)).await
}

pub(super) async fn one<B: Backend>(
    State(backend): State<B>,
    Path(crash_id): Path<String>,
    _: NoParams,
) -> Result<Json<Arc<CrashRecord>>, Refusal> {
    backend.crash(&crash_id).map(Json).ok_or_else(|| {
        let error = format!("no such crash: {}", crate::refused::truncated(&crash_id, 128));
        Refusal::new(StatusCode::NOT_FOUND, error).kind("no-such-crash")
    })
}

async fn page<B: Backend>(
    backend: B,
    params: &Params,
    agent: Option<AgentId>,
) -> Result<Response, Refusal> {
    let reason = params.text("reason").map(|word| reason(&word)).transpose()?;
    let limit = params.whole_number("limit", MAX_CRASHES)?;
    let default = CrashFilter::default();
    let filter = CrashFilter {
        agent,
        reason,
        before: params.text("before"),
        after: params.text("after"),
        limit: limit.map_or(default.limit, |limit| limit as usize),
    };
    long::json(move || {
        let CrashPage { records, more, cursor_lost } = backend.crashes(&filter);
        CrashesPage { crashes: records, more, cursor_lost }
    })
    .await
}

fn reason(word: &str) -> Result<ExitReason, Refusal> {
    serde_json::from_value(word.into()).map_err(|_| {
        let known = ExitReason::NAMES.join(", ");
        Refusal::invalid_query([Issue::new("reason", format!("must be one of {known}"))])
    })
}
