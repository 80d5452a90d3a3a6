//! `POST /sync-config`, and the header `X-Town-Config` of any other call: what the town sends to its
//! container.
//!
//! The header is taken before the route, so that a start that carries it begins with it, and only from
//! a sender who may change things: a probe needs no token and brings no configuration. It never fails its call, which
//! is about something else: what is good in it is taken, and each thing that is not is a line, once. Its value comes
//! beside the head ([`TownHeader`]), so that its length does not fail a call either.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use bulkhead_api::{Issue, Parsed, SyncAnswer, TownConfig, WithIgnored};
use bulkhead_log::SharedSink;
use bulkhead_types::Event;
use bulkhead_types::event::TownConfigIgnored;
use parking_lot::Mutex;
use serde_json::json;

use crate::Backend;
use crate::answer::Refusal;
use crate::auth::Trusted;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;
use crate::routed::FromHeader;
use crate::town_header::{NAME, TownHeader};

/// Problems that are logged. A town that has more of them has reported enough.
const MAX_LOGGED: usize = 256;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Settings, "Sets the town's configuration values")
        .about(
            "They are for `host.config` and the environment of agents, and replace all earlier values: one that is not named, or is \
             `null`, is removed. A body without the field, as `{}`, changes nothing. The field may be named `envVars` as well. Text, numbers and booleans are accepted. Unknown fields appear in `ignored`, here and on \
             the other shared routes.",
        )
        .body::<TownConfig>(json!({"env_vars": {"model.api-key": "...", "RETIRED": null}}))
        .body_is_optional()
        .answers::<WithIgnored<SyncAnswer>>(200, "Agents see the values from now on; with `synced` false, nothing has changed: the header was not readable.")
}

/// Logs what is wrong with headers, each problem once.
pub(crate) struct Problems {
    sink: SharedSink,
    logged: Mutex<HashSet<Issue>>,
}

/// Marks a call whose header was read.
#[derive(Clone, Copy)]
pub(super) struct Synced;

impl Problems {
    pub(crate) fn new(sink: SharedSink) -> Self {
        Self { sink, logged: Mutex::default() }
    }

    fn log(&self, issues: Vec<Issue>) {
        let mut logged = self.logged.lock();
        for issue in issues {
            if logged.len() < MAX_LOGGED && logged.insert(issue.clone()) {
                let Issue { path, message: problem } = issue;
                self.sink.record(Event::TownConfigIgnored(TownConfigIgnored { path, problem }));
            }
        }
    }
}

/// Sync from the header has happened on the way here; then the body is not read.
pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    headers: HeaderMap,
    _: NoParams,
    synced: Option<Extension<Synced>>,
    body: WholeBody,
) -> Result<Json<WithIgnored<SyncAnswer>>, Refusal> {
    let answer = |synced, ignored| Ok(Json(WithIgnored { answer: SyncAnswer { synced }, ignored }));
    if synced.is_some() {
        return answer(true, Vec::new());
    }
    match sync(&backend, body.as_slice()) {
        // What is wrong with the header was logged, and fails no call.
        Err(_) if headers.contains_key(NAME) => answer(false, Vec::new()),
        Err(issues) => Err(Refusal::invalid_body(issues)),
        Ok(ignored) => answer(true, ignored),
    }
}

/// Takes the header of every call.
pub(super) fn from_header<B: Backend>(backend: B, problems: Problems) -> FromHeader {
    Arc::new(move |parts| {
        let value = parts.extensions.remove::<TownHeader>();
        if parts.extensions.get::<Trusted>().is_some()
            && sync_header(&backend, &problems, &parts.headers, value)
        {
            parts.extensions.insert(Synced);
        }
    })
}

/// Says whether there is a header that could be read.
fn sync_header<B: Backend>(
    backend: &B,
    problems: &Problems,
    headers: &HeaderMap,
    value: Option<TownHeader>,
) -> bool {
    let mut values = headers.get_all(NAME).iter();
    let Some(in_head) = values.next() else { return false };
    let (config, mut issues) = match value.map(TownHeader::take) {
        Some(Ok(value)) => TownConfig::parse_header(value.trim_ascii()),
        Some(Err(lost)) => (TownConfig::default(), vec![Issue::new(".", lost.to_string())]),
        None => TownConfig::parse_header(in_head.as_bytes()),
    };
    if values.next().is_some() {
        issues.push(Issue::new(".", "is given more than once; the first is taken"));
    }
    let is_read = config.is_whole || issues.is_empty();
    if let Err(error) = backend.sync_config(&config) {
        issues.push(Issue::new("env_vars", error.to_string()));
    }
    problems.log(issues);
    is_read
}

/// Syncs from a body. Returns the names of its fields that are not known.
fn sync<B: Backend>(backend: &B, json: &[u8]) -> Result<Vec<String>, Vec<Issue>> {
    let Parsed { request: config, ignored } = TownConfig::parse_body(json)?;
    let synced = backend.sync_config(&config);
    synced.map_err(|error| vec![Issue::new("env_vars", error.to_string())])?;
    Ok(ignored)
}
