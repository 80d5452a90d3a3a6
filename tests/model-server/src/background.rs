//! A server on a thread of its own, for tests that are not async.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::chat::Request;
use crate::server::{Options, Shared, serve_shared};
use crate::thread::ServerThread;

/// A running server. Dropping it ends it and waits for its thread.
pub struct ModelServer {
    address: SocketAddr,
    shared: Shared,
    _thread: ServerThread,
}

impl ModelServer {
    /// Starts a server on a free port of the loopback interface.
    pub fn start(options: Options) -> io::Result<Self> {
        let shared = Shared::new(options);
        let for_thread = shared.clone();
        let (address, thread) =
            ServerThread::start("model-server", async move |begun, stopped| {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let _ = begun.send(listener.local_addr());
                serve_shared(listener, for_thread, async { drop(stopped.await) }).await
            })?;
        Ok(Self { address, shared, _thread: thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of a configuration, `http://ADDRESS/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Chat completions asked for so far, refused ones not counted.
    pub fn asked(&self) -> u64 {
        self.shared.asked()
    }

    /// The last of them. Panics when there was none.
    #[track_caller]
    pub fn last_request(&self) -> Request {
        self.shared.last_request().expect("the model was asked")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_answers_over_tcp_and_is_gone_after_its_drop() {
        let server = ModelServer::start(Options::default()).unwrap();
        let address = server.address();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\"scripted\""));
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}
