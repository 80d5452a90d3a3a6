//! `wasi:http/outgoing-handler`: requests leave only by the role's allow list.
//!
//! The name is checked first, then every address that it resolves to, and the connection goes to the
//! address that was checked, so that a second answer of the resolver cannot lead elsewhere. Redirects
//! are the guest's business: following one is a new request and is checked like any other.
//!
//! A request under way is charged to its agent with what its buffers can become, from before it connects
//! until its response's body and its connection are gone.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_events::Charge;
use bulkhead_model::{HostKind, HttpPolicy, Level};
use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Interval, interval, timeout};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use crate::logs::Logs;
use crate::meter::Meter;

/// Where a guest sets no timeout of its own. A model may think for minutes before its first byte; the
/// agent's own deadlines are what ends a call.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// A connection that is not there after this long will not come.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests that one agent may have under way.
const MAX_REQUESTS: usize = 16;

/// What a guest may write to a body at once. The default of 1 MiB would let every body hold 2 MiB.
pub(crate) const BODY_CHUNK_BYTES: u64 = 32 * 1024;

/// Chunks of a body that wait: one, and the place that `wasmtime-wasi-http` adds.
pub(crate) const BODY_CHUNKS: u64 = 2;

/// Header fields that a guest makes, as they are in memory.
pub(crate) const MAX_FIELD_BYTES: u64 = 32 * 1024;

/// What is read and not yet taken, and what is to be written, each; also the largest head of a response.
/// hyper's default is 400 KiB.
pub(crate) const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// What a request can make the host hold: chunks that wait and the one that is being written, both
/// buffers of the connection, the piece of the response that was taken out of one, and its fields.
const REQUEST_BYTES: u64 = (BODY_CHUNKS + 1) * BODY_CHUNK_BYTES + 4 * MAX_HEAD_BYTES;

/// What TLS keeps beside: rustls holds at most 64 KiB to be sent, and a few records of 16 KiB.
const TLS_BYTES: u64 = 128 * 1024;

/// Names that are looked up at one time. The resolver may hold a thread for many seconds, and the
/// blocking threads are those that agents' files need.
static LOOKUPS: Semaphore = Semaphore::const_new(16);

/// The way out for one incarnation.
pub(crate) struct Outbound {
    policy: Arc<HttpPolicy>,
    tls: Arc<rustls::ClientConfig>,
    logs: Arc<Logs>,
    under_way: Arc<AtomicUsize>,
    meter: Arc<Meter>,
}

/// TLS settings for all agents: the roots of the web, nothing else.
pub(crate) fn tls_config() -> Arc<rustls::ClientConfig> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>;

impl Outbound {
    pub(crate) fn new(
        policy: HttpPolicy,
        tls: Arc<rustls::ClientConfig>,
        logs: Arc<Logs>,
        meter: Arc<Meter>,
    ) -> Self {
        Self { policy: Arc::new(policy), tls, logs, under_way: Arc::default(), meter }
    }

    fn admit(&self, uri: &Uri) -> Result<Target> {
        let target = Target::of(uri)?;
        if let Err(denied) = self.policy.admit_name(&target.host, target.port) {
            self.refused(&denied);
            return Err(Error::HttpRequestDenied);
        }
        Ok(target)
    }

    fn refused(&self, denied: &dyn std::fmt::Display) {
        let text = format!("outgoing request refused: {denied}");
        self.logs.line(Level::Warn, "http", &text, Default::default());
    }

    fn take_place(&self, target: &Target) -> Result<Arc<Place>> {
        let under_way = UnderWay(Arc::clone(&self.under_way));
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= MAX_REQUESTS {
            return Err(Error::ConnectionLimitReached);
        }
        let bytes = REQUEST_BYTES + if target.tls { TLS_BYTES } else { 0 };
        let charge = self.meter.memory().charge(HostKind::Http, bytes);
        let charge = charge.map_err(|over| Error::InternalError(Some(over.to_string())))?;
        Ok(Arc::new(Place { _under_way: under_way, _charge: charge }))
    }
}

/// A request under way and what it holds, until its response's body and its connection are gone.
struct Place {
    _under_way: UnderWay,
    _charge: Charge,
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WasiHttpHooks for Outbound {
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES as usize
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_result: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let admitted = self.admit(request.uri()).and_then(|target| {
            let place = self.take_place(&target)?;
            Ok((target, place))
        });
        let (target, place) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Box::new(std::future::ready(Err(error))),
        };
        let policy = Arc::clone(&self.policy);
        let tls = Arc::clone(&self.tls);
        let logs = Arc::clone(&self.logs);
        let times = Times::from(options.unwrap_or_default());
        Box::new(async move {
            let stream = target.connect(&policy, &logs, times.connect).await?;
            if target.tls {
                send(target.encrypt(stream, tls, times.connect).await?, request, times, place).await
            } else {
                send(stream, request, times, place).await
            }
        })
    }
}

