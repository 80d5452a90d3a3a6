//! One request, from its head to its answer.
//!
//! ```text
//!  head ─▶ our name, no page of others? ─▶ token? ─▶ body whole? ─▶ route ─▶ answer ─▶ a line, when it is
//!            └─ 403                    cookie?─┤        └─ 413, 408    │                   a refusal
//!                                              └─ 401, or the login     │
//!                                                                      └─ a panic is a 500 and a
//!                                                                         `container.unhandled_rejection`
//! ```

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bulkhead_console::Visitor;
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_tasks::containment::{Panicked, contain_future};
use bulkhead_tasks::report_unhandled;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use crate::ControlConfig;
use crate::answer::{self, Reason, Refusal};
use crate::auth::{Gate, Trusted};
use crate::body::Reader;
use crate::origin::{self, Origins};
use crate::refused::Refusals;
use crate::routed::Routed;
use crate::routes;
use crate::sessions::{self, Sessions};
use crate::streams::{self, Streams};
use crate::town_header::TownHeader;

/// When every slot is taken by a request under way.
const SLOT_RETRY_S: u16 = 1;

/// Longest body of somebody who has shown no token: the form with it.
const LOGIN_BYTES: usize = 4096;

/// Answers requests. One for each listener.
pub(crate) struct Service {
    routes: Routed,
    origins: Origins,
    gate: Gate,
    reader: Reader,
    refusals: Refusals,
    /// `None`: there are none on this listener.
    streams: Option<Streams>,
    /// `None`: there is no console on this listener.
    sessions: Option<Sessions>,
    /// Slots for connections.
    connections: usize,
    sink: SharedSink,
    context: Arc<RunContext>,
}

impl Service {
    pub(crate) fn new(
        routes: Routed,
        gate: Gate,
        config: &ControlConfig,
        streams: Option<Streams>,
        sessions: Option<Sessions>,
        sink: SharedSink,
        context: Arc<RunContext>,
    ) -> Self {
        Self {
            routes,
            gate,
            origins: Origins::new(config.allowed_hosts.clone()),
            reader: Reader::new(config.limits),
            connections: config.limits.connections,
            refusals: Refusals::new(Arc::clone(&sink)),
            streams,
            sessions,
            sink,
            context,
        }
    }

    /// Ends what would go on.
    pub(crate) fn end_streams(&self) {
        if let Some(streams) = &self.streams {
            streams.close();
        }
    }

    /// Waits for those that are no connections any more, and returns how many are left at `until`.
    pub(crate) async fn sockets_closed(&self, until: Instant) -> usize {
        match &self.streams {
            Some(streams) => streams.sockets_closed(until).await,
            None => 0,
        }
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Answers one request, whatever happens. `begin` is called when its sender is known: by the token, or by what stands
    /// for it. It says whether the request may go on.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        begin: impl FnOnce() -> bool + Send,
    ) -> Response {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answered = contain_future(self.route(request, begin)).await;
        self.logged(&method, &uri, answered)
    }

    /// The same for a connection without a slot: only probes are answered.
    pub(crate) async fn answer_in_passing(&self, request: Request<Incoming>) -> Response {
        if self.gate.is_open(request.uri().path()) {
            return self.answer(request, || true).await;
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (parts, body) = request.into_parts();
        let refusal = self.reader.refuse(self.busy(), &parts.headers, body).await;
        self.logged(&method, &uri, Ok(Err(refusal)))
    }

    fn busy(&self) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Self::too_many(self.connections))
            .kind("busy")
            .retry_after(SLOT_RETRY_S)
    }

    /// What is said where there is no slot for a connection.
    pub(crate) fn too_many(connections: usize) -> String {
        format!("too many connections, at most {connections} are served at a time")
    }

    fn logged(
        &self,
        method: &Method,
        uri: &Uri,
        answered: Result<Result<Response, Refusal>, Panicked>,
    ) -> Response {
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => refusal.into_response(),
            Err(panicked) => {
                self.report_panic(method, uri, panicked);
                Refusal::internal().closing().into_response()
            }
        };
        answer::in_form_of(uri.path(), &mut response);
        origin::keep_to_ourselves(response.headers_mut());
        if response.status().as_u16() >= 400 {
            self.report_refusal(method, uri, &response);
        }
        response
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        begin: impl FnOnce() -> bool + Send,
    ) -> Result<Response, Refusal> {
        let (mut parts, body) = request.into_parts();
        let trusted = self.gate.trusts(&parts.headers);
        if trusted.is_none() {
            // Held for nobody while a body is read.
            parts.extensions.remove::<TownHeader>();
        }
        let visitor = self.visitor(&parts, trusted);
        // These stand for the token on a few paths, and make nobody trusted.
        let redeems = |streams: &Streams| streams.redeem(&parts.uri);
        let is_known =
            trusted.is_some() || visitor.is_some() || self.streams.as_ref().is_some_and(redeems);
        if is_known && !begin() {
            return Err(self.busy().closing());
        }
        if let Err(refusal) = self.origins.check(&parts, self.gate.is_open(parts.uri.path())) {
            return Err(self.reader.refuse(refusal, &parts.headers, body).await);
        }
        let is_entrance = self.sessions.is_some() && sessions::is_open(parts.uri.path());
        let wants_pages = || sessions::wants_pages(&parts.method, &parts.uri, &parts.headers);
        if self.sessions.is_some() && wants_pages() {
            return Ok(routes::to_console());
        }
        if !is_known && !self.gate.is_open(parts.uri.path()) && !is_entrance {
            let refusal = match streams::ticket(&parts.uri) {
                Some(_) => Refusal::bad_ticket(),
                None => Refusal::unauthorized(),
            };
            let refusal = self.reader.refuse(refusal, &parts.headers, body).await;
            let is_page = self.sessions.is_some() && sessions::is_of_console(parts.uri.path());
            return if is_page {
                Ok(routes::to_login(&parts.method, &parts.uri))
            } else {
                Err(refusal)
            };
        }
        let body = if trusted.is_some() && routes::takes_component(&parts) {
            Body::new(body)
        } else {
            let reader = match is_entrance && !is_known {
                true => &self.reader.at_most(LOGIN_BYTES),
                false => &self.reader,
            };
            parts.extensions.insert(reader.read(&parts.headers, body).await?);
            Body::empty()
        };
        if let Some(visitor) = visitor {
            parts.extensions.insert(visitor);
        }
        if let Some(trusted) = trusted {
            parts.extensions.insert(trusted);
        }
        Ok(self.routes.answer(parts, body).await)
    }

    /// Who asks for a page, or for what a page reads, if it is somebody who may.
    fn visitor(&self, parts: &Parts, trusted: Option<Trusted>) -> Option<Visitor> {
        let sessions = self.sessions.as_ref()?;
        let is_for_sessions = sessions::is_for_sessions(&parts.method, parts.uri.path());
        let of_session = is_for_sessions.then(|| sessions.visitor(&parts.headers)).flatten();
        let without = || {
            let is_page = sessions::is_of_console(parts.uri.path());
            (trusted.is_some() && is_page).then(|| sessions.without_session())
        };
        of_session.or_else(without)
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
        let task = format!("control {method} {}", crate::refused::truncated(uri.path(), 256));
        let Panicked { message, place } = panicked;
        report_unhandled(&*self.sink, &self.context, &task, "panic", message, place);
    }
}
