//! `POST /dashboard-context`: what people see on their dashboard, for all agents of the container.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{DashboardContextRequest, Parsed, UpdateAnswer, WithIgnored};
use serde_json::json;

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Settings, "Sets what the dashboard shows, for all agents")
        .about("Blank text removes it.")
        .body::<DashboardContextRequest>(json!({"context": "two builds are red"}))
        .answers::<WithIgnored<UpdateAnswer>>(200, "It is set.")
}

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
