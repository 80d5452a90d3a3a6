//! Connections to a collector: the host's own, so that proxies, certificates and both families of addresses are as for
//! everything else.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_net::{Boxed, ConnectError, Connected, Connector, Destination, Step, Stream, System};
use bulkhead_types::error::chain;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use parking_lot::Mutex;
use tokio::time::timeout;
use tower::Service;

/// Largest head and largest body of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Connects to a collector.
#[derive(Clone)]
pub(crate) struct Client {
    connector: Connector,
    to: Destination,
    /// For a connection, and for an exchange.
    patience: Duration,
    /// Of the last exchange that failed.
    fault: Arc<Mutex<Option<String>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.to).finish()
    }
}

impl Client {
    pub(crate) fn new(connector: Connector, to: Destination, patience: Duration) -> Self {
        Self { connector, to, patience, fault: Arc::default() }
    }

    /// Why the last exchange failed, once.
    pub(crate) fn take_fault(&self) -> Option<String> {
        self.fault.lock().take()
    }

    async fn connect(&self) -> Result<Connected, ConnectError> {
        let mut step = Step::Resolving;
        self.connector.connect(&self.to, &System, self.patience, &mut step).await
    }

    /// A connection for each batch: one in five seconds is not worth keeping.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let Connected { stream, route, .. } = self.connect().await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let mut request = request.map(Full::new);
        route.prepare(&mut request)?;
        let answer = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        let connection = async {
            // The answer hears of its end.
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            answer = answer => answer,
            () = connection => unreachable!("it only carries the answer"),
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = match timeout(self.patience, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", self.patience.as_millis()).into()),
        };
        *self.fault.lock() = answer.as_ref().err().map(|error| chain(&**error));
        answer
    }
}

impl Service<Uri> for Client {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Boxed<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { Ok(TokioIo::new(client.connect().await?.stream)) })
    }
}
