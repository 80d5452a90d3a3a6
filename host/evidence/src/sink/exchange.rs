//! HTTP/1, one exchange at a time on a connection of the host's own, which is kept for the next one.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_net::{Boxed, Connected, Connector, Destination, Route, Step, System};
use bulkhead_types::error::chain;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::document;
use crate::fault::{Cause, Fault};

/// Largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How long a connection may wait to be used again. Shorter than servers let it.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// Makes exchanges with whoever a request is for.
pub(crate) struct Exchanges {
    connector: Connector,
    /// For a connection.
    patience: Duration,
    idle: Mutex<Option<(Live, Instant)>>,
}

/// An open connection. Its far end is polled while it has a request.
struct Live {
    to: Destination,
    route: Route,
    requests: http1::SendRequest<Full<Bytes>>,
    connection: Boxed<'static, ()>,
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchanges")
    }
}

impl Exchanges {
    pub fn new(connector: Connector, patience: Duration) -> Self {
        Self { connector, patience, idle: Mutex::default() }
    }

    /// Sends a request with an absolute URL, and reads the whole answer.
    pub async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Fault> {
        let to = Destination::of(request.uri())
            .map_err(|error| Fault::new(Cause::Protocol, error.to_string()))?;
        let mut request = request.map(Full::new);
        if let Some(mut live) = self.take_idle(&to) {
            // The server may have closed it meanwhile. What was not sent on it goes on another.
            match live.exchange(request).await {
                Ok(answer) => return Ok(self.done(live, answer)),
                Err(Failed { unsent: Some(unsent), .. }) => request = unsent,
                Err(Failed { fault, .. }) => return Err(fault),
            }
        }
        let mut live = self.connect(to).await?;
        let answer = live.exchange(request).await.map_err(|failed| failed.fault)?;
        Ok(self.done(live, answer))
    }

    fn take_idle(&self, to: &Destination) -> Option<Live> {
        let taken = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fits = |(live, since): &(Live, Instant)| live.to == *to && since.elapsed() < MAX_IDLE;
        taken.filter(fits).map(|(live, _)| live)
    }

    fn done(&self, live: Live, answer: Response<Bytes>) -> Response<Bytes> {
        if !live.requests.is_closed() {
            let kept = Some((live, Instant::now()));
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        }
        answer
    }

    async fn connect(&self, to: Destination) -> Result<Live, Fault> {
        let mut step = Step::Resolving;
        let connected = self.connector.connect(&to, &System, self.patience, &mut step).await;
        let Connected { stream, route } =
            connected.map_err(|error| Fault::new(Cause::Connect, chain(&error)))?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (requests, connection) = shaken.map_err(|error| of_hyper(&error))?;
        // An exchange on it learns of its end.
        let connection = Box::pin(async move { drop(connection.await) });
        Ok(Live { to, route, requests, connection })
    }
}

struct Failed {
    fault: Fault,
    /// Nothing of it was sent.
    unsent: Option<Request<Full<Bytes>>>,
}

impl Live {
    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Failed> {
        let failed = |fault| Failed { fault, unsent: None };
        self.route.prepare(&mut request).map_err(|error| {
            failed(Fault::new(Cause::Protocol, format!("make the request: {error}")))
        })?;
        let requests = &mut self.requests;
        let answer = async {
            if requests.ready().await.is_err() {
                let fault = Fault::new(Cause::Protocol, "the sink closed the connection");
                return Err(Failed { fault, unsent: Some(request) });
            }
            let response = requests.try_send_request(request).await.map_err(|mut error| {
                Failed { unsent: error.take_message(), fault: of_hyper(error.error()) }
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, document::MAX_BYTES).collect().await;
            let body = body.map_err(|error| {
                failed(Fault::new(Cause::Protocol, format!("read the answer: {error}")))
            })?;
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

fn of_hyper(error: &hyper::Error) -> Fault {
    Fault::new(Cause::Protocol, chain(error))
}
