//! The server's handle over HTTP, for use by hand. It has a listener of its own, so that it answers while the
//! town is down.
//!
//! | call | what it does |
//! | --- | --- |
//! | `GET /towns/{town}` | what is kept of a town |
//! | `GET /calls` | the last hundred calls |
//! | `PUT /towns/{town}/agents` | puts an agent into the registry; the body is its start request |
//! | `PUT /towns/{town}/nudges/{id}` | leaves a nudge; the body is `{"agent", "message"}` |
//! | `PUT /towns/{town}/drain-nonce` | the body is the nonce |
//! | `PUT /faults/{call}` | the body is a fault, for a call or `all` |
//! | `DELETE /faults/{call}` | well-behaved again |
//! | `PUT /listening` | the body is `true` or `false` |

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::log::Record;
use crate::server::TownServer;
use crate::town::Town;
use crate::{Fault, Which};

/// Calls that are shown.
const SHOWN: usize = 100;

type Server = State<Arc<TownServer>>;

/// An empty answer, or what is wrong with the request.
type Done = Result<StatusCode, (StatusCode, String)>;

/// The routes above.
pub fn routes(server: Arc<TownServer>) -> Router {
    Router::new()
        .route("/towns/{town}", get(show))
        .route("/towns/{town}/agents", put(list))
        .route("/towns/{town}/nudges/{id}", put(nudge))
        .route("/towns/{town}/drain-nonce", put(drain_nonce))
        .route("/calls", get(calls))
        .route("/faults/{call}", put(misbehave).delete(behave))
        .route("/listening", put(listening))
        .with_state(server)
}

fn bad(why: impl ToString) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, format!("{}\n", why.to_string()))
}

async fn show(State(server): Server, Path(id): Path<String>) -> Json<Value> {
    Json(server.town(&id, |town| shown(town)))
}

fn shown(town: &Town) -> Value {
    let completed: Vec<_> =
        town.completed.iter().map(|(agent, body)| json!({"agent": agent, "body": body})).collect();
    json!({
        "newestRun": town.newest_run.as_ref().map(|(_, run)| run),
        "tokenGeneration": town.tokens.generation(),
        "registry": town.registry,
        "heartbeats": town.heartbeats,
        "containerHeartbeat": town.container_heartbeat,
        "snapshots": town.snapshots.iter().map(|(agent, snapshot)| {
            (agent.clone(), json!({"bytes": snapshot.bytes.len(), "takenAt": snapshot.taken_at_ms}))
        }).collect::<serde_json::Map<_, _>>(),
        "events": town.events.seen(),
        "completed": completed,
        "ready": town.ready.iter().collect::<Vec<_>>(),
        "evictions": town.evictions.iter().collect::<Vec<_>>(),
        "nudges": town.nudges.iter().map(|(id, nudge)| {
            json!({"id": id, "agent": nudge.agent, "delivered": nudge.delivered})
        }).collect::<Vec<_>>(),
        "problems": town.problems.iter().collect::<Vec<_>>(),
    })
}

async fn calls(State(server): Server) -> Json<Value> {
    let calls = server.calls();
    let last = &calls[calls.len().saturating_sub(SHOWN)..];
    Json(last.iter().map(line).collect())
}

fn line(record: &Record) -> Value {
    json!({
        "atMs": record.at_ms, "call": record.call.name(), "path": record.path, "runId": record.run_id,
        "tokenGeneration": record.generation, "status": record.status,
        "fault": record.fault.map(|fault| fault.to_string()),
    })
}

async fn list(State(server): Server, Path(id): Path<String>, body: Json<Value>) -> Done {
    if !body["agentId"].is_string() {
        return Err(bad("the start request has no agentId"));
    }
    server.town(&id, |town| town.list(body.0));
    Ok(StatusCode::NO_CONTENT)
}

async fn nudge(
    State(server): Server,
    Path((town, id)): Path<(String, String)>,
    body: Json<Value>,
) -> Done {
    let (agent, message) = (body["agent"].as_str(), body["message"].as_str());
    let (agent, message) = agent.zip(message).ok_or_else(|| bad("agent or message is missing"))?;
    server.town(&town, |town| town.nudge(&id, agent, message));
    Ok(StatusCode::NO_CONTENT)
}

async fn drain_nonce(State(server): Server, Path(id): Path<String>, nonce: String) -> StatusCode {
    server.town(&id, |town| town.drain_nonce = Some(nonce));
    StatusCode::NO_CONTENT
}

async fn misbehave(State(server): Server, Path(call): Path<String>, fault: String) -> Done {
    let which: Which = call.parse().map_err(bad)?;
    let fault: Fault = fault.trim().parse().map_err(bad)?;
    server.misbehave(which, fault);
    Ok(StatusCode::NO_CONTENT)
}

async fn behave(State(server): Server, Path(call): Path<String>) -> Done {
    server.behave(call.parse::<Which>().map_err(bad)?);
    Ok(StatusCode::NO_CONTENT)
}

async fn listening(State(server): Server, wanted: String) -> Done {
    match wanted.trim() {
        "true" => server.come_up().map_err(bad)?,
        "false" => server.go_down(),
        _ => return Err(bad("the body is neither true nor false")),
    }
    Ok(StatusCode::NO_CONTENT)
}
