//! `GET /metrics`: the container in numbers, as OpenMetrics text. `METRICS.md` of this crate lists them.
//!
//! Behind the token, unlike the probes: the figures tell how much the agents do and how they end.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;

use crate::Backend;
use crate::connections::Slots;
use crate::exposition::{self, Scrape};
use crate::process::Process;
use crate::town::Town;

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    Extension(slots): Extension<Slots>,
    Extension(Town(town)): Extension<Town>,
) -> Response {
    let scrape = Scrape {
        metrics: backend.metrics(),
        town: town.map(|town| town.figures()),
        connections: slots.taken(),
        process: Process::read(),
    };
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::text(scrape)).into_response()
}
