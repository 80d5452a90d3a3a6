//! `GET /readyz`: whether new starts are taken, which desired agents are missing, and whether anything is durable.
//!
//! A missing agent does not make the container unready, and a database that cannot be written does not: an orchestrator
//! would take the agents that work out of service for it. With `?strict=true` both do, for a rollout that is to stop when
//! not everything comes up.

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

const STRICT: Param = Param::new(
    "strict",
    Kind::Flag,
    "Be unready while a desired agent is missing or nothing is durable.",
);
const QUERY: &[Param] = &[STRICT];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Probes, "Says whether starts are accepted")
        .about("Only callers with the token see `agents` and `storeError`.")
        .open()
        .query(QUERY)
        .answers::<Readiness>(200, "Starts are accepted.")
        .refuses(
            503,
            "The host boots or drains (`not-ready`). With `strict`, a desired agent is missing (`agents-missing`), or the \
             database cannot be written (`not-durable`). On a copy of a town that waits for the lease: `standby`, with \
             `lease`.",
        )
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    trusted: Option<Extension<Trusted>>,
    params: Params,
) -> Result<Json<Readiness>, Refusal> {
    let strict = params.only(QUERY)?.flag(&STRICT)?;
    let health = backend.health();
    if !backend.is_ready() {
        let error = match health.draining {
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
    let lost = backend.store_error();
    // It names directories and users.
    let store_error = lost.as_deref().filter(|_| trusted.is_some()).map(str::to_owned);
    if lost.is_some() && strict {
        return Err(Refusal::not_durable(store_error.as_deref()));
    }
    Ok(Json(Readiness {
        status: "ready".into(),
        missing,
        agents,
        store: health.store,
        store_error,
        lease_epoch: bulkhead_fence::epoch(),
    }))
}
