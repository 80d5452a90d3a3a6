//! `POST /sync-config`, and the header `X-Town-Config` of any other call: what the town tells its
//! container.
//!
//! The header is taken before the route, so that a start that carries it begins with it, and only from
//! a sender who may change things: a probe needs no token and brings no configuration. A header that
//! is wrong refuses the call. A body is for what is larger than a head may be.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use bulkhead_api::{Issue, SyncAnswer, TownConfig, WithIgnored};

use crate::Backend;
use crate::answer::Refusal;
use crate::auth::Trusted;
use crate::body::WholeBody;
use crate::params::NoParams;

const HEADER: &str = "x-town-config";

/// Sync from the header has happened on the way here; then the body is not looked at.
pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    headers: HeaderMap,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<WithIgnored<SyncAnswer>>, Refusal> {
    let mut ignored = Vec::new();
    if !headers.contains_key(HEADER) {
        let parsed = TownConfig::parse_body(body.as_slice()).map_err(Refusal::invalid_body)?;
        let config = parsed.request;
        ignored = parsed.ignored;
        sync(&backend, &config).map_err(Refusal::invalid_body)?;
    }
    Ok(Json(WithIgnored { answer: SyncAnswer { synced: true }, ignored }))
}

/// Takes the header of every call.
pub(super) async fn from_header<B: Backend>(
    State(backend): State<B>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if request.extensions().get::<Trusted>().is_some() {
        let mut values = request.headers().get_all(HEADER).iter();
        if let Some(value) = values.next() {
            let synced = match values.next() {
                None => {
                    TownConfig::parse(value.as_bytes()).and_then(|config| sync(&backend, &config))
                }
                Some(_) => Err(vec![Issue::new(".", "is given more than once")]),
            };
            synced.map_err(Refusal::invalid_town_config)?;
        }
    }
    Ok(next.run(request).await)
}

fn sync<B: Backend>(backend: &B, config: &TownConfig) -> Result<(), Vec<Issue>> {
    backend.sync_config(config).map_err(|error| vec![Issue::new("env_vars", error.to_string())])
}
