//! HTTP/1 to one place: connections that are used again, and the way from an error to its cause.
//!
//! One exchange, tried once. What is tried again, with which token, and what is logged of it: `client`.

use std::time::{Duration, Instant};

use bulkhead_net::{Connected, Connector, Destination, Route, Step as Connecting, System};
use bulkhead_tasks::Spawner;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::Instant as Deadline;
use tokio::time::timeout_at;

use crate::fault::{Cause, Fault};

/// Connections that wait to be used again.
const MAX_IDLE: usize = 8;

/// How long one may wait. Shorter than servers do as a rule, so that it is not closed under a request.
const MAX_IDLE_TIME: Duration = Duration::from_secs(20);

/// Largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A connection that takes a request.
struct Sender {
    requests: http1::SendRequest<Full<Bytes>>,
    route: Route,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The way to the town.
pub(crate) struct Transport {
    to: Destination,
    connector: Connector,
    idle: Mutex<Vec<(Sender, Instant)>>,
    spawner: Spawner,
}

/// How far an exchange came, for the text of one that ran out of time.
struct Progress {
    step: Step,
    connecting: Connecting,
}

#[derive(Clone, Copy)]
enum Step {
    Connecting,
    Waiting,
    Reading,
}

impl Transport {
    pub(crate) fn new(to: Destination, connector: Connector, spawner: Spawner) -> Self {
        Self { to, connector, idle: Mutex::default(), spawner }
    }

    /// Sends a request and reads the whole answer, of at most `max_bytes`.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
        deadline: Deadline,
    ) -> Result<Reply, Fault> {
        let began = Instant::now();
        let mut progress = Progress { step: Step::Connecting, connecting: Connecting::Resolving };
        let exchange = self.exchange_on(request, max_bytes, deadline, &mut progress);
        let exchanged = timeout_at(deadline, exchange).await;
        exchanged.unwrap_or_else(|_| Err(progress.too_late(began.elapsed())))
    }

    async fn exchange_on(
        &self,
        mut request: Request<Full<Bytes>>,
        max_bytes: usize,
        deadline: Deadline,
        progress: &mut Progress,
    ) -> Result<Reply, Fault> {
        // A connection that waited may be closed without our knowing. What was not sent on it goes on another.
        loop {
            let (mut sender, is_used) = match self.take_idle() {
                Some(sender) => (sender, true),
                None => (self.connect(deadline, progress).await?, false),
            };
            progress.step = Step::Waiting;
            sender.route.prepare(&mut request).map_err(|error| {
                Fault::new(Cause::NotHttp, format!("make the request: {error}"))
            })?;
            match sender.requests.try_send_request(request).await {
                Ok(response) => {
                    progress.step = Step::Reading;
                    return self.read(sender, response, max_bytes).await;
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if is_used => request = unsent,
                    _ => return Err(Fault::of_hyper(failed.error())),
                },
            }
        }
    }

    async fn read(
        &self,
        sender: Sender,
        response: http::Response<Incoming>,
        max_bytes: usize,
    ) -> Result<Reply, Fault> {
        let (parts, mut body) = response.into_parts();
        let too_large =
            || Fault::new(Cause::TooLarge, format!("the answer is larger than {max_bytes} bytes"));
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fault::of_hyper(&error))?;
            let Ok(chunk) = frame.into_data() else { continue };
            if bytes.len() + chunk.len() > max_bytes {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        self.keep(sender);
        Ok(Reply { status: parts.status, headers: parts.headers, body: bytes.into() })
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock();
        idle.retain(|(sender, since)| {
            !sender.requests.is_closed() && since.elapsed() < MAX_IDLE_TIME
        });
        // One whose last answer is not through its task yet takes nothing: leave it for the next.
        let ready = idle.iter().rposition(|(sender, _)| sender.requests.is_ready())?;
        Some(idle.swap_remove(ready).0)
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !sender.requests.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    async fn connect(&self, deadline: Deadline, progress: &mut Progress) -> Result<Sender, Fault> {
        progress.step = Step::Connecting;
        let patience = deadline.saturating_duration_since(Deadline::now());
        let connecting = &mut progress.connecting;
        let connected = self.connector.connect(&self.to, &System, patience, connecting).await;
        let Connected { stream, route, .. } =
            connected.map_err(|error| Fault::of_connecting(&error))?;
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD_BYTES);
        let shaken = client.handshake(TokioIo::new(stream)).await;
        let (requests, connection) = shaken.map_err(|error| Fault::of_hyper(&error))?;
        // A request on it gets its end.
        self.spawner.spawn_infallible("town connection", connection);
        Ok(Sender { requests, route })
    }
}

impl Progress {
    fn too_late(&self, waited: Duration) -> Fault {
        let doing = match self.step {
            Step::Connecting => self.connecting.doing(),
            Step::Waiting => "waiting for the answer",
            Step::Reading => "reading the answer",
        };
        let ms = waited.as_millis();
        Fault::new(Cause::Deadline, format!("not through after {ms} ms, while {doing}"))
    }
}
