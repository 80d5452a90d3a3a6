//! `GET /metrics`: the container in numbers, as text of OpenMetrics or Prometheus. `docs/metrics.md`
//! lists them.
//!
//! Behind the token, unlike the probes: the figures show how much the agents do and how they end.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use hyper::header::{ACCEPT, CONTENT_TYPE, VARY};
use prometheus_client::collector::Collector;

use crate::Backend;
use crate::exposition::{self, Format, Scrape};
use crate::openapi::{Group, Operation};
use crate::params::NoParams;
use crate::process::Process;
use crate::routed::Services;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Probes, "Returns the metrics as text")
        .about("In the format of OpenMetrics or of Prometheus, depending on `Accept`. See [Metrics](metrics.md).")
        .answers_text(200, Format::OpenMetrics.content_type(), "The metrics.")
        .answers_text(200, Format::Prometheus.content_type(), "The metrics.")
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    Extension(services): Extension<Arc<Services>>,
    _: NoParams,
    headers: HeaderMap,
) -> Response {
    let scrape = Scrape {
        metrics: backend.metrics(),
        town: services.town.as_ref().map(|town| town.figures()),
        connections: services.slots.clone(),
        streams: services.streams.clone(),
        process: Process::read(),
    };
    answer(scrape, &headers)
}

/// The answer of a copy that waits for the lease: a scrape that fails would say that it is down.
pub(crate) fn of_standby(headers: &HeaderMap) -> Response {
    answer(exposition::Standby, headers)
}

fn answer(figures: impl Collector, headers: &HeaderMap) -> Response {
    let format = Format::asked(headers);
    let about = [(CONTENT_TYPE, format.content_type()), (VARY, ACCEPT.as_str())];
    (about, exposition::text(figures, format)).into_response()
}
