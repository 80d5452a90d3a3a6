//! `POST /tickets`: what opens one stream without the token, for a browser, whose streams carry no header.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::response::{IntoResponse, Response};
use bulkhead_api::TicketAnswer;
use hyper::StatusCode;

use crate::answer::Refusal;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;
use crate::routed::Services;
use crate::streams::TICKET;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Streams, "Makes a ticket for one stream, good for 60 s")
        .about("It is sent as `ticket` in the query of the stream, in place of the token: a browser sends no headers with a stream.")
        .answers::<TicketAnswer>(201, "The ticket.")
}

pub(super) async fn post(
    Extension(services): Extension<Arc<Services>>,
    _: NoParams,
) -> Result<Response, Refusal> {
    let ticket = services.streams.issue().ok_or_else(Refusal::internal)?;
    let expires_at = bulkhead_log::now().after(TICKET);
    Ok((StatusCode::CREATED, Json(TicketAnswer { ticket, expires_at })).into_response())
}
