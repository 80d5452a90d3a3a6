//! One request, from its head to its answer.
//!
//! ```text
//!  head ─▶ token? ─▶ body whole? ─▶ route ─▶ answer ─▶ a line, when it is a refusal
//!            └─ 401     └─ 413, 408    └─ a panic is a 500 and a `container.unhandled_rejection`
//! ```

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bulkhead_events::Budget;
use bulkhead_events::task::panic_message;
use bulkhead_events::{RunContext, SharedSink};
use bulkhead_model::Event;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Uri};
use tower::ServiceExt;

use crate::ControlConfig;
use crate::answer::{Reason, Refusal};
use crate::auth::Gate;
use crate::body::Reader;
use crate::refused::Refusals;

/// Panics of handlers that get a line at once, and a second after that. Each is a bug; a client that
/// found one must not fill the log with it.
const PANIC_BURST: u32 = 10;
const PANICS_PER_SECOND: u32 = 1;

/// Answers requests. One for the whole server.
pub(crate) struct Service {
    router: Router,
    gate: Gate,
    reader: Reader,
    refusals: Refusals,
    panics: Mutex<Budget>,
    sink: SharedSink,
    context: Arc<RunContext>,
}

impl Service {
    pub(crate) fn new(
        router: Router,
        config: &ControlConfig,
        sink: SharedSink,
        context: Arc<RunContext>,
    ) -> Self {
        Self {
            router,
            gate: Gate::new(config.token.clone()),
            reader: Reader::new(config.limits),
            refusals: Refusals::new(Arc::clone(&sink)),
            panics: Mutex::new(Budget::new(PANIC_BURST, PANICS_PER_SECOND, Instant::now())),
            sink,
            context,
        }
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Answers one request, whatever happens.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answered = AssertUnwindSafe(self.route(request)).catch_unwind().await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => refusal.into_response(),
            Err(panic) => {
                self.report_panic(&method, &uri, panic.as_ref());
                Refusal::internal().closing().into_response()
            }
        };
        if response.status().as_u16() >= 400 {
            self.report_refusal(&method, &uri, &response);
        }
        response
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response, Refusal> {
        let (mut parts, body) = request.into_parts();
        let trusted = self.gate.trusts(&parts.headers);
        if !self.gate.admits(parts.uri.path(), trusted) {
            return Err(self.reader.refuse(Refusal::unauthorized(), &parts.headers, body).await);
        }
        let body = self.reader.read(&parts.headers, body).await?;
        parts.extensions.insert(body);
        if let Some(trusted) = trusted {
            parts.extensions.insert(trusted);
        }
        let request = Request::from_parts(parts, Body::empty());
        let Ok(response) = self.router.clone().oneshot(request).await;
        Ok(response)
    }

    fn report_refusal(&self, method: &Method, uri: &Uri, response: &Response) {
        let status = response.status();
        let error = match response.extensions().get::<Reason>() {
            Some(Reason(Some(error))) => error,
            Some(Reason(None)) => return,
            None => status.canonical_reason().unwrap_or("refused"),
        };
        self.refusals.record(method.as_str(), uri.path(), status.as_u16(), error);
    }

    fn report_panic(&self, method: &Method, uri: &Uri, panic: &(dyn Any + Send)) {
        let mut budget = self.panics.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Ok(repeated) = budget.take(Instant::now()) else { return };
        drop(budget);
        let message = panic_message(panic);
        let first_line = message.lines().next().unwrap_or_default();
        self.sink.record(Event::UnhandledRejection {
            task: format!("control {method} {}", crate::refused::cut(uri.path(), 256)),
            name: "panic",
            fingerprint: format!("control:panic:{first_line}"),
            message,
            stack: None,
            active_agents: self.context.active_agents(),
            repeated,
        });
    }
}
