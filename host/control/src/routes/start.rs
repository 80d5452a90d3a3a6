//! `POST /agents/start`: 201 when this request began an incarnation, 200 when it joined or kept another.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{Parsed, StartAnswer, StartRequest, WithIgnored};
use hyper::StatusCode;

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::params::NoParams;

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    _: NoParams,
    body: WholeBody,
) -> Result<(StatusCode, Json<WithIgnored<StartAnswer>>), Refusal> {
    let parsed = StartRequest::parse_body(body.as_slice()).map_err(Refusal::invalid_body)?;
    let Parsed { request, ignored } = parsed;
    // A start may take minutes; its body gives its room back before.
    drop(body);
    let started = backend.start(request).await?;
    let status = if started.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(WithIgnored { answer: started.answer, ignored })))
}
