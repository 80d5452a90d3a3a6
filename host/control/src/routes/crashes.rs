//! `GET /crashes?agent=&reason=&before=&after=&limit=`, `GET /crashes/{crashId}`, and
//! `GET /agents/{id}/crashes`: crash records, newest first. `before` and `after` take a crash id. Records of
//! earlier runs are among them, as far as they are kept. An unknown agent gets an empty list: its records may
//! be there when it is forgotten, and the other way round.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bulkhead_api::CrashesPage;
use bulkhead_api::crashes::MAX_CRASHES;
use bulkhead_supervisor::{CrashFilter, CrashPage};
use bulkhead_types::{AgentId, CrashRecord, ExitReason};
use hyper::StatusCode;

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, NoParams, Param, Params, PathId, PathText};

const AGENT: Param = Param::new("agent", Kind::Agent, "Only records of this agent.");
const REASON: Param =
    Param::new("reason", Kind::Word(ExitReason::NAMES), "Only records of ends for this reason.");
const BEFORE: Param = Param::new("before", Kind::Text, "A crash id: only older records.");
const AFTER: Param = Param::new("after", Kind::Text, "A crash id: only newer records.");
const LIMIT: Param = Param::new(
    "limit",
    Kind::Number(0, MAX_CRASHES),
    "Most records in the response; 100 by default.",
);
const OF_ALL: &[Param] = &[AGENT, REASON, BEFORE, AFTER, LIMIT];
const OF_ONE: &[Param] = &[REASON, BEFORE, AFTER, LIMIT];

pub(super) fn list_operation() -> Operation {
    Operation::new(Group::Diagnosis, "Lists crash records, newest first")
        .about(
            "Records of earlier runs are among them, as far as they are kept. `more`: there are more in that direction. `cursorLost`: \
             the record of `before` or `after` is not kept any more.",
        )
        .query(OF_ALL)
        .answers::<CrashesPage>(200, "The records.")
}

pub(super) fn of_agent_operation() -> Operation {
    Operation::new(Group::Diagnosis, "Lists crash records of an agent")
        .about("An unknown agent has an empty list.")
        .agent()
        .query(OF_ONE)
        .answers::<CrashesPage>(200, "The records.")
}

pub(super) fn one_operation() -> Operation {
    Operation::new(Group::Diagnosis, "Returns a crash record")
        .about("`eviction` appears when it was evicted.")
        .path_text("crashId", "The id of the record.")
        .answers::<CrashRecord>(200, "The record.")
        .refuses(404, "There is no such record (`no-such-crash`).")
}

pub(super) async fn list<B: Backend>(
    State(backend): State<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(OF_ALL)?;
    let agent = params.agent(&AGENT)?;
    page(backend, &params, agent).await
}

pub(super) async fn of_agent<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(OF_ONE)?;
    page(backend, &params, Some(id)).await
}

pub(super) async fn one<B: Backend>(
    State(backend): State<B>,
    PathText(crash_id): PathText,
    _: NoParams,
) -> Result<Json<Arc<CrashRecord>>, Refusal> {
    backend.crash(&crash_id).map(Json).ok_or_else(|| no_such_crash(&crash_id))
}

pub(super) fn no_such_crash(crash_id: &str) -> Refusal {
    let error = format!("no such crash: {}", crate::refused::truncated(crash_id, 128));
    Refusal::new(StatusCode::NOT_FOUND, error).kind("no-such-crash")
}

async fn page<B: Backend>(
    backend: B,
    params: &Params,
    agent: Option<AgentId>,
) -> Result<Response, Refusal> {
    let limit = params.number(&LIMIT)?;
    let default = CrashFilter::default();
    let filter = CrashFilter {
        agent,
        reason: params.word(&REASON)?,
        before: params.text(&BEFORE),
        after: params.text(&AFTER),
        limit: limit.map_or(default.limit, |limit| limit as usize),
    };
    long::json(move || {
        let CrashPage { records, more, cursor_lost } = backend.crashes(&filter);
        CrashesPage { crashes: records, more, cursor_lost }
    })
    .await
}
