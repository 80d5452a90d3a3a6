//! `POST /mcp`: the tools for models, by the Model Context Protocol's transport "streamable HTTP". One request, one
//! answer in JSON; there are no sessions and no streams.
//!
//! A tool calls other routes of this server, in this process. What it is refused is its result, and no refusal of this
//! request.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::http::header::{ACCEPT, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::Response;
use bulkhead_log::{RunContext, SharedSink};
use bulkhead_mcp::{Access, Answer, Api, Call, Endpoint, Server};
use bulkhead_tasks::containment::{Panicked, contain_future};
use bulkhead_tasks::report_unhandled;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::Mcp;
use crate::answer::Refusal;
use crate::auth::Trusted;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;
use crate::routed::{Routed, Services};

/// Largest answer of a route that a tool reads. A thousand crash records have a tenth of it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Headers that the protocol has of its own begin like this.
const OWN_HEADERS: &str = "mcp-";

/// How changes are allowed.
const ALLOW: &str = "server.mcp = \"change\" in the host's configuration allows it";

/// What the tools are made of.
pub(crate) struct Tools {
    pub(crate) access: Mcp,
    pub(crate) body_bytes: usize,
    pub(crate) sink: SharedSink,
    pub(crate) context: Arc<RunContext>,
}

impl Tools {
    /// The tools on `routes`. `None`: there are none.
    pub(super) fn on(self, routes: Routed) -> Option<Endpoint> {
        let Self { access, body_bytes, sink, context } = self;
        let access = match access {
            Mcp::Off => return None,
            Mcp::Read => Access::Read,
            Mcp::Change => Access::Change,
        };
        let server = Server::new(Routes { routes, sink, context }, access, ALLOW);
        Some(Endpoint::new(server, body_bytes))
    }
}

pub(super) fn operation() -> Operation {
    let example = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "list_agents", "arguments": {"limit": 1}
    }});
    Operation::new(Group::Tools, "Answers one request of the Model Context Protocol (streamable HTTP)")
        .about(
            "There are no sessions and no streams. `Accept` has `application/json` and `text/event-stream`. `server.mcp` \
             says which tools there are. What goes wrong in a tool is its result, with `isError`. [mcp.md](mcp.md) has the \
             tools.",
        )
        .body::<Value>(example)
        .answers::<Value>(200, "The answer, or an error of the protocol.")
        .answers_without(202, "A notification was taken.")
        .refuses(400, "A header or the query is malformed (`issues`), or the body is no JSON (error -32700) or no message of the protocol (-32600).")
        .refuses(404, "This host has no tools for models (`mcp-off`).")
        .refuses(406, "`Accept` lacks one of the two media types (`mcp`).")
        .refuses_as::<Value>()
}

pub(super) async fn post(
    Extension(services): Extension<Arc<Services>>,
    _: NoParams,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Response, Refusal> {
    let Some(endpoint) = services.tools.clone() else {
        let refusal = Refusal::new(StatusCode::NOT_FOUND, "this host has no tools for models");
        return Err(refusal.kind("mcp-off").action("set server.mcp = \"read\" or \"change\""));
    };
    let mut request = Request::post("/mcp").body(body.bytes()).map_err(|_| Refusal::internal())?;
    // Nothing else is needed there, least of all the token.
    let needed = headers.iter().filter(|(name, _)| {
        *name == ACCEPT || *name == CONTENT_TYPE || name.as_str().starts_with(OWN_HEADERS)
    });
    let needed = needed.map(|(name, value)| (name.clone(), value.clone()));
    request.headers_mut().extend(needed);
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    let (head, answer) = endpoint.answer(request).await.into_parts();
    drop(body);
    let is_json = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if head.status.as_u16() < 400 || is_json {
        return Ok(Response::from_parts(head, Body::new(answer)));
    }
    let Ok(said) = answer.collect().await;
    let said = String::from_utf8_lossy(&said.to_bytes()).into_owned();
    Err(Refusal::new(head.status, said).kind("mcp"))
}

/// The routes, called by this process.
struct Routes {
    routes: Routed,
    sink: SharedSink,
    context: Arc<RunContext>,
}

impl Api for Routes {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, String>> {
        async move {
            let Call { method, path, body, patience } = call;
            let task = format!("mcp {method} {}", path.split('?').next().unwrap_or_default());
            let answer = timeout(patience, contain_future(self.answer(method, &path, body)));
            match answer.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(Panicked { message, place })) => {
                    report_unhandled(&*self.sink, &self.context, &task, "panic", message, place);
                    Err("the host failed to respond; its log has the details".to_owned())
                }
                Err(_) => Err(format!("no answer in {} s", patience.as_secs())),
            }
        }
        .boxed()
    }
}

impl Routes {
    async fn answer(
        &self,
        method: hyper::Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(CONTENT_TYPE, "application/json");
        let mut request = request.body(Body::empty()).map_err(|error| error.to_string())?;
        // Callers of the tool have shown the token.
        request.extensions_mut().insert(Trusted);
        request.extensions_mut().insert(WholeBody::own(body));
        let (parts, body) = request.into_parts();
        let response = self.routes.answer(parts, body).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), MAX_ANSWER_BYTES).await;
        let body = body.map_err(|error| error.to_string())?;
        Ok(Answer { status, body })
    }
}
