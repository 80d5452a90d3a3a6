//! One exchange over `wasi:http`.

use std::fmt;
use std::time::{Duration, Instant};

use ::http::Method;
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method as WasiMethod,
    OutgoingBody, OutgoingRequest, RequestOptions, http_error_code,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use super::error::{Error, ErrorKind, Phase, from_code};
use super::{Headers, Request, Response, redact, url};
use crate::host;

/// Asked of the stream at once; the host decides how much it hands over.
const READ_BYTES: u64 = 64 * 1024;

/// Kept of the turn's time, so that an agent whose request timed out can still say so.
const TURN_RESERVE: Duration = Duration::from_secs(1);

/// One host call waits no longer than this. The host bounds each call by a limit that the agent
/// cannot see, and a call that exceeds it ends the incarnation.
const WAIT_SLICE: Duration = Duration::from_secs(1);

/// The host's timeouts come later than ours by this, so that the error is always ours, which says
/// what took too long.
const HOST_GRACE: Duration = Duration::from_secs(1);

pub(super) fn send(request: Request) -> Result<Response, Error> {
    let pending = begin(request)?;
    let failed = |kind| pending.origin.error(kind);
    pending.limits.wait(&pending.future.subscribe(), Phase::Head).map_err(failed)?;
    pending.response()
}

/// A request that was sent.
pub(super) struct Pending {
    future: FutureIncomingResponse,
    origin: Origin,
    limits: Limits,
    max_bytes: usize,
}

impl Pending {
    pub(super) fn wait(&self) -> Wait {
        Wait { event: self.future.subscribe(), until: self.limits.until }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.future.subscribe().ready()
    }

    pub(super) fn late(&self) -> Option<Error> {
        self.limits.late(Phase::Head).map(|kind| self.origin.error(kind))
    }

    pub(super) fn response(self) -> Result<Response, Error> {
        let Self { future, origin, limits, max_bytes } = self;
        let response = head(&future, &limits).map_err(|kind| origin.error(kind))?;
        receive(response, origin, limits, max_bytes)
    }
}

/// Sends it, and does not wait for the answer.
pub(super) fn begin(request: Request) -> Result<Pending, Error> {
    let origin = Origin::of(&request);
    let limits = Limits::of(&request);
    let outgoing = prepare(&request).map_err(|kind| origin.error(kind))?;
    // The body's handle has to be taken before the request is given away.
    let body = request.body.map(|bytes| (outgoing.body(), bytes));

    // The host keeps options for as long as the agent lives, so they are made for what needs them.
    let options = (request.timeout != Duration::MAX).then(|| limits.options());
    let future = outgoing_handler::handle(outgoing, options)
        .map_err(|code| origin.error(limits.explain(code)))?;
    let sent = match body {
        Some((Ok(handle), bytes)) => write_body(handle, &bytes, &limits),
        // Can happen once only per request, and this is the first time.
        Some((Err(()), _)) => Err(ErrorKind::Broken("body is not available".into())),
        None => Ok(()),
    };
    // A server may answer before it has read everything, and the answer says more than the broken
    // pipe; a time that is up is up.
    if let Err(timeout @ ErrorKind::Timeout { .. }) = sent {
        return Err(origin.error(timeout));
    }
    Ok(Pending { future, origin, limits, max_bytes: request.max_body_bytes })
}

