//! The server: a listener, a thread, an end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_log::{RunContext, SharedSink};
use bulkhead_tasks::{Spawner, ask_for_short_slices};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::auth::Gate;
use crate::connection_slots::ConnectionSlots;
use crate::connections::Connections;
use crate::routed::Services;
use crate::service::Service;
use crate::sessions::Sessions;
use crate::start_gate::StartGate;
use crate::streams::{StreamThread, Streams};
use crate::town::TownEdge;
use crate::{Backend, ControlConfig, ControlError, long, routes};

/// Connections that the kernel keeps until they are accepted. The kernel cuts it to its own bound.
const BACKLOG: u32 = 1024;
/// After a failed accept. It fails for want of file descriptors, and then at once again.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A control server that listens, and answers when it is asked to.
///
/// It runs on a thread and a runtime of its own: whatever guests, compiles and writers do, it
/// answers (invariant 8). [`ControlServer::shutdown`] ends it gracefully; dropping it cuts off the
/// requests in flight.
pub struct ControlServer {
    local_addr: SocketAddr,
    probe_addr: Option<SocketAddr>,
    /// On the server's own thread.
    spawner: Spawner,
    look: Arc<dyn Fn() + Send + Sync>,
    open: Option<oneshot::Sender<()>>,
    end: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<usize>>,
}

