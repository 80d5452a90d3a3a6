//! What a well-behaved town answers to a call.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LAST_MODIFIED};
use hyper::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::call::{Call, Target};
use crate::tokens::Standing;
use crate::town::{Snapshot, Town, sha256_hex};

/// The run that a call comes from.
pub const RUN_ID: &str = "x-bulkhead-run-id";

/// The number of the lease that the caller holds, if it runs under one.
pub const EPOCH: &str = "x-bulkhead-epoch";
/// The agent that a call is about.
pub const AGENT_ID: &str = "x-gastown-agent-id";
/// The rig of that agent.
pub const RIG_ID: &str = "x-gastown-rig-id";
/// When a snapshot was taken, in milliseconds since 1970.
pub const TAKEN_AT: &str = "x-snapshot-taken-at";
/// The hash of a snapshot.
pub const SHA256: &str = "x-snapshot-sha256";

/// Events in one call at most.
pub const MAX_EVENTS: usize = 100;
/// Bytes of a call with events at most.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, without its length.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    fn json(status: StatusCode, body: &Value) -> Self {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self { status, headers, body: body.to_string().into() }
    }

    fn data(data: &Value) -> Self {
        Self::json(StatusCode::OK, &json!({"success": true, "data": data}))
    }

    /// An error as the API reports it.
    pub fn error(status: StatusCode, error: &str) -> Self {
        Self::json(status, &json!({"success": false, "error": error}))
    }

    fn snapshot(snapshot: &Snapshot) -> Self {
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: Option<String>| {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        };
        add(CONTENT_TYPE, Some("application/octet-stream".to_owned()));
        add(HeaderName::from_static(TAKEN_AT), snapshot.taken_at_ms.map(|at| at.to_string()));
        add(HeaderName::from_static(SHA256), snapshot.sha256.clone());
        add(LAST_MODIFIED, snapshot.last_modified.clone());
        Self { status: StatusCode::OK, headers, body: snapshot.bytes.clone() }
    }
}

/// Why a call is refused.
struct Refusal(StatusCode, String);

fn bad(why: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, why.into())
}

/// A call with everything that comes with it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Which call and about whom.
    pub target: &'a Target,
    /// How good its token is.
    pub standing: Standing,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a Bytes,
}

/// Carries a call out. What its caller did wrong is written down in the town's `problems`.
pub fn answer(town: &mut Town, asked: &Asked<'_>) -> Answer {
    if let Some(refused) = authorize(asked).or_else(|| fence(town, asked)) {
        return refused;
    }
    match carry_out(town, asked) {
        Ok(answer) => answer,
        Err(Refusal(status, why)) => {
            town.problems.push(format!("{}: {why}", asked.target.call));
            Answer::error(status, &why)
        }
    }
}

fn authorize(asked: &Asked<'_>) -> Option<Answer> {
    let good = match asked.standing {
        Standing::Current => true,
        Standing::Expired => asked.target.call == Call::RefreshToken,
        Standing::Replaced | Standing::Unknown => false,
    };
    (!good).then(|| Answer::error(StatusCode::UNAUTHORIZED, "token is not good (any more)"))
}

