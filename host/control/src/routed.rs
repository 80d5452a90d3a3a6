//! The routes, with what they share.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use bulkhead_mcp::Endpoint;
use hyper::Request;
use tower::ServiceExt;

use crate::connection_slots::ConnectionSlots;
use crate::start_gate::StartGate;
use crate::streams::Streams;
use crate::town::TownEdge;

/// What handlers need beside the backend, as an `Extension`. A layer for each would be made anew for every request.
pub(crate) struct Services {
    pub(crate) town: Option<Arc<dyn TownEdge>>,
    pub(crate) streams: Streams,
    /// Those of the connections that the server has.
    pub(crate) slots: ConnectionSlots,
    pub(crate) starts: StartGate,
    /// The tools for models. `None`: there are none.
    pub(crate) tools: Option<Endpoint>,
}

/// Takes what the town says in a head, from a sender who may change things.
pub(crate) type FromHeader = Arc<dyn Fn(&mut Parts) + Send + Sync>;

/// Routes that answer.
#[derive(Clone)]
pub(crate) struct Routed {
    pub(crate) router: Router,
    pub(crate) services: Arc<Services>,
    /// `None`: heads of requests bring no configuration here.
    pub(crate) from_header: Option<FromHeader>,
}

impl Routed {
    /// Answers a request that was let in.
    pub(crate) async fn answer(&self, mut parts: Parts, body: Body) -> Response {
        if let Some(from_header) = &self.from_header {
            from_header(&mut parts);
        }
        parts.extensions.insert(Arc::clone(&self.services));
        let Ok(response) = self.router.clone().oneshot(Request::from_parts(parts, body)).await;
        response
    }
}
