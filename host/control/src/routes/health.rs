//! `GET /health`: how the container is. Always 200 while the server answers.

use axum::Json;
use axum::extract::State;
use bulkhead_api::Health;

use crate::Backend;

pub(super) async fn get<B: Backend>(State(backend): State<B>) -> Json<Health> {
    Json(backend.health())
}
