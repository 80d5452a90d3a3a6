//! A server on a thread of its own, for tests that are not async.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::chat::Request;
use crate::record::Record;
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

    /// The base URL of an OpenAI-compatible endpoint.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The base URL of an endpoint for Anthropic's Messages.
    pub fn anthropic_url(&self) -> String {
        format!("http://{}/anthropic/v1", self.address)
    }

    /// The base URL of an endpoint that is odd; see [`oddity`](crate::oddity). Panics when there is no such oddity.
    /// More segments keep the counts of tests apart: `fail-503-2/of-this-test`.
    #[track_caller]
    pub fn oddity_url(&self, name: &str) -> String {
        let oddity = name.split('/').next().unwrap_or_default();
        assert!(crate::oddity::is_known(oddity), "no such oddity: {oddity}");
        format!("http://{}/oddity/{name}/v1", self.address)
    }

    /// Requires another key from here on, or none.
    pub fn accept_key(&self, key: Option<&str>) {
        self.shared.accept_key(key.map(str::to_owned));
    }

    /// The last 256 requests, newest last, whether they were accepted or not.
    pub fn requests(&self) -> Vec<Record> {
        self.shared.log().all()
    }

    /// Forgets the requests so far, also for the counts of oddities.
    pub fn forget_requests(&self) {
        self.shared.log().clear();
    }

    /// Completions asked for so far, refused ones not counted.
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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::record::End;

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

    /// Sends a request and returns everything that comes.
    fn ask(stream: &mut TcpStream, path: &str) {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
    }

    fn connect(server: &ModelServer) -> TcpStream {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Reads until what came ends in this way.
    fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let mut all = Vec::new();
        while !all.ends_with(end.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            all.push(byte[0]);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn oddities_have_exact_bytes_and_connections_go_on() {
        let server = ModelServer::start(Options::default()).unwrap();
        let path =
            server.oddity_url("early-hints").replace(&format!("http://{}", server.address()), "");
        let path = format!("{path}/chat/completions");
        assert_eq!(path, "/oddity/early-hints/v1/chat/completions");
        let mut stream = connect(&server);
        for _ in 0..2 {
            ask(&mut stream, &path);
            let answer = read_until(&mut stream, "\r\n0\r\n\r\n");
            assert!(
                answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200"),
                "{answer}"
            );
        }
        assert_eq!(server.requests().len(), 2);
        assert_eq!((server.asked(), server.last_request().model.as_str()), (2, "m"));
    }

    #[test]
    fn counts_are_by_path() {
        let server = ModelServer::start(Options::default()).unwrap();
        let mut stream = connect(&server);
        for (path, status) in [("a", "503"), ("a", "200"), ("b", "503")] {
            ask(&mut stream, &format!("/oddity/fail-503-1/{path}/v1/chat/completions"));
            let answer = read_until(&mut stream, "\r\n0\r\n\r\n");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    }

    #[test]
    fn a_reset_is_no_end() {
        let server = ModelServer::start(Options::default()).unwrap();
        let mut stream = connect(&server);
        ask(&mut stream, "/oddity/reset/v1/chat/completions");
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_client_that_hangs_up_in_a_silence_is_on_record() {
        let server = ModelServer::start(Options::default()).unwrap();
        let mut stream = connect(&server);
        ask(&mut stream, "/oddity/stall/v1/chat/completions");
        read_until(&mut stream, "\n\n\r\n");
        assert_eq!(server.requests()[0].end, End::Open);
        drop(stream);
        let since = Instant::now();
        while server.requests()[0].end == End::Open {
            assert!(since.elapsed() < Duration::from_secs(30), "nobody saw it");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(server.requests()[0].end, End::HungUp);
    }

    #[test]
    #[should_panic(expected = "no such oddity: nonsense")]
    fn an_oddity_that_is_not_known_is_a_mistake_of_the_test() {
        let _ = ModelServer::start(Options::default()).unwrap().oddity_url("nonsense");
    }
}