fn prepare(request: &Request) -> Result<OutgoingRequest, ErrorKind> {
    let parts = url::parse(&request.url).map_err(ErrorKind::InvalidUrl)?;
    let fields = Fields::new();
    let append = |name: &str, value: &[u8]| {
        fields.append(name, value).map_err(|_| ErrorKind::InvalidHeader(name.to_owned()))
    };
    for (name, value) in &request.headers.0 {
        append(name, value)?;
    }
    if let Some(body) = &request.body {
        append("content-length", body.len().to_string().as_bytes())?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let refused = |()| ErrorKind::InvalidUrl("refused by the host");
    outgoing.set_method(&method(&request.method)).map_err(refused)?;
    outgoing.set_scheme(Some(&parts.scheme)).map_err(refused)?;
    outgoing.set_authority(Some(&parts.authority)).map_err(refused)?;
    outgoing.set_path_with_query(Some(&parts.path)).map_err(refused)?;
    Ok(outgoing)
}

fn method(method: &Method) -> WasiMethod {
    match *method {
        Method::GET => WasiMethod::Get,
        Method::HEAD => WasiMethod::Head,
        Method::POST => WasiMethod::Post,
        Method::PUT => WasiMethod::Put,
        Method::DELETE => WasiMethod::Delete,
        Method::OPTIONS => WasiMethod::Options,
        Method::PATCH => WasiMethod::Patch,
        _ => WasiMethod::Other(method.as_str().to_owned()),
    }
}

fn write_body(handle: OutgoingBody, bytes: &[u8], limits: &Limits) -> Result<(), ErrorKind> {
    let broken = |_| ErrorKind::Broken("connection closed while sending".into());
    {
        let stream = handle.write().map_err(broken)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let ready = await_room(&stream, limits)?;
            let (part, later) = rest.split_at(rest.len().min(ready));
            stream.write(part).map_err(|error| stream_failure(error, limits))?;
            rest = later;
        }
        stream.flush().map_err(|error| stream_failure(error, limits))?;
        await_room(&stream, limits)?;
    }
    OutgoingBody::finish(handle, None).map_err(|code| limits.explain(code))
}

fn await_room(stream: &OutputStream, limits: &Limits) -> Result<usize, ErrorKind> {
    loop {
        match stream.check_write() {
            Ok(0) => limits.wait(&stream.subscribe(), Phase::Send)?,
            Ok(room) => return Ok(usize::try_from(room).unwrap_or(usize::MAX)),
            Err(error) => return Err(stream_failure(error, limits)),
        }
    }
}

fn head(future: &FutureIncomingResponse, limits: &Limits) -> Result<IncomingResponse, ErrorKind> {
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(code))) => Err(limits.explain(code)),
        Some(Err(())) | None => Err(ErrorKind::Broken("host lost the answer".into())),
    }
}

fn receive(
    response: IncomingResponse,
    origin: Origin,
    limits: Limits,
    max_bytes: usize,
) -> Result<Response, Error> {
    let status = response.status();
    let headers = Headers(response.headers().entries());
    let lost = |()| origin.error(ErrorKind::Broken("host lost the answer's body".into()));
    let incoming = response.consume().map_err(lost)?;
    let stream = incoming.stream().map_err(lost)?;
    let body = Body {
        stream: Some(stream),
        _incoming: incoming,
        _response: response,
        origin,
        limits,
        max_bytes,
        read_bytes: 0,
    };
    Ok(Response { status, headers, body })
}

/// The body of an answer. The fields are dropped in this order: children before their parents, as
/// the component model wants it.
pub(super) struct Body {
    stream: Option<InputStream>,
    _incoming: IncomingBody,
    _response: IncomingResponse,
    origin: Origin,
    limits: Limits,
    max_bytes: usize,
    read_bytes: usize,
}

impl Body {
    /// The next part; `None` at the end.
    pub(super) fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(stream) = &self.stream else { return Ok(None) };
        let part = match next_part(stream, &self.limits) {
            Ok(Some(part)) => part,
            Ok(None) => {
                self.stream = None;
                return Ok(None);
            }
            Err(kind) => {
                self.stream = None;
                return Err(self.origin.error(kind));
            }
        };
        self.read_bytes += part.len();
        if self.read_bytes > self.max_bytes {
            self.stream = None;
            return Err(self.origin.error(ErrorKind::TooLarge(self.max_bytes)));
        }
        Ok(Some(part))
    }

    /// What to wait for before the next part. `None`: it is here, or an error is.
    pub(super) fn wait(&self) -> Option<Wait> {
        let event = self.stream.as_ref()?.subscribe();
        let is_ready = event.ready() || self.limits.late(Phase::Body).is_some();
        (!is_ready).then(|| Wait { event, until: self.limits.until })
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        self.origin.error(kind)
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("read_bytes", &self.read_bytes).finish_non_exhaustive()
    }
}

