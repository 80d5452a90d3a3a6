//! `POST /roles/{role}/upgrade`: has all agents of a role go on with other code. `GET` says how far that is, `DELETE`
//! takes it back.
//!
//! The body is a component, or a reference in the query names one. A body is not JSON and larger than other bodies, so it is not read before the route is known, and
//! goes to the disk as it comes: see [`takes_component`].

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bulkhead_api::{MAX_PROVE_MS, PROVE_MS, UpgradeView};
use bulkhead_supervisor::{BroughtComponent, UpgradeRefusal};
use http_body_util::BodyExt;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::as_it_is;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, NoParams, Param, Params, PathText};

/// The largest component, in bytes. The engine takes no larger one.
const MAX_BYTES: u64 = 64 << 20;

/// How long a component may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(300);

const WASM: &str = "application/wasm";

const ROLE: &str = "Name of the role.";

const PROVE: Param = Param::new(
    "proveMs",
    Kind::Number(0, MAX_PROVE_MS),
    "How long the first agent, and at the end all others, have to come through a turn. One without messages comes \
     through none, and counts as upgraded then.",
);

const REFERENCE: Param = Param::new(
    "reference",
    Kind::Text,
    "`oci://REGISTRY/REPOSITORY@sha256:DIGEST` of the new component, in place of a body. The host fetches it, and verifies what the \
     configuration wants signed.",
);

const QUERY: &[Param] = &[PROVE, REFERENCE];

pub(super) fn post_operation() -> Operation {
    Operation::new(Group::Settings, "Upgrades the agents of a role to other code")
        .about(
            "The body is the new component (`application/wasm`, at most 64 MiB), or `reference` names it. Without either the new code is what the \
             configuration names, as its files are now. One agent after the other leaves at the end of a message: its \
             state is kept, the new code takes it over, and its messages wait meanwhile. An agent that fails before its first turn \
             is over, or whose state cannot be kept, ends the upgrade, and all agents go back. When all have it, the role has it, also \
             after a restart of the host, until the configuration names another file.",
        )
        .path_text("role", ROLE)
        .query(QUERY)
        .body_bytes(WASM)
        .answers::<UpgradeView>(202, "It is under way. `GET` says how it goes.")
        .refuses(404, "The configuration has no such role (`no-such-role`).")
        .refuses(409, "An upgrade of the role is under way (`upgrade-under-way`).")
        .refuses(400, "The request has both a body and `reference` (`two-components`), or a parameter is invalid.")
        .refuses(413, "The component is larger than 64 MiB (`body-too-large`).")
        .refuses(415, "The body is no `application/wasm` by its `Content-Type` (`not-wasm`).")
        .refuses(422, "`reference` is not a valid reference (`invalid-reference`).")
        .refuses(502, "The component cannot be fetched, or lacks the signature that it needs (`not-fetched`).")
        .refuses(503, "The container goes away (`draining`), another component arrives (`busy`), or too many requests are under way (`busy`).")
        .refuses(507, "The state directory does not take the component (`no-space`).")
}

pub(super) fn get_operation() -> Operation {
    Operation::new(Group::Settings, "Shows the upgrade of a role that is under way, or the last one")
        .path_text("role", ROLE)
        .answers::<UpgradeView>(200, "How far it is.")
        .refuses(404, "The configuration has no such role (`no-such-role`), or it was not upgraded since the host was started (`no-upgrade`).")
}

pub(super) fn delete_operation() -> Operation {
    Operation::new(Group::Settings, "Takes the upgrade of a role back")
        .about("All agents go back to the code before, one after the other. `GET` says how far that is.")
        .path_text("role", ROLE)
        .answers::<UpgradeView>(202, "It goes back.")
        .refuses(404, "The configuration has no such role (`no-such-role`), or it was not upgraded since the host was started (`no-upgrade`).")
        .refuses(409, "It has ended (`upgrade-over`).")
}

/// One component at a time arrives.
#[derive(Clone)]
pub(super) struct Arrivals(Arc<Semaphore>);