#[derive(Clone, Copy)]
struct Times {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl From<RequestOptions> for Times {
    fn from(options: RequestOptions) -> Self {
        // tokio refuses an interval of zero.
        let at_least = |time: Duration| time.max(Duration::from_nanos(1));
        Self {
            connect: options.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            first_byte: options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT),
            between_bytes: at_least(options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT)),
        }
    }
}

/// Where a request goes.
struct Target {
    host: String,
    port: u16,
    tls: bool,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // `Uri` keeps the brackets of an IPv6 literal.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, tls })
    }

    async fn connect(
        &self,
        policy: &HttpPolicy,
        logs: &Logs,
        patience: Duration,
    ) -> Result<TcpStream> {
        let connecting = async {
            let addresses = self.addresses().await?.into_iter();
            let admitted = self.admitted(policy, logs, addresses)?;
            TcpStream::connect(admitted.as_slice()).await.map_err(Error::Connect)
        };
        let stream =
            timeout(patience, connecting).await.map_err(|_| Error::ConnectionTimeout)??;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Asks the resolver of the system, on a thread of its own. Giving up does not end that thread, so
    /// there may be only so many of them, for all agents together.
    async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        if let Ok(literal) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, self.port)]);
        }
        let place = LOOKUPS.acquire().await.map_err(|_| Error::DnsTimeout)?;
        let (host, port) = (self.host.clone(), self.port);
        let lookup = Handle::current().spawn(async move {
            let found = tokio::net::lookup_host((host, port)).await.map(Iterator::collect);
            drop(place);
            found
        });
        let failed = |text: String| Error::DnsError { rcode: Some(text), info_code: None };
        match lookup.await {
            Ok(found) => found.map_err(|error| failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    fn admitted(
        &self,
        policy: &HttpPolicy,
        logs: &Logs,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>> {
        let mut admitted = Vec::new();
        let mut denied = None;
        for address in addresses {
            match policy.admit_address(&self.host, address.ip()) {
                Ok(()) => admitted.push(address),
                Err(reason) => denied = Some(reason),
            }
        }
        if admitted.is_empty() {
            let reason =
                denied.map_or_else(|| format!("{} has no address", self.host), |d| d.to_string());
            let text = format!("outgoing request refused: {reason}");
            logs.line(Level::Warn, "http", &text, Default::default());
            return Err(Error::DestinationIpProhibited);
        }
        Ok(admitted)
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
        tls: Arc<rustls::ClientConfig>,
        patience: Duration,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name =
            ServerName::try_from(self.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let connecting = tokio_rustls::TlsConnector::from(tls).connect(name, stream);
        timeout(patience, connecting)
            .await
            .map_err(|_| Error::ConnectionTimeout)?
            .map_err(Error::Tls)
    }
}

/// An HTTP/1 client with small buffers.
fn client() -> http1::Builder {
    let mut client = http1::Builder::new();
    client.max_buf_size(MAX_HEAD_BYTES as usize);
    client
}

/// Sends `request` on a connection of its own and returns when the response's head is there.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut request: Request<WasiBody>,
    times: Times,
    place: Arc<Place>,
) -> Sent {
    let (mut sender, connection) = timeout(times.connect, client().handshake(TokioIo::new(stream)))
        .await
        .map_err(|_| Error::ConnectionTimeout)?
        .map_err(Error::Hyper)?;
    // A server, unlike a proxy, gets the path alone; the host stands in its header.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut connection = Box::pin(connection);
    let response = async {
        tokio::select! {
            biased;
            response = sender.send_request(request) => response.map_err(Error::Hyper),
            Err(error) = &mut connection => Err(Error::Hyper(error)),
        }
    };
    let response =
        timeout(times.first_byte, response).await.map_err(|_| Error::ConnectionReadTimeout)??;
    let mut idle = interval(times.between_bytes);
    idle.reset();
    let body = response
        .map(|incoming| Timed { incoming, idle, _place: Arc::clone(&place) }.boxed_unsync());
    // `sender` lives as long as the connection does: dropping it earlier would end the response.
    let driving = async move {
        let result = connection.await.map_err(Error::Hyper);
        drop(sender);
        drop(place);
        result
    };
    Ok((body, Box::new(driving)))
}

/// A response body that fails when the server falls silent.
struct Timed {
    incoming: hyper::body::Incoming,
    idle: Interval,
    _place: Arc<Place>,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.idle.reset();
                Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
            }
            Poll::Pending => match self.idle.poll_tick(cx) {
                Poll::Ready(_) => Poll::Ready(Some(Err(Error::ConnectionReadTimeout))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
