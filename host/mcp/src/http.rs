//! The protocol over HTTP: one request, one answer, no session.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::Server;

/// Answers `POST`s of the transport "streamable HTTP". Whoever calls it has checked who asks, and read the body.
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

    /// Answers. A tool that is at work ends when the future is dropped.
    pub async fn answer(&self, request: Request<Bytes>) -> Response<BoxBody<Bytes, Infallible>> {
        self.0.handle(request.map(Full::new)).await
    }
}
