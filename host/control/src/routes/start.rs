//! `POST /agents/start`: 201 when this request began an incarnation, 200 when it joined or kept another.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use axum::extract::State;
use axum::{Extension, Json};
use bulkhead_api::{Parsed, StartAnswer, StartRequest, WithIgnored};
use hyper::StatusCode;

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::{NoParams, Trace};
use crate::start_gate::StartGate;

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    Extension(gate): Extension<StartGate>,
    _: NoParams,
    Trace(trace): Trace,
    body: WholeBody,
) -> Result<(StatusCode, Json<WithIgnored<StartAnswer>>), Refusal> {
    let pass = gate.pass().await;
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
