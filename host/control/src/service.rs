//! One request, from its head to its answer.
//!
//! ```text
//!  head ─▶ token? ─▶ body whole? ─▶ route ─▶ answer ─▶ a line, when it is a refusal
//!            └─ 401     └─ 413, 408    └─ a panic is a 500 and a `container.unhandled_rejection`
//! ```

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bulkhead_events::containment::{Panicked, contain_future};
use bulkhead_events::task::tell_unhandled;
use bulkhead_events::{RunContext, SharedSink};
use hyper::body::Incoming;
use hyper::{Method, Request, Uri};
use tower::ServiceExt;

use crate::ControlConfig;
use crate::answer::{Reason, Refusal};
use crate::auth::Gate;
use crate::body::Reader;
use crate::refused::Refusals;

/// Answers requests. One for the whole server.
pub(crate) struct Service {
    router: Router,
    gate: Gate,
    reader: Reader,
    refusals: Refusals,
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
        let answered = contain_future(self.route(request)).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => refusal.into_response(),
            Err(panicked) => {
                self.report_panic(&method, &uri, panicked);
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

    fn report_panic(&self, method: &Method, uri: &Uri, panicked: Panicked) {
        let task = format!("control {method} {}", crate::refused::cut(uri.path(), 256));
        let Panicked { message, place } = panicked;
        tell_unhandled(&*self.sink, &self.context, &task, "panic", message, place);
    }
}