/// Refuses runs that are older than the newest: those of an older lease, or begun earlier under the same one. The refresh of a token is nobody's call in particular.
fn fence(town: &mut Town, asked: &Asked<'_>) -> Option<Answer> {
    if asked.target.call == Call::RefreshToken {
        return None;
    }
    let Some(run) = text(asked.headers, RUN_ID) else {
        town.problems.push(format!("{}: no {RUN_ID}", asked.target.call));
        return Some(Answer::error(StatusCode::BAD_REQUEST, "no run id"));
    };
    let epoch = text(asked.headers, EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    match &town.newest_run {
        Some((newest_epoch, newest)) if (*newest_epoch, newest.as_str()) > (epoch, run) => {
            let body = json!({"success": false, "error": "fenced", "data": {"runId": newest}});
            Some(Answer::json(StatusCode::CONFLICT, &body))
        }
        _ => {
            town.newest_run = Some((epoch, run.to_owned()));
            None
        }
    }
}

fn carry_out(town: &mut Town, asked: &Asked<'_>) -> Result<Answer, Refusal> {
    let agent = check_agent(asked)?;
    let nothing = || Ok(Answer::data(&json!({})));
    match asked.target.call {
        Call::Registry => return Ok(Answer::data(&town.known_registry().into())),
        Call::PostRegistry => post_registry(town, json_body(asked)?)?,
        Call::ContainerHeartbeat => {
            let body = fields(asked, &["townId", "timestamp", "containerInstanceId", "status"])?;
            town.container_heartbeat = Some(body);
            return Ok(beat(town));
        }
        Call::Heartbeat => {
            let wanted = ["agentId", "townId", "status", "timestamp", "containerInstanceId"];
            town.heartbeats.insert(agent, fields(asked, &wanted)?);
            return Ok(beat(town));
        }
        Call::ContainerReady => {
            let nonce = string(&fields(asked, &["nonce"])?, "nonce");
            town.ready.push(nonce);
        }
        Call::ContainerEviction => {
            let body = fields(asked, &["containerInstanceId", "reason"])?;
            town.evictions.push(body);
        }
        Call::RefreshToken => {
            let token = town.tokens.issue(&asked.target.town);
            return Ok(Answer::data(&json!({"token": token})));
        }
        Call::AgentEvents => post_events(town, asked)?,
        Call::Snapshot => {
            let missing = || Answer::error(StatusCode::NOT_FOUND, "no snapshot");
            return Ok(town.snapshots.get(&agent).map_or_else(missing, Answer::snapshot));
        }
        Call::PostSnapshot => {
            let snapshot = snapshot(asked)?;
            town.snapshots.insert(agent, snapshot);
        }
        Call::PendingNudges => return Ok(Answer::data(&pending(town, &agent))),
        Call::NudgeDelivered => delivered(town, &agent, &fields(asked, &["nudge_id"])?)?,
        Call::Completed => {
            let body = fields(asked, &["status"])?;
            if body["status"] != "completed" && body["status"] != "failed" {
                return Err(bad(format!("status is {}", body["status"])));
            }
            town.completed.push((agent, body));
        }
        Call::EvictionContext => {
            let body = fields(asked, &["agentId", "status"])?;
            town.contexts.insert(agent, body);
        }
    }
    nothing()
}

/// Header and path of a call about an agent say the same. Empty when it is about none.
fn check_agent(asked: &Asked<'_>) -> Result<String, Refusal> {
    let Some(agent) = &asked.target.agent else { return Ok(String::new()) };
    // As in a path: a header cannot carry every id as it is.
    let header =
        |name| text(asked.headers, name).map(|text| percent_decode_str(text).decode_utf8_lossy());
    if header(AGENT_ID).as_deref() != Some(agent) {
        return Err(bad(format!("{AGENT_ID} is not {agent}")));
    }
    let rig = header(RIG_ID).filter(|rig| rig != "-");
    if rig.as_deref() != asked.target.rig.as_deref() {
        return Err(bad(format!("{RIG_ID} of {agent} is not the one in the path")));
    }
    Ok(agent.clone())
}

fn beat(town: &Town) -> Answer {
    let nonce = town.drain_nonce.as_ref();
    Answer::data(&nonce.map_or_else(|| json!({}), |nonce| json!({"drainNonce": nonce})))
}

fn post_registry(town: &mut Town, body: Value) -> Result<(), Refusal> {
    let Value::Array(entries) = body else { return Err(bad("the registry is no array")) };
    let known = town.known_registry();
    for entry in &entries {
        // What the town holds may be sent back as it is, whatever it is.
        if known.contains(entry) {
            continue;
        }
        let id = entry["agentId"].as_str().ok_or_else(|| bad("an entry has no agentId"))?;
        let request = entry["request"].as_object();
        let request = request.ok_or_else(|| bad(format!("{id} has no request")))?;
        if request.contains_key("envVars") {
            return Err(bad(format!("the request of {id} has envVars")));
        }
        let names = entry["env"].as_array();
        if !names.is_some_and(|names| names.iter().all(Value::is_string)) {
            return Err(bad(format!("env of {id} is no array of names")));
        }
    }
    town.registry = entries;
    town.registry_posts += 1;
    Ok(())
}

fn post_events(town: &mut Town, asked: &Asked<'_>) -> Result<(), Refusal> {
    let events = match json_body(asked)? {
        Value::Array(_) if town.refuses_batches => {
            // An old town, and no fault of the caller's.
            return Err(bad("an event is an object"));
        }
        Value::Array(events) => events,
        event => vec![event],
    };
    if events.len() > MAX_EVENTS || asked.body.len() > MAX_EVENT_BYTES {
        let sizes = format!("{} events of {} bytes", events.len(), asked.body.len());
        return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, sizes));
    }
    for event in &events {
        if !event["agent_id"].is_string() || !event["event_type"].is_string() {
            return Err(bad("an event has no agent_id or event_type"));
        }
    }
    town.event_batches.push(events.len());
    events.into_iter().for_each(|event| _ = town.events.push(event));
    Ok(())
}

fn snapshot(asked: &Asked<'_>) -> Result<Snapshot, Refusal> {
    let taken_at = text(asked.headers, TAKEN_AT).and_then(|text| text.parse().ok());
    let taken_at = taken_at.ok_or_else(|| bad(format!("no {TAKEN_AT}")))?;
    if text(asked.headers, SHA256) != Some(&sha256_hex(asked.body)) {
        return Err(bad(format!("{SHA256} is not that of the body")));
    }
    Ok(Snapshot::new(asked.body.clone(), taken_at))
}

fn pending(town: &mut Town, agent: &str) -> Value {
    let of_agent = town.nudges.iter_mut().filter(|(_, nudge)| nudge.agent == agent);
    let waiting = of_agent.filter(|(_, nudge)| nudge.delivered == 0);
    let known = waiting.map(|(id, nudge)| {
        nudge.fetched += 1;
        json!({
            "nudge_id": id, "message": nudge.message, "mode": "queue", "priority": "normal",
            "source": nudge.source,
        })
    });
    known.collect::<Vec<_>>().into()
}

fn delivered(town: &mut Town, agent: &str, body: &Value) -> Result<(), Refusal> {
    let id = string(body, "nudge_id");
    let nudge = town.nudges.get_mut(&id).filter(|nudge| nudge.agent == agent);
    let nudge = nudge.ok_or_else(|| bad(format!("{agent} has no nudge {id}")))?;
    nudge.delivered += 1;
    Ok(())
}

fn json_body(asked: &Asked<'_>) -> Result<Value, Refusal> {
    serde_json::from_slice(asked.body).map_err(|error| bad(format!("the body is no JSON: {error}")))
}

/// The body, which must be an object with these fields.
fn fields(asked: &Asked<'_>, names: &[&str]) -> Result<Value, Refusal> {
    let body = json_body(asked)?;
    match names.iter().find(|name| body.get(name).is_none_or(Value::is_null)) {
        Some(missing) => Err(bad(format!("no {missing}"))),
        None => Ok(body),
    }
}

fn string(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_default().to_owned()
}

/// A header's value.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
