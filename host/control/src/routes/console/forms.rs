//! What a person can do to an agent. Each form carries the token of its session.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use bulkhead_api::nudge::MAX_NUDGE_BYTES;
use bulkhead_api::{NudgeRequest, text_issue};
use bulkhead_console::{Said, Visitor};
use bulkhead_supervisor::SendError;
use bulkhead_types::message::MAX_BODY_BYTES;
use bulkhead_types::{AgentId, Sender};
use hyper::StatusCode;

use super::super::message::{accepts_events, frames};
use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::Form;
use crate::params::{NoParams, PathId, Trace};
use crate::passes::is_secret;
use crate::routed::Services;
use crate::turn::LiveTurn;

/// Who asked, in the line of the agent's exit.
const BY: &str = "console";

/// Sends a message. The script asks for a stream and shows the answer; without it the page comes again.
pub(super) async fn message<B: Backend>(
    agent: PathAgent<B>,
    PathId(id): PathId,
    Extension(visitor): Extension<Visitor>,
    Extension(services): Extension<Arc<Services>>,
    Trace(trace): Trace,
    headers: HeaderMap,
    mut form: Form,
) -> Result<Response, Refusal> {
    is_from(&visitor, &mut form)?;
    let text = text(&mut form, MAX_BODY_BYTES)?;
    let send = |backend: &B, id: &AgentId| backend.send(id, Sender::Operator, text.into(), trace);
    if accepts_events(&headers) {
        let place = services.streams.place()?;
        let turn = agent.when_restored(|backend, id| LiveTurn::begin(backend, id, send)).await?;
        return Ok(place.events(frames(turn, None, services.streams.clone()), false));
    }
    agent.when_restored(send).await?;
    Ok(back(&id, Said::Sent))
}

pub(super) async fn nudge<B: Backend>(
    agent: PathAgent<B>,
    PathId(id): PathId,
    Extension(visitor): Extension<Visitor>,
    _: NoParams,
    mut form: Form,
) -> Result<Response, Refusal> {
    is_from(&visitor, &mut form)?;
    let message = text(&mut form, MAX_NUDGE_BYTES)?;
    let request = NudgeRequest { message, source: "operator".to_owned(), nudge_id: None };
    agent.when_restored(|backend, id| backend.nudge(id, request)).await?;
    Ok(back(&id, Said::Nudged))
}

pub(super) async fn start<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    Extension(visitor): Extension<Visitor>,
    _: NoParams,
    Trace(trace): Trace,
    mut form: Form,
) -> Result<Response, Refusal> {
    is_from(&visitor, &mut form)?;
    backend.brought_back(&id).await?;
    match backend.start_again(&id, trace).await? {
        Some(_) => Ok(back(&id, Said::Started)),
        None => Err(SendError::NoSuchAgent(id).into()),
    }
}

pub(super) async fn stop<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    Extension(visitor): Extension<Visitor>,
    _: NoParams,
    mut form: Form,
) -> Result<Response, Refusal> {
    is_from(&visitor, &mut form)?;
    backend.stop(&id, BY).await?;
    Ok(back(&id, Said::Stopped))
}

/// Refuses a form that is of no page of this session.
pub(super) fn is_from(visitor: &Visitor, form: &mut Form) -> Result<(), Refusal> {
    let (shown, expected) = (form.take("form_token"), visitor.form_token.as_bytes());
    if !expected.is_empty() && is_secret(shown.as_bytes(), expected) {
        return Ok(());
    }
    let error = "the form is not of a page of this session";
    let refusal = Refusal::new(StatusCode::FORBIDDEN, error).kind("form-token");
    Err(refusal.action("go back, reload the page, and send it again"))
}

fn text(form: &mut Form, most: usize) -> Result<String, Refusal> {
    // Forms end lines like this.
    let text = form.take("text").replace("\r\n", "\n");
    match text_issue("text", Some(&text), most) {
        Some(issue) => Err(Refusal::invalid_body(vec![issue])),
        None => Ok(text),
    }
}

/// To the agent's page, which says what came of it.
fn back(id: &AgentId, said: Said) -> Response {
    Redirect::to(&format!("/console/agents/{id}?said={}", said.as_str())).into_response()
}
