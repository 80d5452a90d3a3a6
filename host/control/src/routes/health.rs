//! `GET /health`: how the container is. Always 200 while the server answers.
//!
//! With the header `X-Drain-Nonce`, from a sender who may change things, the town is notified when this container
//! is ready to take over; `X-Town-Id` says which town is meant.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::{Extension, Json};
use bulkhead_api::Health;

use crate::Backend;
use crate::auth::Trusted;
use crate::openapi::{Group, Operation};
use crate::routed::Services;

const NONCE: HeaderName = HeaderName::from_static("x-drain-nonce");
const TOWN_ID: HeaderName = HeaderName::from_static("x-town-id");

pub(super) fn operation() -> Operation {
    Operation::new(Group::Probes, "Returns the state of the container")
        .about(
            "200 while the server answers. `status` is `ok`, or `degraded` when something needs attention. `missing`, \
             `store`, `draining` and `mayorReadyAt` may be absent. With the token and the header `X-Drain-Nonce` (and \
             `X-Town-Id`), the host confirms to the town that this container can take over.",
        )
        .open()
        .header("X-Drain-Nonce", "Notify the town that this container can take over; needs the token.")
        .header("X-Town-Id", "The town to notify.")
        .answers::<Health>(200, "The state.")
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    Extension(services): Extension<Arc<Services>>,
    trusted: Option<Extension<Trusted>>,
    headers: HeaderMap,
) -> Json<Health> {
    let text = |name| headers.get(name).and_then(|value: &_| value.to_str().ok());
    if let (Some(town), Some(nonce), Some(_)) = (&services.town, text(NONCE), trusted) {
        town.acknowledge(text(TOWN_ID), nonce);
    }
    Json(backend.health())
}