impl Default for Arrivals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Whether the body of this request is left to its route.
pub(crate) fn takes_component(parts: &Parts) -> bool {
    let path = parts.uri.path();
    let role = path.strip_prefix("/roles/").and_then(|rest| rest.strip_suffix("/upgrade"));
    parts.method == Method::POST && role.is_some_and(|role| !role.contains('/'))
}

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    Extension(Arrivals(arrivals)): Extension<Arrivals>,
    PathText(role): PathText,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    // Before anybody sends 64 MiB for nothing.
    let is_empty = body.is_end_stream();
    let unread = |refusal: Refusal| if is_empty { refusal } else { refusal.closing() };
    let params = params.only(QUERY).map_err(unread)?;
    let prove = params.number(&PROVE).map_err(unread)?.unwrap_or(PROVE_MS);
    let reference = params.text(&REFERENCE);
    if reference.is_some() && !is_empty {
        return Err(unread(two_components()));
    }
    may_begin(&backend, &role).map_err(|refusal| unread(refusal.into()))?;
    let _arrives = arrivals.try_acquire().map_err(|_| unread(busy()))?;
    let component = match reference {
        Some(reference) => Some(backend.fetch_component(&role, &reference).await?),
        None => receive(&backend, &headers, body).await.map_err(Refusal::closing)?,
    };
    let view = backend.upgrade(&role, component, Duration::from_millis(prove)).await?;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    PathText(role): PathText,
    _: NoParams,
) -> Result<Json<UpgradeView>, Refusal> {
    Ok(Json(backend.upgrade_of(&role)?))
}

pub(super) async fn delete<B: Backend>(
    State(backend): State<B>,
    PathText(role): PathText,
    _: NoParams,
) -> Result<Response, Refusal> {
    Ok((StatusCode::ACCEPTED, Json(backend.abort_upgrade(&role)?)).into_response())
}

fn may_begin<B: Backend>(backend: &B, role: &str) -> Result<(), UpgradeRefusal> {
    match backend.upgrade_of(role) {
        Ok(view) if !view.phase.is_over() => Err(UpgradeRefusal::UnderWay(role.to_owned())),
        Ok(_) | Err(UpgradeRefusal::None(_)) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// Reads the component. `None`: there is no body.
async fn receive<B: Backend>(
    backend: &B,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Option<BroughtComponent>, Refusal> {
    if body.is_end_stream() {
        return Ok(None);
    }
    as_it_is(headers)?;
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    if said.split(';').next().unwrap_or_default().trim() != WASM {
        let error = format!("the body must be a component; its Content-Type is {said:?}");
        let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).kind("not-wasm");
        return Err(refusal.action("send Content-Type: application/wasm"));
    }
    if body.size_hint().lower() > MAX_BYTES {
        return Err(too_large());
    }
    let until = Instant::now() + ARRIVAL;
    let mut incoming = backend.receive_component().await?;
    let mut bytes = 0;
    loop {
        let frame = timeout_at(until, body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(chunk) = frame.into_data() else { continue };
        bytes += chunk.len() as u64;
        if bytes > MAX_BYTES {
            return Err(too_large());
        }
        incoming = on_disk(move || incoming.write_all(&chunk).map(|()| incoming)).await?;
    }
    Ok(Some(on_disk(move || incoming.finish()).await?))
}

/// The control server's only thread does not wait for the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, UpgradeRefusal> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| UpgradeRefusal::Lost)?;
    Ok(done?)
}

fn busy() -> Refusal {
    let error = "another component arrives at the moment";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("busy").retry_after(5)
}

fn two_components() -> Refusal {
    let error = "the request has both a body and `reference`: send one of them";
    Refusal::new(StatusCode::BAD_REQUEST, error).kind("two-components")
}

fn too_large() -> Refusal {
    let error = format!("the component is larger than {MAX_BYTES} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error).kind("body-too-large")
}

fn too_slow() -> Refusal {
    let error = format!("the component did not arrive within {ARRIVAL:?}");
    Refusal::new(StatusCode::REQUEST_TIMEOUT, error).kind("body-too-slow")
}

fn broken(error: &axum::Error) -> Refusal {
    let error = format!("the component could not be read: {error}");
    Refusal::new(StatusCode::BAD_REQUEST, error).kind("broken-body")
}

impl From<UpgradeRefusal> for Refusal {
    fn from(error: UpgradeRefusal) -> Self {
        let text = error.to_string();
        let (status, kind) = match error {
            UpgradeRefusal::NoSuchRole { .. } => (StatusCode::NOT_FOUND, "no-such-role"),
            UpgradeRefusal::None(_) => (StatusCode::NOT_FOUND, "no-upgrade"),
            UpgradeRefusal::UnderWay(_) => (StatusCode::CONFLICT, "upgrade-under-way"),
            UpgradeRefusal::Over(_) => (StatusCode::CONFLICT, "upgrade-over"),
            UpgradeRefusal::BadReference(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-reference")
            }
            UpgradeRefusal::NotFetched(_) => (StatusCode::BAD_GATEWAY, "not-fetched"),
            UpgradeRefusal::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            UpgradeRefusal::Disk(_) => (StatusCode::INSUFFICIENT_STORAGE, "no-space"),
            UpgradeRefusal::Lost => return Self::internal(),
        };
        Self::new(status, text).kind(kind)
    }
}
