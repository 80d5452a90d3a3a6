//! Connections: how many, how they are served, how they end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::ErrorBody;
use bulkhead_events::task::Spawner;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::ControlLimits;
use crate::service::Service;
use crate::stream::Patient;

/// How long a connection that is turned away may take to say what it wants and to hear the answer.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// Connections that are being turned away at one time. Above, they are closed without a word.
const TURNED_AWAY: usize = 64;
/// hyper's buffer of a connection, in bytes; a head must fit. Its default is 400 KiB.
const MIN_BUFFER_BYTES: usize = 64 * 1024;
/// Stands for a method and a path that could not be read.
const UNREAD: &str = "-";

/// Places for connections. Cheap to clone; clones share the places.
#[derive(Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    bound: usize,
}

impl Slots {
    pub(crate) fn new(bound: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bound)), bound }
    }

    /// Connections that are served.
    pub(crate) fn taken(&self) -> usize {
        self.bound - self.free.available_permits()
    }
}

/// Serves connections, at most so many at a time.
pub(crate) struct Connections {
    service: Arc<Service>,
    spawner: Spawner,
    limits: ControlLimits,
    slots: Slots,
    turn_away_slots: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

impl Connections {
    pub(crate) fn new(
        service: Arc<Service>,
        spawner: Spawner,
        limits: ControlLimits,
        slots: Slots,
    ) -> Self {
        Self {
            service,
            spawner,
            limits,
            slots,
            turn_away_slots: Arc::new(Semaphore::new(TURNED_AWAY)),
            closing: watch::Sender::new(false),
        }
    }

    /// Serves a new connection, or turns it away.
    pub(crate) fn take(&self, stream: TcpStream) {
        // Answers are small and waited for. Without it they would wait for the client's ACK.
        let _ = stream.set_nodelay(true);
        match Arc::clone(&self.slots.free).try_acquire_owned() {
            Ok(slot) => self.serve(stream, slot),
            Err(_) => self.turn_away(stream),
        }
    }

    /// Closes idle connections, lets the others finish their request for `grace`, and returns how
    /// many of them did not.
    pub(crate) async fn close(&self, grace: Duration) -> usize {
        self.closing.send_replace(true);
        let all = u32::try_from(self.slots.bound).unwrap_or(u32::MAX);
        let _ = timeout(grace, self.slots.free.acquire_many(all)).await;
        self.slots.taken()
    }

    fn serve(&self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let service = Arc::clone(&self.service);
        let mut closing = self.closing.subscribe();
        let limits = self.limits;
        // `close` awaits the slot, which is the task's last possession.
        drop(self.spawner.spawn("control-connection", async move {
            let _slot = slot;
            let answering = Arc::clone(&service);
            let answer = service_fn(move |request| {
                let service = Arc::clone(&answering);
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            let io = TokioIo::new(Patient::new(stream, limits.write_stall));
            let mut connection = pin!(http(&limits).serve_connection(io, answer));
            // A block of its own, because what `wait_for` yields holds a lock.
            let closing = async move {
                let _ = closing.wait_for(|closing| *closing).await;
            };
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closing => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                report(&service, &error);
            }
            Ok::<_, Infallible>(())
        }));
    }

    fn turn_away(&self, stream: TcpStream) {
        let bound = self.limits.connections;
        let error = format!("too many connections, at most {bound} are served at a time");
        self.service.refusals().record(UNREAD, UNREAD, 503, &error);
        let Ok(slot) = Arc::clone(&self.turn_away_slots).try_acquire_owned() else { return };
        drop(self.spawner.spawn("control-turn-away", async move {
            let _slot = slot;
            let _ = timeout(TURN_AWAY, say_busy(stream, error)).await;
            Ok::<_, Infallible>(())
        }));
    }
}

fn http(limits: &ControlLimits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
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

/// Answers the first words of a client with 503, and waits until it hangs up: closing on unread
/// bytes would reset the connection before the client has read the answer.
async fn say_busy(mut stream: TcpStream, error: String) -> std::io::Result<()> {
    let mut scrap = [0; 4096];
    if stream.read(&mut scrap).await? == 0 {
        return Ok(());
    }
    let error_type = Some("busy".to_owned());
    let body = ErrorBody { error_type, status: Some(503), ..ErrorBody::new(error) };
    let body = serde_json::to_string(&body)?;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
