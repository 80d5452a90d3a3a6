//! Accepts connections, or refuses them.
//!
//! A second socket is bound to the same port all the time and never listens. Without it, a port on which
//! nobody listens could be given to somebody else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::connection;
use crate::shared::Shared;

/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 1024;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// From now on listen, or do not. What was done is reported.
pub(crate) struct Order {
    pub listen: bool,
    pub done: SyncSender<io::Result<()>>,
}

/// A port that is this server's, whether it listens or not.
pub(crate) struct Port {
    address: SocketAddr,
    _kept: TcpSocket,
}

impl Port {
    pub fn take(address: SocketAddr) -> io::Result<Self> {
        // Without SO_REUSEADDR: only who sets SO_REUSEPORT as well, and is the same user, can join it.
        let kept = bound(address, false)?;
        Ok(Self { address: kept.local_addr()?, _kept: kept })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn listen(&self) -> io::Result<TcpListener> {
        bound(self.address, true)?.listen(BACKLOG)
    }
}

fn bound(address: SocketAddr, reuse: bool) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(reuse)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until it is asked to stop. Connections go with it.
pub(crate) async fn run(
    port: Port,
    listening: TcpListener,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    mut orders: mpsc::Receiver<Order>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut listener = Some(listening);
    loop {
        let is_full = connections.len() >= MAX_CONNECTIONS;
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            Some(order) = orders.recv() => {
                let done = if order.listen {
                    if listener.is_none() { port.listen().map(|new| listener = Some(new)) } else { Ok(()) }
                } else {
                    listener = None;
                    connections.shutdown().await;
                    Ok(())
                };
                let _ = order.done.send(done);
            }
            Some(accepted) = accept(listener.as_ref()), if !is_full => {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection::serve(accepted, shared).await,
                        Some(tls) => {
                            // A caller that does not trust us goes away.
                            if let Ok(stream) = tls.accept(accepted).await {
                                connection::serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next connection; none when there is no listener. An accept that failed failed for its caller.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    loop {
        if let Ok((stream, _)) = listener?.accept().await {
            let _ = stream.set_nodelay(true);
            return Some(stream);
        }
        tokio::task::yield_now().await;
    }
}
