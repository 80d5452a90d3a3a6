//! A proxy of TCP that counts what passes, on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// As many as an engine lets wait: copies of a thousand towns may connect at once.
const BACKLOG: u32 = 4096;

/// Takes connections, and makes one to the engine for each. Dropping it closes them all.
pub struct Proxy {
    pub at: SocketAddr,
    counts: Arc<Counts>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    to: AtomicU64,
    from: AtomicU64,
    connections: AtomicU64,
}

/// Since it began: bytes of TCP streams, without what carries them.
#[derive(Clone, Copy)]
pub struct Passed {
    pub to: u64,
    pub from: u64,
    pub connections: u64,
}

impl Proxy {
    pub fn start(engine: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            socket.listen(BACKLOG)?
        };
        let at = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = serve(listener, engine, shared) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { at, counts, end: Some(end), thread: Some(thread) })
    }

    pub fn passed(&self) -> Passed {
        let Counts { to, from, connections } = &*self.counts;
        Passed {
            to: to.load(Relaxed),
            from: from.load(Relaxed),
            connections: connections.load(Relaxed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.take().map(|end| end.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener, engine: SocketAddr, counts: Arc<Counts>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let counts = Arc::clone(&counts);
        connections.spawn(async move {
            counts.connections.fetch_add(1, Relaxed);
            let Ok(engine) = TcpStream::connect(engine).await else { return };
            // What one side sends is whole: a delay would be this proxy's own.
            let _ = (client.set_nodelay(true), engine.set_nodelay(true));
            let (client_reads, client_writes) = client.into_split();
            let (engine_reads, engine_writes) = engine.into_split();
            // An end of one side ends both.
            tokio::select! {
                _ = pass(client_reads, engine_writes, &counts.to) => {}
                _ = pass(engine_reads, client_writes, &counts.from) => {}
            }
        });
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut bytes = vec![0; 8 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
        count.fetch_add(read as u64, Relaxed);
    }
}
