//! `wasi:http/outgoing-handler`: requests leave only by the role's allow list.
//!
//! The name is checked first, then every address that it resolves to, and the connection goes to the
//! address that was checked, so that a second answer of the resolver cannot lead elsewhere. Redirects
//! are the guest's business: following one is a new request and is checked like any other.
//!
//! A request under way is charged to its agent with what its buffers can become, from before it connects
//! until it is over (`exchange`).

mod exchange;
mod lookups;
mod target;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use bulkhead_events::Budget;
use bulkhead_model::{HostKind, HttpPolicy, Level};
use http::{Request, Response, Uri};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use self::exchange::{Place, RESPONSE_BYTES, Times, UnderWay, send};
pub(crate) use self::lookups::{Lookups, Resolver};
use self::target::Target;
use crate::logs::Logs;
use crate::meter::Meter;

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

/// What the connection of a request can make the host hold: chunks that wait and the one that is being
/// written, and both buffers.
const CONNECTION_BYTES: u64 = (BODY_CHUNKS + 1) * BODY_CHUNK_BYTES + 2 * MAX_HEAD_BYTES;

/// What TLS keeps beside: rustls holds at most 64 KiB to be sent, and a few records of 16 KiB.
const TLS_BYTES: u64 = 128 * 1024;

/// The way out for one incarnation.
pub(crate) struct Outbound {
    policy: Arc<HttpPolicy>,
    tls: Arc<rustls::ClientConfig>,
    logs: Arc<Logs>,
    under_way: Arc<AtomicUsize>,
    meter: Arc<Meter>,
    lookups: Lookups,
    /// Lines about requests that a limit refused. A guest may try again at once.
    refusals: Budget,
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
        lookups: Lookups,
    ) -> Self {
        let refusals = Budget::new(1, 1, Instant::now());
        Self {
            policy: Arc::new(policy),
            tls,
            logs,
            under_way: Arc::default(),
            meter,
            lookups,
            refusals,
        }
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

    fn take_place(&mut self, target: &Target) -> Result<Place> {
        let Some(under_way) = UnderWay::begin(&self.under_way, MAX_REQUESTS) else {
            let most =
                format!("{MAX_REQUESTS} requests of this agent are under way, which is the most");
            self.limit_refused(&most);
            return Err(Error::ConnectionLimitReached);
        };
        let connection = CONNECTION_BYTES + if target.tls { TLS_BYTES } else { 0 };
        let memory = self.meter.memory();
        let charge = |bytes| memory.charge(HostKind::Http, bytes);
        match charge(connection).and_then(|held| Ok((held, charge(RESPONSE_BYTES)?))) {
            Ok((connection, response)) => Ok(Place { under_way, connection, response }),
            Err(over) => {
                let over = over.to_string();
                self.limit_refused(&over);
                Err(Error::InternalError(Some(over)))
            }
        }
    }

    /// One line a second at most, so that whoever reads the log sees which limit it was.
    fn limit_refused(&mut self, limit: &str) {
        match self.refusals.take(Instant::now()) {
            Ok(0) => self.refused(&limit),
            Ok(more) => {
                self.refused(&format_args!("{limit} ({more} more since the last such line)"))
            }
            Err(_) => {}
        }
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
        let lookups = self.lookups.clone();
        let times = Times::from(options.unwrap_or_default());
        Box::new(async move {
            let stream = target.connect(&policy, &logs, &lookups, times.connect).await?;
            if target.tls {
                send(target.encrypt(stream, tls, times.connect).await?, request, times, place).await
            } else {
                send(stream, request, times, place).await
            }
        })
    }
}
