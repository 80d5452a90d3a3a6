//! The protocol over HTTP: one request, one answer, no session.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rmcp::ErrorData;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::Server;

const JSON: &str = "application/json";

/// Answers `POST`s of the transport "streamable HTTP". Callers have checked who asks, and read the body.
#[derive(Clone)]
pub struct Endpoint(StreamableHttpService<Server, NeverSessionManager>);

impl Endpoint {
    /// For the tools of `server`. A body may have so many bytes.
    pub fn new(server: Server, body_bytes: usize) -> Self {
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_keep_alive(None)
            .with_max_request_body_bytes(body_bytes)
            // The control server's own checks come first.
            .disable_allowed_hosts()
            .disable_allowed_origins();
        let sessions = Arc::new(NeverSessionManager::default());
        Self(StreamableHttpService::new(move || Ok(server.clone()), sessions, config))
    }

    /// Answers. A tool that is at work ends when the future is dropped. A body that is no message of the protocol is
    /// answered with status 400 and an error of JSON-RPC.
    pub async fn answer(&self, request: Request<Bytes>) -> Response<BoxBody<Bytes, Infallible>> {
        let body = request.body().clone();
        let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_json = kind.is_some_and(|kind| kind.starts_with(JSON.as_bytes()));
        let answer = self.0.handle(request.map(Full::new)).await;
        // The one status for a wrong kind of body is also that for a body that cannot be read.
        if answer.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE && is_json {
            return no_message(&body);
        }
        answer
    }
}

/// What a body is told that is no message.
fn no_message(body: &[u8]) -> Response<BoxBody<Bytes, Infallible>> {
    let error = match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Err(error) => ErrorData::parse_error(format!("the body is no JSON: {error}"), None),
        Ok(_) => ErrorData::invalid_request("the body is no message of the protocol", None),
    };
    let answer = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
    let mut answer = Response::new(Full::from(answer).boxed());
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    answer
}
