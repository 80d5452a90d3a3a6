//! `GET /readyz`: whether new starts are taken, which desired agents are missing, and whether anything is durable.
//!
//! A missing agent does not make the container unready, and a database that cannot be written or shipped does not: an
//! orchestrator would take the agents that work out of service for it. With `?strict=true` they do, for a rollout that is to
//! stop when not everything comes up. What is not shipped counts where a role promises that it is.

use axum::extract::State;
use axum::{Extension, Json};
use bulkhead_api::{Readiness, Stuck};
use bulkhead_supervisor::Outgoing;
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
    "Be unready while a desired agent is missing, nothing is durable, or what a role with durable = \"fleet\" needs is \
     not shipped.",
);
const QUERY: &[Param] = &[STRICT];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Probes, "Says whether starts are accepted")
        .about("Only callers with the token see `agents`, `storeError` and why something is stuck.")
        .open()
        .query(QUERY)
        .answers::<Readiness>(200, "Starts are accepted.")
        .refuses(
            503,
            "The host boots or drains (`not-ready`). With `strict`, a desired agent is missing (`agents-missing`), or the \
             database cannot be written, or not shipped for a role with `durable = \"fleet\"` (`not-durable`). On a copy of a \
             town that waits for the lease: `standby`, with `lease`.",
        )
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    trusted: Option<Extension<Trusted>>,
    params: Params,
) -> Result<Json<Readiness>, Refusal> {
    let strict = params.only(QUERY)?.flag(&STRICT)?;
    // Probes ask again and again: a line each would bury what the host has to say.
    look(&backend, trusted.is_some(), strict).map(Json).map_err(Refusal::logged)
}

fn look<B: Backend>(backend: &B, is_trusted: bool, strict: bool) -> Result<Readiness, Refusal> {
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
    agents.truncate(if is_trusted { MAX_NAMED } else { 0 });
    if missing > 0 && strict {
        return Err(Refusal::incomplete(missing, agents));
    }
    let lost = backend.store_error();
    // It names directories and users.
    let store_error = lost.as_deref().filter(|_| is_trusted).map(str::to_owned);
    if lost.is_some() && strict {
        return Err(Refusal::not_durable("the database cannot be written", store_error.as_deref()));
    }
    let Outgoing { is_promised, ship, evidence } = backend.outgoing();
    // It names hosts and buckets.
    let shown = |stuck: Stuck| Stuck { error: stuck.error.filter(|_| is_trusted), ..stuck };
    let (ship, evidence) = (ship.map(shown), evidence.map(shown));
    if let Some(stuck) = ship.as_ref().filter(|_| is_promised && strict) {
        return Err(Refusal::not_durable(
            "the state of the town is not shipped",
            stuck.error.as_deref(),
        ));
    }
    Ok(Readiness {
        status: "ready".into(),
        missing,
        agents,
        store: health.store,
        store_error,
        lease_epoch: bulkhead_fence::epoch(),
        ship,
        evidence,
    })
}
