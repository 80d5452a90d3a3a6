//! Connections: how many, how they are served, how they end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bulkhead_fence::Fenced;
use bulkhead_tasks::{Spawner, Switch};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::ControlLimits;
use crate::connection_slots::{ConnectionSlot, ConnectionSlots, Eviction};
use crate::endless::Departure;
use crate::service::Service;
use crate::socket::Socket;
use crate::stream::Patient;
use crate::streams::IsStream;
use crate::town_header::{Framing, Heads, Room};

/// How long a connection for which there is no slot may take to say what it wants and to hear the answer.
const IN_PASSING: Duration = Duration::from_secs(2);
/// hyper's buffer of a connection, in bytes; a head must fit. Its default is 400 KiB.
const MIN_BUFFER_BYTES: usize = 64 * 1024;
/// Stands for a method and a path that could not be read.
const UNREAD: &str = "-";

/// Serves connections, at most so many at a time.
pub(crate) struct Connections {
    service: Arc<Service>,
    spawner: Spawner,
    limits: ControlLimits,
    slots: ConnectionSlots,
    /// For connections for which there is no slot: a probe is answered in passing.
    passing: Arc<Semaphore>,
    /// For large `X-Town-Config` of all connections.
    room: Room,
    /// Where streams are written.
    streaming: Option<Spawner>,
    closing: watch::Sender<bool>,
}

impl Connections {
    pub(crate) fn new(
        service: Arc<Service>,
        spawner: Spawner,
        limits: ControlLimits,
        slots: ConnectionSlots,
        streaming: Option<Spawner>,
    ) -> Self {
        Self {
            service,
            spawner,
            limits,
            slots,
            passing: Arc::new(Semaphore::new(limits.probe_connections)),
            room: Room::default(),
            streaming,
            closing: watch::Sender::new(false),
        }
    }

    /// Serves a new connection: in a slot, else in passing, else not.
    pub(crate) fn take(&self, stream: TcpStream) {
        // Answers are small and waited for. Without it they would wait for the client's ACK.
        let _ = stream.set_nodelay(true);
        match self.slots.take() {
            Some((slot, evicted)) => self.serve(stream, slot, evicted),
            None => match Arc::clone(&self.passing).try_acquire_owned() {
                Ok(permit) => self.serve_in_passing(stream, permit),
                Err(_) => {
                    let error = Service::too_many(self.limits.connections);
                    self.service.refusals().record(UNREAD, UNREAD, 503, &error);
                }
            },
        }
    }

    /// Closes idle connections, lets the others finish their request for `grace`, and returns how
    /// many of them did not.
    pub(crate) async fn close(&self, grace: Duration) -> usize {
        self.closing.send_replace(true);
        self.slots.empty(grace).await
    }

