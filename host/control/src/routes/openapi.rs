//! `GET /openapi.json`: what the API is, as a document of OpenAPI 3.1.
//!
//! Behind the token, as all that is no probe: nothing of it is secret, but it is the longest answer that a stranger
//! could have.

use axum::Extension;
use axum::response::{IntoResponse, Response};
use bulkhead_tasks::containment::contain;
use hyper::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use crate::answer::Refusal;
use crate::openapi::{Document, Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Probes, "Returns the OpenAPI document of this API")
        .answers::<Map<String, Value>>(200, "The document.")
}

pub(super) async fn get(
    Extension(document): Extension<Document>,
    _: NoParams,
) -> Result<Response, Refusal> {
    // Once it takes milliseconds to make.
    let made = tokio::task::spawn_blocking(move || contain(|| document.json())).await;
    let Ok(Ok(json)) = made else { return Err(Refusal::internal()) };
    Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
}
