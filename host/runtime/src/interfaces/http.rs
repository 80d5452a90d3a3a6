//! `wasi:http/outgoing-handler`: requests leave only by the role's allow list.
//!
//! The name is checked first, then every address that it resolves to, and the connection goes to the
//! address that was checked, so that a second answer of the resolver cannot lead elsewhere. Redirects
//! are the guest's business: following one is a new request and is checked like any other.
//!
//! A request under way is charged to its agent with what its buffers can become, from before it connects
//! until it is over (`exchange`).

mod carrier;
mod exchange;
mod lookups;
mod secrets;
mod target;
mod upload;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use bulkhead_log::Budget;
use bulkhead_net::{Connector, Destination};
use bulkhead_telemetry::{CurrentTurn, TraceContext};
use bulkhead_types::error::chain;
use bulkhead_types::{HostKind, HttpPolicy, Level};
use http::{HeaderMap, Request, Response, Uri};
use tokio::runtime::Handle;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

pub(crate) use self::carrier::Carrier;
pub(crate) use self::carrier::{Carried, carry};
pub(crate) use self::exchange::UnderWay;
use self::exchange::{RESPONSE_BYTES, Reserved, Times, send};
pub(crate) use self::lookups::{Lookups, Resolver};
use self::secrets::{Filled, Own};
pub use self::secrets::{HttpSecret, HttpSecrets};
pub(crate) use self::target::SharedResolver;
use crate::descriptors::Descriptors;
use crate::logs::Logs;
use crate::meter::Meter;
use crate::port::Port;
use crate::resources::{BODY_CHUNK_BYTES, BODY_CHUNKS};

/// Requests that one agent may have under way.
const MAX_REQUESTS: usize = 16;

/// What is read and not yet taken, and what has to be written, each; also the largest head of a response.
/// hyper's default is 400 KiB.
pub(crate) const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// What the connection of a request can make the host hold: chunks that wait and the one that is being
/// written, and both buffers.
pub(crate) const CONNECTION_BYTES: u64 = (BODY_CHUNKS + 1) * BODY_CHUNK_BYTES + 2 * MAX_HEAD_BYTES;

/// What TLS keeps beside: rustls holds at most 64 KiB to be sent, and a few records of 16 KiB.
pub(crate) const TLS_BYTES: u64 = 128 * 1024;

/// The way out for one incarnation.
pub(crate) struct Outbound {
    agent: Arc<Agent>,
    under_way: Arc<AtomicUsize>,
    sockets: Arc<Descriptors>,
    secrets: Own,
    port: Arc<dyn Port>,
    /// The turn that they are made in.
    turn: CurrentTurn,
    /// Lines about requests that a limit refused. A guest may try again at once.
    refusals: Budget,
}

/// Whose requests they are.
pub(crate) struct Agent {
    pub policy: HttpPolicy,
    pub connector: Connector,
    pub logs: Arc<Logs>,
    pub meter: Arc<Meter>,
    pub lookups: Lookups,
    pub threads: Handle,
}

impl Agent {
    fn refused(&self, denied: &dyn std::fmt::Display) {
        self.warn(&format!("outgoing request refused: {denied}"));
    }

    fn refused_response(&self, why: &dyn std::fmt::Display) {
        self.warn(&format!("response refused: {why}"));
    }

    /// What only the operator can mend, and no error of `wasi:http` has room for.
    fn failed(&self, error: &dyn std::fmt::Display) {
        self.warn(&format!("outgoing request failed: {error}"));
    }

    fn warn(&self, text: &str) {
        self.logs.line(Level::Warn, "http", text, Default::default());
    }
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>;

impl Outbound {
    pub(crate) fn new(
        agent: Agent,
        sockets: Arc<Descriptors>,
        secrets: HttpSecrets,
        port: Arc<dyn Port>,
    ) -> Self {
        let turn = CurrentTurn::default();
        let refusals = Budget::new(1, 1, Instant::now());
        let secrets = Own::new(secrets, Arc::clone(&agent.policy.secrets));
        let (agent, under_way) = (Arc::new(agent), Arc::default());
        Self { agent, under_way, sockets, secrets, port, turn, refusals }
    }

    /// Requests belong to the turn that this names.
    pub(crate) fn in_turn(self, turn: CurrentTurn) -> Self {
        Self { turn, ..self }
    }

