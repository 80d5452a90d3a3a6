//! The probes of a copy of a town that waits for the lease, and has no host yet.
//!
//! ```text
//!   wait ──▶ listens ──▶ /livez and /metrics 200, everything else 503 `standby` ──▶ close: the ports are free at once
//! ```
//!
//! It is a part of the process that waits, and of one task of it: nothing is spawned, and nothing of it is left when its
//! future is dropped. It listens on the addresses of the host that comes after it, so it has to be closed before that one
//! begins. `close` returns with the ports free. A connection that it has accepted is answered all the same, one that the
//! kernel has accepted for it is reset.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bulkhead_api::LeaseWait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::answer::Refusal;
use crate::origin::{AllowedHost, Origins};
use crate::server::{ACCEPT_PAUSE, bind};
use crate::{ControlConfig, routes};

/// Connections at a time. More of them wait in the kernel.
const CONNECTIONS: usize = 64;
/// How long one may take to ask and to be answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// hyper's buffer of a connection, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;
/// A body is read so far, in bytes, so that its sender gets the answer.
const BODY_BYTES: usize = 64 * 1024;
/// Between two attempts to listen.
const AGAIN: Duration = Duration::from_millis(250);
/// A port that cannot be had for so many attempts is a problem: the host that was killed before has left it by then.
const TROUBLED_AFTER: u32 = 20;

/// What a copy waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The holder of the lease, where the register was read and names one.
    pub holder: Option<String>,
    /// Where the holder is reached. Empty: it does not say.
    pub endpoint: String,
    /// The epoch of the holder, or 0.
    pub epoch: u64,
    /// When this copy may take the lease if it hears of no renewal until then, in nanoseconds of `CLOCK_BOOTTIME`.
    pub takeover_at: Option<u64>,
    /// The register does not answer.
    pub is_failing: bool,
}

/// Answers probes while a copy waits.
pub struct Standby {
    ports: RefCell<Vec<Port>>,
    origins: Origins,
    /// In nanoseconds of `CLOCK_BOOTTIME`.
    not_before: u64,
    waiting: RefCell<Option<Waiting>>,
    begun: Notify,
}

struct Port {
    address: SocketAddr,
    listener: Option<TcpListener>,
}

impl Standby {
    /// Nothing is listened to yet. Not before this moment, in nanoseconds of `CLOCK_BOOTTIME`: until then a host may have the
    /// ports, or be started again and want them. A port that is 0 is one that nobody knows, and is left alone.
    pub fn new(config: &ControlConfig, not_before: u64) -> Self {
        let addresses = [Some(config.listen), config.probe_listen];
        let known = addresses.into_iter().flatten().filter(|address| address.port() != 0);
        let ports = known.map(|address| Port { address, listener: None });
        let allowed: Vec<AllowedHost> = config.allowed_hosts.clone();
        Self {
            ports: RefCell::new(ports.collect()),
            origins: Origins::new(allowed),
            not_before,
            waiting: RefCell::default(),
            begun: Notify::new(),
        }
    }

    /// From here on probes hear of this.
    pub fn wait(&self, waiting: Waiting) {
        self.waiting.replace(Some(waiting));
        self.begun.notify_one();
    }

    /// Frees the ports, for good.
    pub fn close(&self) {
        self.ports.borrow_mut().clear();
    }

    /// Answers, and never ends. `report` hears once of each port that cannot be listened to.
    pub async fn serve(&self, report: impl Fn(String)) -> Infallible {
        let mut listening = pin!(self.listen(report));
        let mut answering = FuturesUnordered::new();
        loop {
            tokio::select! {
                never = &mut listening => match never {},
                stream = self.accept(), if answering.len() < CONNECTIONS => {
                    answering.push(self.answer_on(stream));
                }
                Some(()) = answering.next() => {}
            }
        }
    }

    async fn listen(&self, report: impl Fn(String)) -> Infallible {
        self.begun.notified().await;
        // In steps: the clock of a sleep stands still while the machine sleeps.
        while bulkhead_fence::now() < self.not_before {
            sleep(AGAIN).await;
        }
        for attempt in 1_u32.. {
            let failed = self.try_to_listen();
            if attempt == TROUBLED_AFTER {
                for (address, error) in &failed {
                    report(format!("cannot listen on {address}: {error}"));
                }
            }
            if failed.is_empty() {
                break;
            }
            sleep(AGAIN).await;
        }
        // The accepting branch has to poll the new listeners.
        tokio::task::yield_now().await;
        pending().await
    }