    fn serve(&self, stream: TcpStream, slot: ConnectionSlot, evicted: oneshot::Receiver<Eviction>) {
        let service = Arc::clone(&self.service);
        let mut closing = self.closing.subscribe();
        let limits = self.limits;
        let switch = Arc::new(Switch::default());
        let (departure, mut departs) = Departure::new();
        let slot = Arc::new(slot);
        let answers = Arc::new(Answers {
            service: Arc::clone(&service),
            slot: Arc::clone(&slot),
            switch: Arc::clone(&switch),
            departure,
        });
        let socket = Socket::new(stream);
        let (heads, framing) = Heads::new(Fenced(socket.clone()), self.room.clone(), limits);
        let streaming = self.streaming.clone();
        let requests = async move {
            let answer = service_fn(move |mut request| {
                framing.begin(&mut request);
                Arc::clone(&answers).answer(framing.clone(), request)
            });
            let io = TokioIo::new(Patient::new(heads, limits.write_stall));
            let mut connection = pin!(http(&limits).serve_connection(io, answer).with_upgrades());
            // A block of its own, because what `wait_for` yields holds a lock.
            let closing = async move {
                let _ = closing.wait_for(|closing| *closing).await;
            };
            let mut end = pin!(async {
                tokio::select! { () = closing => Eviction::Politely, Ok(end) = evicted => end }
            });
            let mut is_ending = false;
            loop {
                tokio::select! {
                    ended = connection.as_mut() => {
                        ended.unwrap_or_else(|error| report(&service, &error));
                        return None;
                    }
                    Ok(endless) = &mut departs => return Some(endless),
                    end = end.as_mut(), if !is_ending => {
                        if end == Eviction::Now {
                            return None;
                        }
                        connection.as_mut().graceful_shutdown();
                        is_ending = true;
                    }
                }
            }
        };
        // `close` awaits the slot, which is the last possession of whoever serves the connection.
        let serving = async move {
            if let (Some(endless), Some(streaming)) = (requests.await, streaming) {
                drop(streaming.spawn_infallible("control-stream", async move {
                    let _slot = slot;
                    match socket.claim() {
                        // Whatever ends it early is the client's business.
                        Ok(stream) => drop(endless.write(stream, limits.write_stall).await),
                        Err(error) => tracing::warn!(%error, "a stream cannot be written"),
                    }
                }));
            }
            Ok::<_, Infallible>(())
        };
        drop(match &self.streaming {
            Some(streaming) => {
                let away = streaming.runtime().clone();
                self.spawner.spawn_migrating("control-connection", away, switch, serving)
            }
            None => self.spawner.spawn("control-connection", serving),
        });
    }

    /// Answers one probe, and refuses whatever else comes.
    fn serve_in_passing(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let service = Arc::clone(&self.service);
        let limits =
            ControlLimits { header_read: IN_PASSING, body_read: IN_PASSING, ..self.limits };
        let (heads, framing) = Heads::new(Fenced(stream), self.room.clone(), limits);
        drop(self.spawner.spawn_infallible("control-passing", async move {
            let _permit = permit;
            let answering = Arc::clone(&service);
            let answer = service_fn(move |mut request| {
                framing.begin(&mut request);
                let service = Arc::clone(&answering);
                async move { Ok::<_, Infallible>(service.answer_in_passing(request).await) }
            });
            let io = TokioIo::new(Patient::new(heads, IN_PASSING));
            let mut http = http(&limits);
            let connection = http.keep_alive(false).serve_connection(io, answer);
            if let Ok(Err(error)) = timeout(IN_PASSING, connection).await {
                report(&service, &error);
            }
        }));
    }
}

/// What answers the requests of a connection.
struct Answers {
    service: Arc<Service>,
    slot: Arc<ConnectionSlot>,
    switch: Arc<Switch>,
    departure: Departure,
}

impl Answers {
    /// Answers a request, and says to the connection's slot what it is at.
    async fn answer(
        self: Arc<Self>,
        framing: Framing,
        request: Request<Incoming>,
    ) -> Result<Response, Infallible> {
        let Self { service, slot, switch, departure } = &*self;
        let (version, is_head) = (request.version(), request.method() == Method::HEAD);
        let mut answer = pin!(service.answer(request, || slot.begin()));
        let response = tokio::select! {
            biased;
            response = answer.as_mut() => response,
            () = framing.left() => {
                slot.doubt();
                answer.await
            }
        };
        framing.end(&response);
        match response.extensions().get::<IsStream>() {
            Some(IsStream { is_endless: true }) => {
                slot.leave();
                if !is_head {
                    departure.leave(response, version).await;
                }
            }
            Some(IsStream { is_endless: false }) => {
                switch.send_away();
                slot.idle();
            }
            None => slot.idle(),
        }
        Ok(response)
    }
}

fn http(limits: &ControlLimits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(limits.header_read)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(MIN_BUFFER_BYTES));
    http
}

/// A head that hyper could not read was answered by hyper, without a body, and has no line yet.
/// Everything else that ends a connection is the client's business.
fn report(service: &Service, error: &hyper::Error) {
    if error.is_parse() && !error.is_parse_version_h2() {
        let status = if error.is_parse_too_large() { 431 } else { 400 };
        service.refusals().record(UNREAD, UNREAD, status, &error.to_string());
    }
}
