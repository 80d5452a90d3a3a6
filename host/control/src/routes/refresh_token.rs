//! `POST /refresh-token`: a new token for the calls of the town. It is swapped in place; no agent is restarted.

use std::sync::Arc;

use axum::{Extension, Json};
use bulkhead_api::{Issue, Parsed, RefreshTokenAnswer, RefreshTokenRequest, WithIgnored};
use hyper::StatusCode;
use serde_json::json;

use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;
use crate::routed::Services;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Settings, "Replaces the token for the town's API")
        .about("No agent restarts.")
        .body::<RefreshTokenRequest>(json!({"token": "..."}))
        .answers::<WithIgnored<RefreshTokenAnswer>>(200, "Every later call of the town uses it.")
        .refuses(409, "The container has no town (`no-town`).")
}

pub(super) async fn post(
    Extension(services): Extension<Arc<Services>>,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<WithIgnored<RefreshTokenAnswer>>, Refusal> {
    let parsed = RefreshTokenRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    let town = services.town.as_ref().ok_or_else(|| {
        Refusal::new(StatusCode::CONFLICT, "this container has no town to call")
            .kind("no-town")
            .action("set town.api_url (GASTOWN_API_URL), or send no token")
    })?;
    let invalid = |problem| Refusal::invalid_body(vec![Issue::new("token", problem)]);
    town.refresh_token(request.token).map_err(invalid)?;
    Ok(Json(WithIgnored { answer: RefreshTokenAnswer { refreshed: true }, ignored }))
}
