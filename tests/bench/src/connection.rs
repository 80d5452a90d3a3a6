//! One HTTP/1.1 connection, blocking: the least that a client can cost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Connection {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect to the host");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Self { stream: BufReader::new(stream), body: Vec::new() }
    }

    /// Sends a request and reads the whole answer, which must have this status.
    pub fn timed(&mut self, method: &str, path: &str, body: &str, status: u16) -> Duration {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let began = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes()).expect("send a request");
        let got = self.read_answer();
        let took = began.elapsed();
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(got, status, "{method} {path}: {text}");
        took
    }

    /// The body of the last answer.
    pub fn body(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    fn read_answer(&mut self) -> u16 {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("read the status line");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("read a header");
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a content length");
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).expect("read the body");
        status
    }
}
