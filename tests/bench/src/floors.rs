//! What no design on this machine could go below, and how far above it we are. All of it in turn.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bulkhead_runtime::Runtime;
use harness::files;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::net::TcpListener;

use crate::account;
use crate::connection::Connection;
use crate::process;
use crate::report::{Base, Report, Row};
use crate::samples::Samples;

/// `GET /health`, against a bare echo, when both run on the core of their client.
const HEALTH_ALLOWED: f64 = 1.2;

/// A start over HTTP, against `GET /health` and a start without a supervisor together.
const START_ALLOWED: f64 = 1.5;

/// A message over HTTP, against `GET /health`.
const MESSAGE_ALLOWED: f64 = 1.3;

/// Names of threads, as far as the kernel keeps them.
const CONTROL_THREAD: &str = "bulkhead-contro";
const ECHO_THREAD: &str = "bare-echo";

const HELLO: &str = r#"{"prompt":"hello"}"#;

pub fn measure(rounds: usize, report: &mut Report) {
    let host = crate::host();
    let mut http = Connection::open(host.address());
    let mut bare = Connection::open(bare_echo());
    let mut inside = Inside::new();
    let mut all: [Samples; 5] = Default::default();
    for round in 0..rounds + rounds / 10 {
        let agent = format!("floor-{round}");
        let body = format!("{{\"agentId\":\"{agent}\",\"role\":\"echo\"}}");
        let path = format!("/agents/{agent}/message?wait=10000");
        let took = [
            inside.start(),
            bare.timed("POST", "/", HELLO, 200),
            http.timed("GET", "/health", "", 200),
            http.timed("POST", "/agents/start", &body, 201),
            http.timed("POST", &path, HELLO, 200),
        ];
        http.timed("POST", &format!("/agents/{agent}/stop"), "", 200);
        if round >= rounds / 10 {
            all.iter_mut().zip(took).for_each(|(samples, took)| samples.add(took));
        }
    }
    let [instantiate, echo, health, start, message] = &all;
    let middle = |samples: &Samples| samples.percentile(50);
    report.add(Row::plain("floor: instantiate and start, no supervisor", instantiate));
    report.add(Row::plain("floor: bare hyper echo on one thread", echo));
    let base = Base { name: "bare echo", value: middle(echo) };
    let row = Row::times("GET /health", health, base, 0.0);
    report.add(Row { budget: "-".into(), met: None, ..row });
    let value = middle(health) + middle(instantiate);
    let base = Base { name: "health+floor", value };
    report.add(Row::times("POST /agents/start until running", start, base, START_ALLOWED));
    let base = Base { name: "health", value: middle(health) };
    report.add(Row::times("message round trip with ?wait", message, base, MESSAGE_ALLOWED));
    inside.runtime.shut_down();
    on_one_core(rounds, host.pid(), &mut http, &mut bare, report);
    host.finish();
}

/// With several cores, where the kernel wakes a server is worth more than what the server does: the same request takes
/// 35 or 80 µs, whatever answers it. On one core no figure has that in it.
fn on_one_core(
    rounds: usize,
    pid: u32,
    http: &mut Connection,
    bare: &mut Connection,
    report: &mut Report,
) {
    let all = sched_getaffinity(None).expect("read the affinity");
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).expect("a core");
    let mut one = CpuSet::new();
    one.set(first);
    let servers = [(pid, CONTROL_THREAD), (std::process::id(), ECHO_THREAD)];
    let servers = servers.map(|(pid, name)| Some(process::thread(pid, name)));
    let pin = |set: &CpuSet| {
        for thread in servers.into_iter().chain([None]) {
            sched_setaffinity(thread, set).expect("set the affinity");
        }
    };
    pin(&one);
    let (mut echo, mut health) = (Samples::new(), Samples::new());
    for round in 0..rounds + rounds / 10 {
        let took = [bare.timed("POST", "/", HELLO, 200), http.timed("GET", "/health", "", 200)];
        if round >= rounds / 10 {
            [&mut echo, &mut health]
                .into_iter()
                .zip(took)
                .for_each(|(samples, it)| samples.add(it));
        }
    }
    pin(&all);
    report.add(Row::plain("floor: bare hyper echo on the core of its client", &echo));
    let base = Base { name: "bare echo", value: echo.percentile(50) };
    report.add(Row::times("GET /health on the core of its client", &health, base, HEALTH_ALLOWED));
}

/// The engine alone.
struct Inside {
    runtime: Runtime,
    tokio: tokio::runtime::Runtime,
    loaded: std::sync::Arc<bulkhead_runtime::Loaded>,
}

impl Inside {
    fn new() -> Self {
        let (runtime, tokio) = account::engine();
        let loaded = runtime.load_blocking(&"echo".into(), &files::component("echo"));
        Self { loaded: loaded.expect("load the component"), runtime, tokio }
    }

    fn start(&mut self) -> Duration {
        let (runtime, loaded) = (&self.runtime, &self.loaded);
        let began = Instant::now();
        let incarnation = self.tokio.block_on(engine_fixture::started(
            runtime,
            loaded,
            account::instance_context(),
        ));
        let took = began.elapsed();
        drop(incarnation);
        took
    }
}

/// A server of the library that ours is built on, that gives every body back. It ends with this process.
fn bare_echo() -> SocketAddr {
    let (sender, address) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(ECHO_THREAD.to_owned());
    let serve = move || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tokio.expect("start tokio").block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            sender.send(listener.local_addr().expect("its address")).expect("somebody listens");
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("set TCP_NODELAY");
            let served =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo));
            // The client hangs up in the end.
            let _ = served.await;
        });
    };
    thread.spawn(serve).expect("start a thread");
    address.recv().expect("it listens")
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map_or(Bytes::new(), |body| body.to_bytes());
    Ok(Response::new(Full::new(body)))
}
