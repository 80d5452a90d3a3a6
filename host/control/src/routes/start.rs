//! `POST /agents/start`: 201 when this request began an incarnation, 200 when it joined or kept another.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::extract::State;
use axum::{Extension, Json};
use bulkhead_api::{Parsed, StartAnswer, StartRequest, WithIgnored};
use hyper::StatusCode;
use serde_json::json;

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::{NoParams, Trace};
use crate::routed::Services;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Starts an agent")
        .about(
            "Only `agentId` and `role` are required. `ifRunning` selects what happens when the agent is starting or running \
             already: `join` it (or replace one with another spec), `restart` it, or `keep` it as it is.",
        )
        .traced()
        .body::<StartRequest>(json!({
            "agentId": "polecat-1", "role": "polecat", "name": "Polecat One", "prompt": "fix the build",
            "townId": "riverside", "model": "large", "envVars": {"REPOSITORY": "https://example.com/a.git"},
            "secrets": {"GIT_TOKEN": "..."}, "memoryLimitMb": 64, "ifRunning": "join", "deadlineMs": 30000
        }))
        .answers::<WithIgnored<StartAnswer>>(201, "This request began the incarnation.")
        .answers::<WithIgnored<StartAnswer>>(
            200,
            "The agent was starting or running; with `joined`, an incarnation with the same spec.",
        )
        .refuses(409, "`quarantined` or `superseded`.")
        .refuses(422, "The component cannot be started as it is: `component-invalid` and others.")
        .refuses(500, "`instantiate` or `host`; the host's log has the details.")
        .refuses(502, "The agent failed at its start: `guest-error` or `guest-crashed`.")
        .refuses(503, "`capacity`, `memory`, `draining` and others, or too many requests are under way (`busy`).")
        .refuses(504, "`deadline`, `still-compiling` or `compile-deadline`.")
}

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    Extension(services): Extension<Arc<Services>>,
    _: NoParams,
    Trace(trace): Trace,
    body: WholeBody,
) -> Result<(StatusCode, Json<WithIgnored<StartAnswer>>), Refusal> {
    let pass = services.starts.pass().await;
    let parsed = StartRequest::parse_body(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    // A start may take minutes; its body gives its room back before.
    drop(body);
    let mut start = pin!(backend.start(request, trace));
    // Its first step lets it in. The others wait for the agent.
    let first = poll_fn(|cx| Poll::Ready(start.as_mut().poll(cx))).await;
    drop(pass);
    let started = match first {
        Poll::Ready(started) => started?,
        Poll::Pending => start.await?,
    };
    let status = if started.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(WithIgnored { answer: started.answer, ignored })))
}
