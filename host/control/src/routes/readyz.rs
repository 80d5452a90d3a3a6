//! `GET /readyz`: whether new starts are taken, and which desired agents are missing.
//!
//! A missing agent does not make the container unready: an orchestrator would take the others out of service for
//! it. With `?strict=true` it does, for a rollout that is to stop when not everything comes up.

use axum::extract::State;
use axum::{Extension, Json};
use bulkhead_api::Readiness;
use hyper::StatusCode;

use crate::Backend;
use crate::answer::Refusal;
use crate::auth::Trusted;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params};

/// Agents that an answer names.
const MAX_NAMED: usize = 100;

const STRICT: Param =
    Param::new("strict", Kind::Flag, "Be unready while a desired agent is missing.");
const QUERY: &[Param] = &[STRICT];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Probes, "Says whether starts are accepted")
        .about("Only callers with the token see `agents`.")
        .open()
        .query(QUERY)
        .answers::<Readiness>(200, "Starts are accepted.")
        .refuses(
            503,
            "The host boots or drains (`not-ready`). With `strict`, a desired agent is missing (`agents-missing`).",
        )
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    trusted: Option<Extension<Trusted>>,
    params: Params,
) -> Result<Json<Readiness>, Refusal> {
    let strict = params.only(QUERY)?.flag(&STRICT)?;
    if !backend.is_ready() {
        let error = match backend.health().draining {
            Some(true) => {
                "not ready: the container is draining: it ends its agents and takes no starts"
            }
            _ => "not ready: the container is still booting",
        };
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("not-ready"));
    }
    let mut agents = backend.missing();
    let missing = agents.len();
    // Probes have no token, and learn nothing of agents but their number.
    agents.truncate(if trusted.is_some() { MAX_NAMED } else { 0 });
    if missing > 0 && strict {
        return Err(Refusal::incomplete(missing, agents));
    }
    Ok(Json(Readiness { status: "ready".into(), missing, agents }))
}