    fn admit(&self, uri: &Uri) -> Result<Destination> {
        let to = Destination::of(uri).map_err(|error| {
            self.agent.refused(&format_args!("its URL cannot be used: {error}"));
            Error::HttpRequestUriInvalid
        })?;
        if let Err(denied) = self.agent.policy.admit_name(&to.host, to.port) {
            self.agent.refused(&denied);
            return Err(Error::HttpRequestDenied);
        }
        Ok(to)
    }

    /// Puts credentials in the place of their placeholders, and says that they leave.
    fn fill(&self, request: &mut Request<WasiBody>, to: &Destination) -> Result<Filled> {
        let filled = self.secrets.fill(request, to).map_err(|refused| {
            self.agent.refused(&refused);
            Error::InternalError(Some(refused.to_string()))
        })?;
        for name in &filled.names {
            self.port.secret_used(name, &to.host_and_port());
        }
        Ok(filled)
    }

    /// Names the turn that the request belongs to, unless the guest has named a trace of its own.
    fn trace(&self, headers: &mut HeaderMap) {
        if let Some(context) = self.turn.get().trace_context()
            && !TraceContext::is_in(headers)
        {
            context.write(headers);
        }
    }

    fn reserve(&mut self, to: &Destination) -> Result<Reserved> {
        let Some(under_way) = UnderWay::begin(&self.under_way, MAX_REQUESTS) else {
            let most =
                format!("{MAX_REQUESTS} requests of this agent are under way, which is the most");
            self.limit_refused(&most);
            return Err(Error::ConnectionLimitReached);
        };
        let socket = self.sockets.one().map_err(|none| {
            self.limit_refused(&none.to_string());
            Error::ConnectionLimitReached
        })?;
        let connection = CONNECTION_BYTES + if to.tls { TLS_BYTES } else { 0 };
        let memory = self.agent.meter.memory();
        let charge = |bytes| memory.charge(HostKind::Http, bytes);
        match charge(connection).and_then(|held| Ok((held, charge(RESPONSE_BYTES)?))) {
            Ok((connection, response)) => Ok(Reserved { under_way, socket, connection, response }),
            Err(over) => {
                let over = over.to_string();
                self.limit_refused(&over);
                Err(Error::InternalError(Some(over)))
            }
        }
    }

    /// One line a second at most, so that a reader of the log sees which limit it was.
    fn limit_refused(&mut self, limit: &str) {
        match self.refusals.take(Instant::now()) {
            Ok(0) => self.agent.refused(&limit),
            Ok(more) => {
                self.agent.refused(&format_args!("{limit} ({more} more since the last such line)"))
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

    // What follows says in the agent's log, and within its budget, what the defaults say in the host's.

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        self.agent.failed(&chain(error));
        let first = error as &dyn std::error::Error;
        let mut causes = std::iter::successors(Some(first), |error| error.source());
        match causes.find_map(|cause| cause.downcast_ref::<Error>()) {
            // Why the body was not sent: see `secrets`.
            Some(Error::InternalError(why)) => ErrorCode::InternalError(why.clone()),
            _ => ErrorCode::HttpProtocolError,
        }
    }

    /// The guest gets the error, and nobody could mend it.
    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    /// `target` has said why.
    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_result: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let admitted = self.admit(request.uri()).and_then(|to| {
            let reserved = self.reserve(&to)?;
            let filled = self.fill(&mut request, &to)?;
            Ok((to, reserved, filled))
        });
        let (to, reserved, filled) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Box::new(std::future::ready(Err(error))),
        };
        self.trace(request.headers_mut());
        let times = Times::from(options.unwrap_or_default());
        let request = request.map(|body| self.secrets.watch(body));
        let agent = Arc::clone(&self.agent);
        let own = Arc::clone(&agent);
        let sending = carry(&self.agent.threads, &self.agent.meter, async move {
            let connected = target::connect(&own, &to, times.connect).await?;
            send(connected, request, times, reserved, &own).await
        });
        Box::new(async move {
            let (mut response, driver) =
                sending.await.unwrap_or(Err(Error::ConnectionTerminated))?;
            filled.check(response.headers()).map_err(|refused| {
                agent.refused_response(&refused);
                Error::InternalError(Some(refused.to_string()))
            })?;
            filled.mask_headers(response.headers_mut());
            let response = response.map(|body| filled.mask_body(body));
            let driver = async move { driver.await.unwrap_or(Ok(())) };
            Ok((response, Box::new(driver) as Box<dyn Future<Output = _> + Send>))
        })
    }
}
