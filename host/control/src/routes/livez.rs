//! `GET /livez`: the control server's thread answers. Asks nobody else.

use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;

pub(super) async fn get() -> Response {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#).into_response()
}
