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

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use bulkhead_api::{MessageAnswer, MessageRequest, Parsed, TurnView, WithIgnored};
use bulkhead_supervisor::{Delivery, TurnReport};
use bulkhead_types::{AgentId, Next, Outcome, Sender};
use hyper::StatusCode;
use serde_json::json;
use tokio::time::timeout;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params, Trace};

/// Longest wait, in milliseconds: ten minutes, what proxies at most let a request take.
const MAX_WAIT_MS: u64 = 600_000;

const WAIT: Param = Param::new(
    "wait",
    Kind::Number(0, MAX_WAIT_MS),
    "How long to wait for the end of the turn, in ms.",
);
const QUERY: &[Param] = &[WAIT];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Puts a message into the mailbox of an agent")
        .about(
            "With `wait`, the response follows the end of its turn. Without `wait`, \
             `outcome` and `reply` are absent. A turn that is delivered again has not ended.",
        )
        .known_agent()
        .query(QUERY)
        .traced()
        .body::<MessageRequest>(json!({"prompt": "hello"}))
        .answers::<WithIgnored<MessageAnswer>>(200, "The message is in the mailbox; with `wait`, its turn has ended.")
        .answers::<WithIgnored<MessageAnswer>>(
            202,
            "The wait ended first (`outcome` is `pending`), and the turn continues.",
        )
        .refuses(409, "The agent accepts no messages in its state (`not-running`).")
        .refuses(413, "The message is larger than the whole mailbox (`message-too-large`), or the body than it may be.")
        .refuses(429, "The mailbox is full (`mailbox-full`), or the agent's memory is (`agent-memory-full`).")
        .refuses(
            502,
            "With `wait`: the turn failed (the agent's own code), or the agent ended (`agent-ended`, `message-set-aside`).",
        )
}

pub(super) async fn post<B: Backend>(
    agent: PathAgent<B>,
    params: Params,
    Trace(trace): Trace,
    body: WholeBody,
) -> Result<Response, Refusal> {
    let wait_ms = params.only(QUERY)?.number(&WAIT)?;
    let parsed = MessageRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    drop(body);
    let body = request.prompt.into();
    let send = |backend: &B, id: &AgentId| backend.send(id, Sender::Operator, body, trace);
    let delivery = agent.when_restored(send).await?;
    match wait_ms {
        None => Ok(sent(StatusCode::OK, delivery.message_id, None, ignored)),
        Some(ms) => wait_for(delivery, Duration::from_millis(ms), ignored).await,
    }
}

async fn wait_for(
    delivery: Delivery,
    wait: Duration,
    ignored: Vec<String>,
) -> Result<Response, Refusal> {
    let Delivery { message_id, report } = delivery;
    let Ok(report) = timeout(wait, report).await else {
        let turn = TurnView { outcome: "pending".to_owned(), reply: None };
        return Ok(sent(StatusCode::ACCEPTED, message_id, Some(turn), ignored));
    };
    match report {
        Ok(TurnReport::Finished(outcome)) => {
            Ok(sent(StatusCode::OK, message_id, Some(view(outcome)), ignored))
        }
        Ok(TurnReport::Failed { code, message }) => {
            Err(Refusal::turn_failed(message_id, code, message))
        }
        Ok(TurnReport::Ended { reason, message, crash_id }) => {
            Err(Refusal::agent_ended(message_id, reason, message, crash_id))
        }
        Ok(TurnReport::SetAside { reason, message, attempts, crash_ids }) => {
            Err(Refusal::message_set_aside(message_id, reason, message, attempts, crash_ids))
        }
        // Code that drops a message reports it first; if not, that is the host's fault.
        Err(_) => Err(Refusal::turn_unreported(message_id)),
    }
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

fn view(outcome: Outcome) -> TurnView {
    let next = match outcome.next {
        Next::Idle => "idle",
        Next::Continue => "continue",
        Next::Done => "done",
    };
    TurnView { outcome: next.to_owned(), reply: outcome.reply }
}
