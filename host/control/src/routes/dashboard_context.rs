//! `POST /dashboard-context`: what people see on their dashboard, for all agents of the container.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{DashboardContextRequest, UpdateAnswer};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    body: WholeBody,
) -> Result<Json<UpdateAnswer>, Refusal> {
    let request = DashboardContextRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    backend.set_dashboard_context(request);
    Ok(Json(UpdateAnswer { updated: true }))
}
