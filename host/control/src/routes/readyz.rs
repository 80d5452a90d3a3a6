//! `GET /readyz`: whether new starts are taken.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;

use crate::Backend;
use crate::answer::Refusal;

pub(super) async fn get<B: Backend>(State(backend): State<B>) -> Result<Response, Refusal> {
    if backend.is_ready() {
        return Ok(([(CONTENT_TYPE, "application/json")], r#"{"status":"ready"}"#).into_response());
    }
    let error = "not ready: the container is booting or draining";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("not-ready"))
}
