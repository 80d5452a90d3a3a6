//! Connections: how many, how they are served, how they end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bulkhead_fence::Fenced;
use bulkhead_tasks::{Spawner, Switch};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::ControlLimits;
use crate::connection_slots::{ConnectionSlot, ConnectionSlots, Eviction};
use crate::service::Service;
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
    /// Where connections go that have become streams.
    away: Option<Handle>,
    closing: watch::Sender<bool>,
}

impl Connections {
    pub(crate) fn new(
        service: Arc<Service>,
        spawner: Spawner,
        limits: ControlLimits,
        slots: ConnectionSlots,
        away: Option<Handle>,
    ) -> Self {
        Self {
            service,
            spawner,
            limits,
            slots,
            passing: Arc::new(Semaphore::new(limits.probe_connections)),
            room: Room::default(),
            away,
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
        let answers = Arc::clone(&switch);
        let (heads, framing) = Heads::new(Fenced(stream), self.room.clone(), limits);
        // `close` awaits the slot, which is the task's last possession.
        let serving = async move {
            let slot = Arc::new(slot);
            let (answering, at) = (Arc::clone(&service), Arc::clone(&slot));
            let answer = service_fn(move |mut request| {
                framing.begin(&mut request);
                answered(&answering, &at, &answers, framing.clone(), request)
            });
            let io = TokioIo::new(Patient::new(heads, limits.write_stall));
            let connection = http(&limits).serve_connection(io, answer).with_upgrades();
            let mut connection = pin!(connection);
            // A block of its own, because what `wait_for` yields holds a lock.
            let closing = async move {
                let _ = closing.wait_for(|closing| *closing).await;
            };
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                end = async { tokio::select! { () = closing => Eviction::Politely, Ok(end) = evicted => end } } => {
                    if end == Eviction::Now {
                        return Ok::<_, Infallible>(());
                    }
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                report(&service, &error);
            }
            Ok::<_, Infallible>(())
        };
        drop(match &self.away {
            Some(away) => {
                let away = away.clone();
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

/// Answers a request, and says to the connection's slot what it is at.
fn answered(
    service: &Arc<Service>,
    slot: &Arc<ConnectionSlot>,
    switch: &Arc<Switch>,
    framing: Framing,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let (service, slot) = (Arc::clone(service), Arc::clone(slot));
    let switch = Arc::clone(switch);
    async move {
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
            Some(IsStream { is_endless }) => {
                switch.send_away();
                if *is_endless {
                    slot.leave();
                } else {
                    slot.idle();
                }
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
