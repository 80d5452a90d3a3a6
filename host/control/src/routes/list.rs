//! `GET /agents`: all agents that are known, ended ones included.

use axum::Json;
use axum::extract::State;
use bulkhead_api::AgentList;

use crate::Backend;

pub(super) async fn get<B: Backend>(State(backend): State<B>) -> Json<AgentList> {
    Json(backend.list())
}
