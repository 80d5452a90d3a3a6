//! `POST /agents/{id}/message`: puts a message into a mailbox; with `?wait=<ms>` also says how its
//! turn ended.
//!
//! | the turn | answer |
//! | --- | --- |
//! | not waited for | 200 `{sent, messageId}` |
//! | ended | 200, with `outcome` and `reply` |
//! | is not over when the wait is | 202, with `outcome: "pending"`; the turn goes on |
//! | failed, and the agent keeps running | 502, with the agent's own code and words |
//! | did not end, because the agent did, and is not restarted | 502, with `exitReason` and `crashId` |
//! | did not end in any of its attempts | 502, with `exitReason`, `attempts` and `crashIds` |
//!
//! A turn that an agent ended in and that is tried again is not over.
//!
//! With `Accept: text/event-stream` the turn is a stream: `delta` frames as it happens, and `turn` or `error` at its end.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bulkhead_api::{
    GapFrame, MessageAnswer, MessageRequest, Parsed, StreamFrame, TurnView, WithIgnored,
};
use bulkhead_feed::Item;
use bulkhead_supervisor::{Delivery, FinishedTurn};
use bulkhead_types::{AgentId, Next, Sender};
use futures_util::StreamExt;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use super::stream::frame;
use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params, Trace};
use crate::routed::Services;
use crate::streams::{Frame, Frames, Streams};
use crate::turn::{self, LiveTurn, Step};

const WAIT: Param = Param::new(
    "wait",
    Kind::Number(0, turn::MAX_WAIT_MS),
    "How long to wait for the end of the turn, in ms.",
);
const QUERY: &[Param] = &[WAIT];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Puts a message into the mailbox of an agent")
        .about(
            "With `wait`, the response follows the end of its turn. Without `wait`, \
             `outcome` and `reply` are absent. A turn that is delivered again has not ended. With `Accept: \
             text/event-stream` the turn is a [stream](#streams): `delta` frames as it happens, and `turn` or `error` at its \
             end.",
        )
        .known_agent()
        .query(QUERY)
        .traced()
        .body::<MessageRequest>(json!({"prompt": "hello"}))
        .answers::<WithIgnored<MessageAnswer>>(200, "The message is in the mailbox; with `wait`, its turn has ended.")
        .answers_text(200, "text/event-stream", "The message is in the mailbox; with `wait`, its turn has ended.")
        .answers::<WithIgnored<MessageAnswer>>(
            202,
            "The wait ended first (`outcome` is `pending`), and the turn continues.",
        )
        .delivers()
        .refuses(
            502,
            "With `wait`: the turn failed (the agent's own code), or the agent ended (`agent-ended`, `message-set-aside`).",
        )
}

pub(super) async fn post<B: Backend>(
    agent: PathAgent<B>,
    Extension(services): Extension<Arc<Services>>,
    params: Params,
    Trace(trace): Trace,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Response, Refusal> {
    let wait = params.only(QUERY)?.number(&WAIT)?.map(Duration::from_millis);
    let parsed = MessageRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    drop(body);
    let body = request.prompt.into();
    let send = |backend: &B, id: &AgentId| backend.send(id, Sender::Operator, body, trace);
    if accepts_events(&headers) {
        let place = services.streams.place()?;
        let turn = agent.when_restored(|backend, id| LiveTurn::begin(backend, id, send)).await?;
        return Ok(place.events(frames(turn, wait, services.streams.clone()), false));
    }
    let delivery = agent.when_restored(send).await?;
    match wait {
        None => Ok(sent(StatusCode::OK, delivery.message_id, None, ignored)),
        Some(wait) => wait_for(delivery, wait, ignored).await,
    }
}

/// Whether the sender asks for a stream.
pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accept.flat_map(|value| value.split(','));
    kinds.any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

async fn wait_for(
    delivery: Delivery,
    wait: Duration,
    ignored: Vec<String>,
) -> Result<Response, Refusal> {
    let Delivery { message_id, mut report } = delivery;
    let Ok(ended) = timeout(wait, turn::end(&message_id, &mut report)).await else {
        return Ok(sent(StatusCode::ACCEPTED, message_id, Some(pending()), ignored));
    };
    Ok(sent(StatusCode::OK, message_id, Some(view(ended?)), ignored))
}

/// A turn as frames, up to its end or to the end of the wait.
pub(super) fn frames(turn: LiveTurn, wait: Option<Duration>, streams: Streams) -> Frames {
    let until = wait.map(|wait| Instant::now() + wait);
    let batches = stream::unfold(Some((turn, streams)), move |state| async move {
        let (mut turn, streams) = state?;
        let next = turn.next();
        let steps = match until {
            Some(until) => timeout_at(until, next).await,
            None => Ok(next.await),
        };
        let answer = |message_id: &str, turn: TurnView| {
            let message_id = message_id.to_owned();
            StreamFrame::Turn(MessageAnswer { sent: true, message_id, turn: Some(turn) })
        };
        let Ok(steps) = steps else {
            let frame = answer(turn.message_id(), pending());
            return Some((vec![Frame::from(&frame)], None));
        };
        let is_over = steps.is_empty() || steps.iter().any(|it| matches!(it, Step::Ended(_)));
        let frames = steps.into_iter().map(|step| match step {
            Step::Deltas(deltas) => frame(&Item::Deltas(deltas), &streams),
            Step::Gap => {
                streams.count_gap();
                Frame::from(&StreamFrame::Gap(GapFrame::Deltas))
            }
            Step::Ended(Ok(finished)) => Frame::from(&answer(turn.message_id(), view(finished))),
            Step::Ended(Err(refusal)) => Frame::from(&StreamFrame::Error(refusal.body)),
        });
        let frames: Vec<_> = frames.collect();
        Some((frames, (!is_over).then_some((turn, streams))))
    });
    batches.boxed()
}

fn pending() -> TurnView {
    TurnView { outcome: "pending".to_owned(), reply: None, reply_cut: false, durable: None }
}

fn sent(
    status: StatusCode,
    message_id: String,
    turn: Option<TurnView>,
    ignored: Vec<String>,
) -> Response {
    let answer = MessageAnswer { sent: true, message_id, turn };
    (status, Json(WithIgnored { answer, ignored })).into_response()
}

fn view(finished: FinishedTurn) -> TurnView {
    let FinishedTurn { outcome, durable, .. } = finished;
    let next = match outcome.next {
        Next::Idle => "idle",
        Next::Continue => "continue",
        Next::Done => "done",
    };
    let (reply, reply_cut) = (outcome.reply, outcome.reply_cut);
    TurnView { outcome: next.to_owned(), reply, reply_cut, durable }
}
