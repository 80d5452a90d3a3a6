//! The server: a listener, a thread, an end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_events::task::Spawner;
use bulkhead_events::{RunContext, SharedSink};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::connections::{Connections, Slots};
use crate::service::Service;
use crate::town::{Town, TownEdge};
use crate::{Backend, ControlConfig, ControlError, routes};

/// Connections that the kernel keeps until they are accepted. The kernel cuts it to its own bound.
const BACKLOG: u32 = 1024;
/// After a failed accept. It fails for want of file descriptors, and then at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A control server that listens.
///
/// It lives on a thread and a runtime of its own: whatever guests, compiles and writers do, it
/// answers (invariant 8). [`ControlServer::shutdown`] ends it gracefully; dropping it cuts off the
/// requests in flight.
pub struct ControlServer {
    local_addr: SocketAddr,
    end: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<usize>>,
}

impl ControlServer {
    /// Listens, and answers from a thread of its own. When this returns, clients can connect.
    ///
    /// Refuses a configuration that would let anybody in, and names what to change when it cannot
    /// listen. `town` is the client of the town's API, when there is one. Refused requests and panics of handlers go to `sink`.
    pub fn start<B: Backend>(
        config: ControlConfig,
        backend: B,
        town: Option<Arc<dyn TownEdge>>,
        sink: SharedSink,
        context: Arc<RunContext>,
    ) -> Result<Self, ControlError> {
        config.check()?;
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(ControlError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            listen(config.listen).map_err(|error| bind_error(config.listen, error))?
        };
        let local_addr = listener.local_addr().map_err(|error| bind_error(config.listen, error))?;
        let spawner =
            Spawner::new(runtime.handle().clone(), Arc::clone(&sink), Arc::clone(&context));
        let slots = Slots::new(config.limits.connections);
        let router = routes::router(backend, Town(town), slots.clone());
        let service = Arc::new(Service::new(router, &config, sink, context));
        let connections = Connections::new(Arc::clone(&service), spawner, config.limits, slots);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("bulkhead-control".to_owned())
            .spawn(move || serve(&runtime, listener, &connections, &service, ended))
            .map_err(ControlError::Thread)?;
        Ok(Self { local_addr, end: Some(end), thread: Some(thread) })
    }

    /// Where it listens; the real port when the configured one was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, closes idle connections, lets requests in flight finish for `grace`, and
    /// joins the thread. Returns how many connections were cut off after that.
    ///
    /// Blocks its caller for up to `grace`: from async code, call it on a blocking thread.
    pub fn shutdown(mut self, grace: Duration) -> usize {
        self.end_within(grace)
    }

    fn end_within(&mut self, grace: Duration) -> usize {
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

fn serve(
    runtime: &Runtime,
    listener: TcpListener,
    connections: &Connections,
    service: &Service,
    ended: oneshot::Receiver<Duration>,
) -> usize {
    let cut_off = runtime.block_on(async {
        let grace = tokio::select! {
            biased;
            grace = ended => grace.unwrap_or_default(),
            () = accept(&listener, connections) => Duration::ZERO,
        };
        drop(listener);
        connections.close(grace).await
    });
    service.refusals().settle();
    cut_off
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

/// Like `TcpListener::bind`, with a longer backlog.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a former life in TIME_WAIT do not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_error(address: SocketAddr, error: io::Error) -> ControlError {
    match error.kind() {
        io::ErrorKind::AddrInUse => ControlError::AddressInUse(address),
        _ => ControlError::Bind { address, source: error },
    }
}
