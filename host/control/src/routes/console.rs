//! `GET /console` and what is below it: pages for people.
//!
//! | call | |
//! | --- | --- |
//! | `GET /console?after=` | agents |
//! | `GET /console/agents/{id}` | one agent |
//! | `POST /console/agents/{id}/message`, `/nudge`, `/start`, `/stop` | forms of its page |
//! | `GET /console/crashes?agent=&before=`, `/console/crashes/{crash_id}` | crash records |
//! | `GET /console/container` | memory, earlier runs, budgets |
//! | `GET`, `POST /console/login`, `POST /console/logout` | sessions |
//! | `GET /console/assets/{name}` | style sheet, script, icon |
//!
//! Pages may show texts of agents, which are the texts of others. So a page loads scripts and styles from this server
//! alone, is in no frame, and its forms carry a token that no page of another origin knows. A refusal is a page here.

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Uri;
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use bulkhead_console::{Visitor, asset, problem};
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
};
use hyper::{Method, StatusCode};

use super::unknown;
use crate::Backend;
use crate::answer::{Refusal, Refused};
use crate::params::PathText;
use crate::sessions::Sessions;

mod entrance;
mod forms;
mod pages;

/// Nothing but what this server says itself. Forms go here alone, and no page has this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The pages.
pub(crate) fn router<B: Backend>(sessions: Sessions) -> Router<B> {
    let entrance = Router::new()
        .route("/console/login", get(entrance::form).post(entrance::log_in))
        .route("/console/logout", post(entrance::log_out))
        .with_state(sessions);
    let runs = pages::EarlierRuns::default();
    let pages = Router::<B>::new()
        .route("/console", get(pages::overview::<B>))
        .route("/console/", get(home))
        .route("/console/agents/{id}", get(pages::agent::<B>))
        .route("/console/agents/{id}/message", post(forms::message::<B>))
        .route("/console/agents/{id}/nudge", post(forms::nudge::<B>))
        .route("/console/agents/{id}/start", post(forms::start::<B>))
        .route("/console/agents/{id}/stop", post(forms::stop::<B>))
        .route("/console/crashes", get(pages::crashes::<B>))
        .route("/console/crashes/{crash_id}", get(pages::crash::<B>))
        .route("/console/container", get(pages::container::<B>.layer(Extension(runs))))
        .route("/console/assets/{name}", get(file))
        .route("/console/{*rest}", any(unknown::path));
    pages.merge(entrance).layer(from_fn(as_page))
}

/// Where somebody goes who asked for a page of the console and has no session. A form is not sent again: then the way
/// leads to the page that it is of, and the login says so.
pub(crate) fn to_login(method: &Method, asked: &Uri) -> Response {
    let is_form = *method != Method::GET;
    let page = match asked.path().rsplit_once('/') {
        Some((page, _)) if is_form && page.starts_with("/console/agents/") => page,
        _ if is_form => "/console",
        _ => asked.path_and_query().map_or("/console", |page| page.as_str()),
    };
    let next: String = form_urlencoded::byte_serialize(page.as_bytes()).collect();
    let unsent = if is_form { "&unsent=true" } else { "" };
    let mut response = Redirect::to(&format!("/console/login?next={next}{unsent}")).into_response();
    guard(response.headers_mut());
    response
}

/// From the address alone to the first page.
pub(crate) fn to_console() -> Response {
    let mut response = Redirect::to("/console").into_response();
    guard(response.headers_mut());
    response
}

/// Puts a refusal into a page, and every answer under the policy.
async fn as_page(visitor: Option<Extension<Visitor>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(Refused(error)) = response.extensions().get() {
        let visitor = visitor.map(|Extension(visitor)| visitor);
        let page = problem(visitor.as_ref(), error);
        *response.body_mut() = page.into();
        response.headers_mut().remove(CONTENT_LENGTH);
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    guard(response.headers_mut());
    response
}

fn guard(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // With less, a browser sends no origin with a form.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

async fn home() -> Redirect {
    Redirect::permanent("/console")
}

async fn file(PathText(name): PathText, headers: HeaderMap) -> Result<Response, Refusal> {
    let Some(file) = asset(&name) else {
        let error = format!("no such file: {}", crate::refused::truncated(&name, 64));
        return Err(Refusal::new(StatusCode::NOT_FOUND, error).kind("no-such-path"));
    };
    let etag = file.etag();
    let known =
        headers.get_all(IF_NONE_MATCH).iter().any(|value| value.as_bytes() == etag.as_bytes());
    // It is asked for again each time, which costs no more than an answer without a body.
    let head = [(ETAG, etag), (CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    Ok((head, [(CONTENT_TYPE, file.kind)], file.text).into_response())
}

fn html(page: String) -> Response {
    Html(page).into_response()
}
