//! HTTP/1 to one place: connections that are used again, and the way from an error to its cause.
//!
//! One exchange, tried once. What is tried again, with which token, and what is told of it: `client`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_events::task::Spawner;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant as Deadline;
use tokio::time::timeout_at;

use crate::address::Address;
use crate::fault::{Cause, Fault, chain};

/// Connections that wait to be used again.
const MAX_IDLE: usize = 8;

/// How long one may wait. Shorter than servers do as a rule, so that it is not closed under a request.
const MAX_IDLE_TIME: Duration = Duration::from_secs(20);

/// Largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

type Sender = http1::SendRequest<Full<Bytes>>;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The way to the town.
pub(crate) struct Transport {
    address: Address,
    tls: Arc<ClientConfig>,
    idle: Mutex<Vec<(Sender, Instant)>>,
    spawner: Spawner,
}

/// How far an exchange came, for the text of one that ran out of time.
#[derive(Clone, Copy)]
enum Step {
    Resolving,
    Connecting,
    Encrypting,
    Waiting,
    Reading,
}

impl Transport {
    pub(crate) fn new(address: Address, tls: Arc<ClientConfig>, spawner: Spawner) -> Self {
        Self { address, tls, idle: Mutex::default(), spawner }
    }

    /// For the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.address.authority
    }

    /// Sends a request and reads the whole answer, of at most `max_bytes`.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
        deadline: Deadline,
    ) -> Result<Reply, Fault> {
        let began = Instant::now();
        let mut step = Step::Resolving;
        let exchanged = timeout_at(deadline, self.exchange_on(request, max_bytes, &mut step)).await;
        exchanged.unwrap_or_else(|_| Err(step.too_late(began.elapsed())))
    }

    async fn exchange_on(
        &self,
        mut request: Request<Full<Bytes>>,
        max_bytes: usize,
        step: &mut Step,
    ) -> Result<Reply, Fault> {
        // A connection that waited may be closed without our knowing. What was not sent on it goes on another.
        loop {
            let (mut sender, is_used) = match self.take_idle() {
                Some(sender) => (sender, true),
                None => (self.connect(step).await?, false),
            };
            *step = Step::Waiting;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *step = Step::Reading;
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
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < MAX_IDLE_TIME);
        // One whose last answer is not through its task yet takes nothing: leave it for the next.
        let ready = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(idle.swap_remove(ready).0)
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    async fn connect(&self, step: &mut Step) -> Result<Sender, Fault> {
        let Address { host, port, tls, .. } = &self.address;
        *step = Step::Resolving;
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await;
        let addresses: Vec<SocketAddr> = addresses
            .map_err(|error| Fault::new(Cause::Dns, format!("resolve {host}: {error}")))?
            .collect();
        if addresses.is_empty() {
            return Err(Fault::new(Cause::Dns, format!("{host} has no address")));
        }
        *step = Step::Connecting;
        let stream = TcpStream::connect(addresses.as_slice()).await;
        let stream = stream.map_err(|error| {
            Fault::new(Cause::Connect, format!("connect to {host}:{port}: {error}"))
        })?;
        let _ = stream.set_nodelay(true);
        if !tls {
            return self.handshake(stream).await;
        }
        *step = Step::Encrypting;
        let failed = |text: String| Fault::new(Cause::Tls, format!("TLS with {host}: {text}"));
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream =
            connector.connect(name, stream).await.map_err(|error| failed(chain(&error)))?;
        self.handshake(stream).await
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Sender, Fault> {
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD_BYTES);
        let shaken = client.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| Fault::of_hyper(&error))?;
        self.spawner.spawn("town connection", async move {
            // Whoever has a request on it hears of its end.
            let _ = connection.await;
            Ok::<_, Infallible>(())
        });
        Ok(sender)
    }
}

impl Step {
    fn too_late(self, waited: Duration) -> Fault {
        let doing = match self {
            Self::Resolving => "resolving the town's name",
            Self::Connecting => "connecting",
            Self::Encrypting => "setting up TLS",
            Self::Waiting => "waiting for the answer",
            Self::Reading => "reading the answer",
        };
        let ms = waited.as_millis();
        Fault::new(Cause::Deadline, format!("not through after {ms} ms, while {doing}"))
    }
}
