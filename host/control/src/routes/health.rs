//! `GET /health`: how the container is. Always 200 while the server answers.
//!
//! With the header `X-Drain-Nonce`, from a sender who may change things, the town is notified when this container
//! is ready to take over; `X-Town-Id` says which town is meant.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::{Extension, Json};
use bulkhead_api::Health;

use crate::Backend;
use crate::auth::Trusted;
use crate::town::Town;

const NONCE: HeaderName = HeaderName::from_static("x-drain-nonce");
const TOWN_ID: HeaderName = HeaderName::from_static("x-town-id");

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    Extension(Town(town)): Extension<Town>,
    trusted: Option<Extension<Trusted>>,
    headers: HeaderMap,
) -> Json<Health> {
    let text = |name| headers.get(name).and_then(|value: &_| value.to_str().ok());
    if let (Some(town), Some(nonce), Some(_)) = (town, text(NONCE), trusted) {
        town.acknowledge(text(TOWN_ID), nonce);
    }
    Json(backend.health())
}
