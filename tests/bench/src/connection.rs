//! One HTTP/1.1 connection, blocking: the least that a client can cost.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Connection {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("connect to the host")
    }

    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), body: Vec::new() })
    }

    /// An answer that takes longer is an error.
    pub fn patience(self, patience: Duration) -> io::Result<Self> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        Ok(self)
    }

    /// Sends a request and reads the whole answer, which must have this status.
    pub fn timed(&mut self, method: &str, path: &str, body: &str, status: u16) -> Duration {
        let (got, took) = self.ask(method, path, body).expect("an answer");
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(got, status, "{method} {path}: {text}");
        took
    }

    /// Sends a request and reads the whole answer. Yields its status and how long it took.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Duration)> {
        let began = Instant::now();
        self.send(method, path, body)?;
        let status = self.read_answer()?;
        Ok((status, began.elapsed()))
    }

    /// Sends a request whose answer nobody waits for.
    pub fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// Reads the whole answer of a request that was sent, which must have this status.
    pub fn answered(&mut self, status: u16) {
        let got = self.read_answer().expect("an answer");
        assert_eq!(got, status, "{}", String::from_utf8_lossy(&self.body));
    }

    /// The body of the last answer.
    pub fn body(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    fn read_answer(&mut self) -> io::Result<u16> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(status)
    }
}
