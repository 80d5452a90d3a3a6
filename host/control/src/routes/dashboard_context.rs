//! `POST /dashboard-context`: what people see on their dashboard, for all agents of the container.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{DashboardContextRequest, Parsed, UpdateAnswer, WithIgnored};

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::NoParams;

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<WithIgnored<UpdateAnswer>>, Refusal> {
    let parsed = DashboardContextRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    backend.set_dashboard_context(request);
    Ok(Json(WithIgnored { answer: UpdateAnswer { updated: true }, ignored }))
}
