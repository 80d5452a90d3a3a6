//! A server on a thread of its own, for tests that are not async.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::chat::Request;
use crate::server::{Options, Shared, serve_shared};

/// A running server. Dropping it ends it and waits for its thread.
pub struct ModelServer {
    address: SocketAddr,
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ModelServer {
    /// Starts a server on a free port of the loopback interface.
    pub fn start(options: Options) -> io::Result<Self> {
        let shared = Shared::new(options);
        let for_thread = shared.clone();
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = sync_channel(1);
        let thread = std::thread::Builder::new().name("model-server".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(bound.send(Err(error))),
            };
            runtime.block_on(async {
                let listener = match TcpListener::bind("127.0.0.1:0").await {
                    Ok(listener) => listener,
                    Err(error) => return drop(bound.send(Err(error))),
                };
                let _ = bound.send(listener.local_addr());
                let stopped = async { drop(stopped.await) };
                if let Err(error) = serve_shared(listener, for_thread, stopped).await {
                    eprintln!("model server: {error}");
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        let address = address.recv().map_err(io::Error::other)??;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What agents are told as `model.base-url`.
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

impl Drop for ModelServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

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
