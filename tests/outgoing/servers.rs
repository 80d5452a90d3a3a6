//! Servers of these tests. Each ends with the process; none outlives its test by anything but a thread that waits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Runtime;

/// Takes connections, each on a thread of its own.
pub fn serve(
    on: &str,
    each: impl Fn(TcpStream) -> Option<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(on).expect("listen");
    let address = listener.local_addr().expect("an address");
    let each = Arc::new(each);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = Arc::clone(&each);
            thread::spawn(move || each(stream));
        }
    });
    address
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// The request line, and the lines of the header in lower case.
    pub head: Vec<String>,
    /// Bytes of its body.
    pub body_bytes: usize,
}

impl Received {
    pub fn has(&self, line: &str) -> bool {
        self.head.iter().any(|have| have == line)
    }
}

/// What a server received, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Received>>>);

impl Log {
    pub fn all(&self) -> Vec<Received> {
        self.0.lock().clone()
    }

    fn push(&self, received: Received) {
        self.0.lock().push(received);
    }
}

/// An HTTP server that reads each request to its end and answers 200. It keeps its connections.
pub fn http(on: &str) -> (SocketAddr, Log) {
    let log = Log::default();
    let for_threads = log.clone();
    let address = serve(on, move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let head = read_head(&mut reader)?;
            let body_bytes = read_body(&mut reader, &head)?;
            for_threads.push(Received { head, body_bytes });
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").ok()?;
        }
    });
    (address, log)
}

/// A head: the first line as it is, the others in lower case.
pub fn read_head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = reader.lines();
    let mut head = vec![lines.next()?.ok()?];
    loop {
        match lines.next()?.ok()? {
            line if line.is_empty() => return Some(head),
            line => head.push(line.to_ascii_lowercase()),
        }
    }
}

pub fn read_body(reader: &mut impl BufRead, head: &[String]) -> Option<usize> {
    let value = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
    if let Some(length) = value("content-length: ") {
        let length = length.parse().ok()?;
        return skip(reader, length).then_some(length);
    }
    if value("transfer-encoding: ").is_none() {
        return Some(0);
    }
    let mut total = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        if !skip(reader, length + 2) {
            return None;
        }
        if length == 0 {
            return Some(total);
        }
        total += length;
    }
}

fn skip(reader: &mut impl Read, bytes: usize) -> bool {
    std::io::copy(&mut reader.take(bytes as u64), &mut std::io::sink()).ok() == Some(bytes as u64)
}

/// A proxy: a tunnel to `leads_to` for CONNECT, an answer of its own for a whole URL.
pub fn proxy(leads_to: SocketAddr) -> (SocketAddr, Log) {
    let log = Log::default();
    let for_threads = log.clone();
    let address = serve("127.0.0.1:0", move |mut stream| {
        // Byte by byte: what follows the head belongs to the tunnel.
        let mut reader = BufReader::with_capacity(1, stream.try_clone().ok()?);
        let head = read_head(&mut reader)?;
        let is_tunnel = head[0].starts_with("CONNECT ");
        for_threads.push(Received { head, body_bytes: 0 });
        if !is_tunnel {
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nproxied";
            return stream.write_all(answer).ok();
        }
        let server = TcpStream::connect(leads_to).ok()?;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
        join(stream, server)
    });
    (address, log)
}

/// Carries every connection to `leads_to`.
pub fn forward(on: &str, leads_to: SocketAddr) -> SocketAddr {
    serve(on, move |stream| join(stream, TcpStream::connect(leads_to).ok()?))
}

/// Carries bytes in both directions until both are at their end.
fn join(left: TcpStream, right: TcpStream) -> Option<()> {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    let (left_again, right_again) = (left.try_clone().ok()?, right.try_clone().ok()?);
    let there = thread::spawn(move || copy(left, right));
    copy(right_again, left_again);
    there.join().ok()
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("start a runtime for TLS")
});

/// Speaks TLS for `name` and carries what it hears to `leads_to`. Returns the certificate of the authority that
/// vouches for it, as PEM.
pub fn tls(name: &str, leads_to: SocketAddr) -> (SocketAddr, String) {
    let (config, authority) = tls_fixture::server(name);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listening = RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listening.expect("listen");
    let address = listener.local_addr().expect("an address");
    RUNTIME.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            RUNTIME.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut to) = tokio::net::TcpStream::connect(leads_to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
            });
        }
    });
    (address, authority)
}
