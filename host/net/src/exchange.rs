//! HTTP/1, one exchange at a time on a connection of the host's own, which is kept for the next one.
//!
//! For clients that ask one server for small documents: evidence at a sink, the register of a lease.

use std::fmt;
use std::time::Duration;

use bulkhead_types::error::chain;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime::Id;

use crate::{
    Boxed, ConnectError, Connected, Connector, Destination, Idle, Route, Step, System, UrlError,
};

/// Largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How long a connection may wait to be used again. Shorter than servers let it.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// Makes exchanges with the server that a request is for. Nothing bounds the time of an exchange: its caller does, by
/// dropping it, which closes its connection.
pub struct Exchanges {
    connector: Connector,
    /// For a connection.
    patience: Duration,
    max_answer_bytes: usize,
    idle: Idle<Live>,
}

/// Why there is no whole answer. The text names no secret.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The URL of the request is not absolute, or of another scheme.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// There is no connection, so nothing was sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or what answers does not speak the protocol. The request may have arrived.
    #[error("{0}")]
    Protocol(String),
}

/// An open connection. Its far end is polled while it has a request.
struct Live {
    to: Destination,
    route: Route,
    runtime: Id,
    requests: http1::SendRequest<Full<Bytes>>,
    connection: Boxed<'static, ()>,
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchanges")
    }
}

impl Exchanges {
    /// `patience` is for a connection, and is divided among the addresses of a server. Bodies above `max_answer_bytes`
    /// are an error.
    pub fn new(connector: Connector, patience: Duration, max_answer_bytes: usize) -> Self {
        Self { connector, patience, max_answer_bytes, idle: Idle::new(1, MAX_IDLE) }
    }

    /// Sends a request with an absolute URL, and reads the whole answer. A request is sent once; on another connection
    /// only if nothing of it was sent on one that had been kept.
    pub async fn exchange(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ExchangeError> {
        let to = Destination::of(request.uri())?;
        let mut request = request.map(Full::new);
        if let Some(mut live) = self.idle.take().filter(|live| live.to == to) {
            // The server may have closed it meanwhile. What was not sent on it goes on another.
            match live.exchange(request, self.max_answer_bytes).await {
                Ok(answer) => return Ok(self.done(live, answer)),
                Err(Failed { unsent: Some(unsent), .. }) => request = unsent,
                Err(Failed { error, .. }) => return Err(error),
            }
        }
        let mut live = self.connect(to).await?;
        let answer = live.exchange(request, self.max_answer_bytes).await;
        let answer = answer.map_err(|failed| failed.error)?;
        Ok(self.done(live, answer))
    }

    fn done(&self, live: Live, answer: Response<Bytes>) -> Response<Bytes> {
        if !live.requests.is_closed() {
            self.idle.put(live.runtime, live);
        }
        answer
    }

    async fn connect(&self, to: Destination) -> Result<Live, ExchangeError> {
        let mut step = Step::Resolving;
        let connected = self.connector.connect(&to, &System, self.patience, &mut step).await;
        let Connected { stream, route, runtime } = connected?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (requests, connection) = shaken.map_err(|error| of_hyper(&error))?;
        // An exchange on it learns of its end.
        let connection = Box::pin(async move { drop(connection.await) });
        Ok(Live { to, route, runtime, requests, connection })
    }
}

struct Failed {
    error: ExchangeError,
    /// Nothing of it was sent.
    unsent: Option<Request<Full<Bytes>>>,
}

impl Live {
    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        max_answer_bytes: usize,
    ) -> Result<Response<Bytes>, Failed> {
        let failed = |text| Failed { error: ExchangeError::Protocol(text), unsent: None };
        let prepared = self.route.prepare(&mut request);
        prepared.map_err(|error| failed(format!("make the request: {error}")))?;
        let requests = &mut self.requests;
        let answer = async {
            if requests.ready().await.is_err() {
                let error = ExchangeError::Protocol("the server closed the connection".into());
                return Err(Failed { error, unsent: Some(request) });
            }
            let response = requests.try_send_request(request).await.map_err(|mut error| {
                Failed { unsent: error.take_message(), error: of_hyper(error.error()) }
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, max_answer_bytes).collect().await;
            let body = body.map_err(|error| failed(format!("read the answer: {error}")))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let connection = async {
            (&mut self.connection).await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = connection => unreachable!("it only carries the answer"),
        }
    }
}

fn of_hyper(error: &hyper::Error) -> ExchangeError {
    ExchangeError::Protocol(chain(error))
}
