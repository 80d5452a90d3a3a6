//! One request.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};

use crate::body::Pieces;
use crate::cgi;
use crate::state::{Fault, State, Wanted};

/// Answers a request, as the state of the server wants it.
pub(crate) async fn answer(
    state: &State,
    request: Request<Incoming>,
) -> io::Result<Response<Pieces>> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, ());
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    count(state, &request);
    let fault = state.lock().fault.clone();
    match &fault {
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Status(status)) => return Ok(empty(status_of(*status))),
        Some(Fault::Redirect(base)) => return Ok(redirect(base, request.uri())),
        _ => {}
    }
    if !is_authorized(state, request.headers()) {
        state.lock().counts.unauthorized += 1;
        return Ok(unauthorized());
    }
    let answered = cgi::run(&state.root, &request, &body).await?;
    Ok(respond(state, answered, fault))
}

fn count(state: &State, request: &Request<()>) {
    let mut inner = state.lock();
    inner.counts.requests += 1;
    if request.uri().query() == Some("service=git-upload-pack") {
        inner.counts.listings += 1;
    }
    if request.uri().path().ends_with("/git-receive-pack") {
        inner.counts.pushes += 1;
    }
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        inner.authorizations.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
}

fn is_authorized(state: &State, headers: &HeaderMap) -> bool {
    let wanted = state.lock().wanted.clone();
    wanted.is_none_or(|wanted| {
        headers.get(AUTHORIZATION).is_some_and(|given| given.as_bytes() == basic(&wanted))
    })
}

fn basic(wanted: &Wanted) -> Vec<u8> {
    let pair = format!("{}:{}", wanted.username, wanted.password);
    format!("Basic {}", STANDARD.encode(pair)).into_bytes()
}

fn respond(state: &State, answered: cgi::Answer, fault: Option<Fault>) -> Response<Pieces> {
    let is_pack = contains(&answered.body, b"PACK");
    state.lock().counts.packs += u64::from(is_pack);
    let body = match fault {
        Some(Fault::CutPack(after)) if is_pack => Pieces::cut(&answered.body, after),
        Some(Fault::Slow(pause)) if is_pack => Pieces::slow(&answered.body, pause),
        _ => Pieces::whole(answered.body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answered.status;
    *response.headers_mut() = answered.headers;
    response
}

fn contains(body: &Bytes, wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a test names a status that there is")
}

fn empty(status: StatusCode) -> Response<Pieces> {
    let mut response = Response::new(Pieces::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn unauthorized() -> Response<Pieces> {
    let mut response = empty(StatusCode::UNAUTHORIZED);
    let realm = HeaderValue::from_static("Basic realm=\"git\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, realm);
    response
}

fn redirect(base: &str, uri: &Uri) -> Response<Pieces> {
    let mut response = empty(StatusCode::FOUND);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = HeaderValue::from_str(&format!("{base}{path}"));
    response.headers_mut().insert(LOCATION, location.expect("a test names a URL"));
    response
}
