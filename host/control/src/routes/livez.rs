//! `GET /livez`: the control server's thread answers. Asks nobody else.

use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;
use schemars::JsonSchema;

use crate::openapi::{Group, Operation};

/// The control server's thread answers.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the answer is written by hand")]
struct Liveness {
    /// Always `ok`.
    status: &'static str,
}

pub(super) fn operation() -> Operation {
    Operation::new(Group::Probes, "Says whether the control server's thread answers")
        .open()
        .answers::<Liveness>(200, "It does.")
}

pub(super) async fn get() -> Response {
    alive()
}

/// The answer.
pub(crate) fn alive() -> Response {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#).into_response()
}