impl ControlServer {
    /// Listens. When this returns, clients can connect; they are answered from [`ControlServer::serve`] on, by a
    /// thread of the server's own.
    ///
    /// Refuses a configuration that would let anybody in, and names what to change when it cannot
    /// listen. `town` is the client of the town's API, when there is one. Refused requests and panics of handlers go to `sink`.
    pub fn bind<B: Backend>(
        config: ControlConfig,
        backend: B,
        town: Option<Arc<dyn TownEdge>>,
        sink: SharedSink,
        context: Arc<RunContext>,
    ) -> Result<Self, ControlError> {
        config.check()?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(long::THREADS)
            .thread_name("bulkhead-answers")
            .build()
            .map_err(ControlError::Thread)?;
        let (main, probes) = {
            let _entered = runtime.enter();
            let main = listen(config.listen, "BULKHEAD_LISTEN")?;
            let probes =
                config.probe_listen.map(|address| listen(address, "BULKHEAD_PROBE_LISTEN"));
            (main, probes.transpose()?)
        };
        let local_addr = main.1;
        let probe_addr = probes.as_ref().map(|(_, address)| *address);
        let slots = ConnectionSlots::new(config.limits.connections);
        let feed = Arc::clone(backend.feed());
        let streaming = StreamThread::start(feed, &sink, &context).map_err(ControlError::Thread)?;
        let away = streaming.handle().clone();
        let writer = Spawner::new(away, Arc::clone(&sink), Arc::clone(&context));
        let streams = Streams::new(&config.limits, writer.clone());
        let sessions = Sessions::new(config.token.clone());
        let starts = StartGate::default();
        let services = || Services {
            town: town.clone(),
            streams: streams.clone(),
            slots: slots.clone(),
            starts: starts.clone(),
            tools: None,
        };
        let entrance = |listener, routes, gate, config: &ControlConfig, slots, streams| {
            let (sink, context) = (Arc::clone(&sink), Arc::clone(&context));
            let spawner =
                Spawner::new(runtime.handle().clone(), Arc::clone(&sink), Arc::clone(&context));
            let writer = Option::as_ref(&streams).map(|_: &Streams| writer.clone());
            // Where there are no streams there are no pages.
            let sessions = Option::as_ref(&streams).map(|_: &Streams| sessions.clone());
            let service =
                Arc::new(Service::new(routes, gate, config, streams, sessions, sink, context));
            let answering = Arc::clone(&service);
            let connections = Connections::new(answering, spawner, config.limits, slots, writer);
            Entrance { listener, connections, service }
        };
        let probes = probes.map(|(listener, _)| {
            let mut config = config.clone();
            config.limits.connections = config.limits.probe_connections;
            let routes = routes::probes(backend.clone(), services());
            let own = ConnectionSlots::new(config.limits.connections);
            entrance(listener, routes, Gate::Probes, &config, own, None)
        });
        let own = Spawner::new(runtime.handle().clone(), Arc::clone(&sink), Arc::clone(&context));
        let asked = backend.clone();
        let look = Arc::new(move || drop(asked.health()));
        let problems = routes::Problems::new(Arc::clone(&sink));
        let tools = routes::Tools {
            access: config.mcp,
            body_bytes: config.limits.body_bytes,
            sink: Arc::clone(&sink),
            context: Arc::clone(&context),
        };
        let console = routes::console(sessions.clone());
        let routes = routes::router(backend, services(), problems, tools, console);
        let gate = Gate::Token(config.token.clone());
        let main = entrance(main.0, routes, gate, &config, slots.clone(), Some(streams.clone()));
        let (open, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("bulkhead-control".to_owned())
            .spawn(move || {
                let _ = ask_for_short_slices();
                let interrupted = serve(&runtime, main, probes, opened, ended);
                drop(streaming);
                interrupted
            })
            .map_err(ControlError::Thread)?;
        let (open, end, thread) = (Some(open), Some(end), Some(thread));
        Ok(Self { local_addr, probe_addr, spawner: own, look, open, end, thread })
    }

    /// Answers, those first that connected before.
    pub fn serve(&mut self) {
        if let Some(open) = self.open.take() {
            // Nobody waits for it when the thread is gone already.
            let _ = open.send(());
        }
    }

    /// Resolves when the server's thread has worked out what `GET /health` responds: neither it nor what it asks hangs.
    pub async fn answers(&self) {
        let look = Arc::clone(&self.look);
        let looked = self.spawner.spawn_infallible("liveness", async move { look() });
        if !matches!(looked.await, Ok(Some(()))) {
            std::future::pending().await
        }
    }

    /// Where it listens; the real port when the configured one was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it listens for probes alone, if it does.
    pub fn probe_addr(&self) -> Option<SocketAddr> {
        self.probe_addr
    }

    /// Stops accepting, closes idle connections, lets requests in flight finish for `grace`, and
    /// joins the thread. Returns how many connections were interrupted after that.
    ///
    /// Blocks its caller for up to `grace`: from async code, call it on a blocking thread.
    pub fn shutdown(mut self, grace: Duration) -> usize {
        self.end_within(grace)
    }

    fn end_within(&mut self, grace: Duration) -> usize {
        self.open = None;
        if let Some(end) = self.end.take() {
            // Nobody listens when the thread is gone already.
            let _ = end.send(grace);
        }
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.end_within(Duration::ZERO);
    }
}

/// An address, and who answers there.
struct Entrance {
    listener: TcpListener,
    connections: Connections,
    service: Arc<Service>,
}

impl Entrance {
    /// Stops accepting, and lets requests in flight finish for `grace`.
    async fn close(self, grace: Duration) -> usize {
        let Self { listener, connections, service } = self;
        drop(listener);
        service.end_streams();
        let until = Instant::now() + grace;
        let interrupted = connections.close(grace).await + service.sockets_closed(until).await;
        service.refusals().settle();
        interrupted
    }
}

fn serve(
    runtime: &Runtime,
    main: Entrance,
    probes: Option<Entrance>,
    opened: oneshot::Receiver<()>,
    ended: oneshot::Receiver<Duration>,
) -> usize {
    runtime.block_on(async {
        // A server that is dropped before is not opened, and ends.
        let _ = opened.await;
        let probing = async {
            match &probes {
                Some(probes) => accept(&probes.listener, &probes.connections).await,
                None => std::future::pending().await,
            }
        };
        let grace = tokio::select! {
            biased;
            grace = ended => grace.unwrap_or_default(),
            () = accept(&main.listener, &main.connections) => Duration::ZERO,
            () = probing => Duration::ZERO,
        };
        // A scrape that does not end is nothing that was lost.
        let probes = async {
            match probes {
                Some(probes) => probes.close(grace).await,
                None => 0,
            }
        };
        tokio::join!(main.close(grace), probes).0
    })
}

/// Never ends.
async fn accept(listener: &TcpListener, connections: &Connections) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                connections.take(stream);
            }
            Err(error) => {
                // One line for a row of failures: it fails ten times a second until files close.
                if !failing {
                    tracing::warn!(%error, "accepting a connection failed");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A listener, and where it is. `variable` says where it should be.
fn listen(
    address: SocketAddr,
    variable: &'static str,
) -> Result<(TcpListener, SocketAddr), ControlError> {
    let bound = bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (at, listener) = bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ControlError::AddressInUse { address, variable },
        _ => ControlError::Bind { address, variable, source: error },
    })?;
    Ok((listener, at))
}

/// Like `TcpListener::bind`, with a longer backlog.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a former process in TIME_WAIT do not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