    /// Those that are not there yet.
    fn try_to_listen(&self) -> Vec<(SocketAddr, io::Error)> {
        let mut failed = Vec::new();
        for port in self.ports.borrow_mut().iter_mut().filter(|port| port.listener.is_none()) {
            match bind(port.address) {
                Ok(listener) => port.listener = Some(listener),
                Err(error) => failed.push((port.address, error)),
            }
        }
        failed
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(stream) => return stream,
                // There are no descriptors for now.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let ports = self.ports.borrow();
        for listener in ports.iter().filter_map(|port| port.listener.as_ref()) {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }

    async fn answer_on(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(async |request: Request<Incoming>| {
            let (parts, body) = request.into_parts();
            drop(Limited::new(body, BODY_BYTES).collect().await);
            let answered = self.origins.check(&parts, true);
            let answered = answered.and_then(|()| self.answer(&parts));
            Ok::<_, Infallible>(answered.into_response())
        });
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .half_close(true)
            .keep_alive(false)
            .max_buf_size(BUFFER_BYTES);
        let _ = timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), service)).await;
    }

    fn answer(&self, asked: &Parts) -> Result<Response, Refusal> {
        match asked.uri.path() {
            _ if ![Method::GET, Method::HEAD].contains(&asked.method) => Err(self.refusal()),
            "/livez" => Ok(routes::alive()),
            "/metrics" => Ok(routes::of_standby(&asked.headers)),
            _ => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> Refusal {
        let waiting = self.waiting.borrow();
        let (error, lease) = match &*waiting {
            Some(waiting) => (waiting.sentence(), Some(waiting.view(bulkhead_fence::now()))),
            None => ("the lease of the town was not read yet".into(), None),
        };
        let error = format!("standby: {error}");
        let mut refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).kind("standby");
        refusal.body.lease = lease.map(Box::new);
        refusal
    }
}

impl Waiting {
    /// Without the words of the register, which may name directories and users: probes have no token.
    fn sentence(&self) -> String {
        match &self.holder {
            _ if self.is_failing => {
                "the register of the lease does not answer; the log of this copy has why".into()
            }
            Some(holder) => {
                let at = match &*self.endpoint {
                    "" => String::new(),
                    endpoint => format!(" at {endpoint}"),
                };
                format!("{holder}{at} holds the lease of the town (epoch {})", self.epoch)
            }
            None => "the lease of the town is about to be taken".into(),
        }
    }

    fn view(&self, now: u64) -> LeaseWait {
        let left = self.takeover_at.map(|at| at.saturating_sub(now).div_ceil(1_000_000));
        LeaseWait {
            holder: self.holder.clone(),
            endpoint: Some(self.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
            epoch: self.epoch,
            takeover_in_ms: left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ControlLimits, Mcp};

    fn config(listen: SocketAddr) -> ControlConfig {
        ControlConfig {
            listen,
            token: None,
            allow_unauthenticated: true,
            allowed_hosts: Vec::new(),
            probe_listen: None,
            mcp: Mcp::default(),
            limits: ControlLimits::default(),
        }
    }

    fn waiting() -> Waiting {
        Waiting {
            holder: Some("a/7".into()),
            endpoint: "a.example".into(),
            epoch: 3,
            takeover_at: Some(bulkhead_fence::now() + 1_500_000),
            is_failing: false,
        }
    }

    #[tokio::test]
    async fn it_listens_when_it_may_and_the_port_is_free_when_it_is_closed() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let later = bulkhead_fence::now() + 600_000_000;
        let standby = Standby::new(&config(address), later);
        let try_it = async {
            assert!(TcpStream::connect(address).await.is_err(), "there is nothing to wait for");
            standby.wait(waiting());
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            assert!(bulkhead_fence::now() >= later, "it listened too early");
            standby.close();
            drop(bind(address).unwrap());
        };
        tokio::select! {
            never = standby.serve(|why| panic!("{why}")) => match never {},
            () = try_it => {}
        }
    }

    #[test]
    fn what_it_waits_for_is_said_without_the_words_of_the_register() {
        let standby = Standby::new(&config(([127, 0, 0, 1], 0).into()), 0);
        let said = || *standby.refusal().body;
        assert_eq!(said().error, "standby: the lease of the town was not read yet");
        standby.wait(waiting());
        let body = said();
        assert_eq!(body.error, "standby: a/7 at a.example holds the lease of the town (epoch 3)");
        assert_eq!((body.status, body.error_type.as_deref()), (Some(503), Some("standby")));
        let lease = *body.lease.unwrap();
        assert_eq!((lease.holder.as_deref(), lease.epoch), (Some("a/7"), 3));
        assert!(lease.takeover_in_ms.is_some_and(|left| left <= 2), "{lease:?}");
        standby.wait(Waiting { is_failing: true, ..waiting() });
        assert!(said().error.contains("the register of the lease does not answer"));
        let asked = |method, path| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            standby.answer(&request.into_parts().0)
        };
        let elsewhere = asked(Method::GET, "/agents").unwrap_err();
        assert_eq!(elsewhere.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(asked(Method::HEAD, "/livez").is_ok());
        assert!(asked(Method::POST, "/livez").is_err());
        assert!(asked(Method::POST, "/metrics").is_err());
        assert_eq!(asked(Method::GET, "/metrics").unwrap().status(), StatusCode::OK);
    }
}