fn next_part(stream: &InputStream, limits: &Limits) -> Result<Option<Vec<u8>>, ErrorKind> {
    // One that never falls silent must not keep the exchange open.
    if limits.until <= Instant::now() {
        return Err(ErrorKind::Timeout { phase: Phase::Body, after: limits.total });
    }
    loop {
        match stream.read(READ_BYTES) {
            Ok(part) if part.is_empty() => limits.wait(&stream.subscribe(), Phase::Body)?,
            Ok(part) => return Ok(Some(part)),
            Err(StreamError::Closed) => return Ok(None),
            Err(error) => return Err(stream_failure(error, limits)),
        }
    }
}

fn stream_failure(error: StreamError, limits: &Limits) -> ErrorKind {
    match error {
        StreamError::Closed => ErrorKind::Broken("connection closed".into()),
        StreamError::LastOperationFailed(error) => match http_error_code(&error) {
            Some(code) => limits.explain(code),
            None => ErrorKind::Broken(error.to_debug_string()),
        },
    }
}

/// What an exchange waits for, and for how long at most.
pub struct Wait {
    /// The host has news.
    pub event: Pollable,
    /// The time of the exchange is over.
    pub until: Instant,
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("until", &self.until).finish_non_exhaustive()
    }
}

/// What a request's errors name.
#[derive(Clone)]
pub(super) struct Origin {
    method: Method,
    url: String,
}

impl Origin {
    fn of(request: &Request) -> Self {
        Self { method: request.method.clone(), url: redact(&request.url) }
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error { method: self.method.clone(), url: self.url.clone(), kind }
    }
}

/// How long an exchange and its parts may take.
struct Limits {
    until: Instant,
    total: Duration,
    connect: Duration,
    idle: Option<Duration>,
}

impl Limits {
    fn of(request: &Request) -> Self {
        let turn = host::deadline();
        let turn = turn.saturating_sub(TURN_RESERVE.min(turn / 4));
        let total = request.timeout.min(turn);
        let connect = request.connect_timeout.min(total);
        Self { until: Instant::now() + total, total, connect, idle: request.idle_timeout }
    }

    /// The host's own timeouts, so that it lets go of the connection too.
    fn options(&self) -> RequestOptions {
        let options = RequestOptions::new();
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).ok();
        let silence = self.idle.unwrap_or(self.total) + HOST_GRACE;
        // A host that does not support one of them says so, and `wait` bounds the exchange anyway.
        let _ = options.set_connect_timeout(nanos(self.connect));
        let _ = options.set_first_byte_timeout(nanos(self.total + HOST_GRACE));
        let _ = options.set_between_bytes_timeout(nanos(silence));
        options
    }

    fn explain(&self, code: wasip2::http::types::ErrorCode) -> ErrorKind {
        from_code(code, self.connect, self.idle.unwrap_or(self.total))
    }

    /// That its time is over.
    fn late(&self, phase: Phase) -> Option<ErrorKind> {
        let is_late = self.until <= Instant::now();
        is_late.then_some(ErrorKind::Timeout { phase, after: self.total })
    }

    fn wait(&self, event: &Pollable, phase: Phase) -> Result<(), ErrorKind> {
        let left = self.until.saturating_duration_since(Instant::now());
        let (limit, after) = match self.idle {
            Some(idle) if idle < left && phase != Phase::Send => (idle, idle),
            _ => (left, self.total),
        };
        let give_up = Instant::now() + limit;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            if wait_once(event, left.min(WAIT_SLICE)) {
                return Ok(());
            }
            if left <= WAIT_SLICE {
                return Err(ErrorKind::Timeout { phase, after });
            }
        }
    }
}

/// Waits in one host call. `true` when the event is there; it wins when the time is up as well.
fn wait_once(event: &Pollable, time: Duration) -> bool {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let timer = monotonic_clock::subscribe_duration(nanos);
    poll(&[event, &timer]).contains(&0)
}
