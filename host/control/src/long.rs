//! Answers that may be long, made beside the control server's thread.
//!
//! A list of thousands of agents takes many milliseconds to make and to write as JSON. On the server's only thread
//! everybody else would wait for that, the probes as well.

use axum::response::{IntoResponse, Response};
use bulkhead_tasks::containment::{Panicked, contain};
use hyper::header::CONTENT_TYPE;
use serde::Serialize;

use crate::answer::Refusal;

/// Threads that make long answers, at most. They go when there is nothing to do for 10 s.
pub(crate) const THREADS: usize = 2;

/// Answers with what `make` makes, as JSON.
pub(crate) async fn json<T: Serialize>(
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, Refusal> {
    let text = made(move || serde_json::to_vec(&make())).await?.map_err(|_| Refusal::internal())?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// What `make` makes.
pub(crate) async fn made<T: Send + 'static>(
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(move || contain(make)).await {
        Ok(Ok(made)) => Ok(made),
        // On the thread of the request, where it becomes a line and a 500.
        Ok(Err(Panicked { message, .. })) => std::panic::resume_unwind(Box::new(message)),
        Err(_) => Err(Refusal::internal()),
    }
}
