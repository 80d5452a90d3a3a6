//! A client that says exactly what a test wants it to say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::contract;

/// A test that waits this long for an answer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error").to_owned()
    }
}

/// One connection, and what was read of a stream and not looked at.
pub(super) struct Client(BufReader<TcpStream>, String);

impl Client {
    pub(super) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream), String::new())
    }

    pub(super) fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends a request with a body and extra header lines, and reads the answer.
    pub(super) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let json = "content-type: application/json\r\n";
        let json = if body.is_empty() || headers.contains("content-type") { "" } else { json };
        self.ask_plainly(method, path, &format!("host: localhost\r\n{json}{headers}"), body)
    }

    /// The same with no header lines but these.
    pub(super) fn ask_plainly(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Answer {
        let length = body.len();
        self.say(format!(
            "{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ));
        let answer = self.hear();
        let media_type = answer.header("content-type").unwrap_or_default();
        contract::check_answer(method, path, answer.status, media_type, &answer.body);
        answer
    }

    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    pub(super) fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "", body)
    }

    /// Reads one answer.
    pub(super) fn hear(&mut self) -> Answer {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((key, value)) = line.split_once(": ") else { break };
            headers.push((key.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body += &chunk;
            }
            return answer;
        }
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// Asks for a stream, and returns the head of the answer in lower case, but for its first line.
    pub(super) fn open_stream(&mut self, path: &str, headers: &str) -> String {
        self.say(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"));
        let mut head = self.line();
        loop {
            match self.line() {
                line if line.is_empty() => return head,
                line => head = format!("{head}\n{}", line.to_ascii_lowercase()),
            }
        }
    }

    /// The next frame of a stream.
    pub(super) fn frame(&mut self) -> String {
        loop {
            if let Some((frame, rest)) = self.1.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.1 = rest;
                return frame;
            }
            let chunk = self.chunk().expect("the stream goes on");
            self.1 += &chunk;
        }
    }

    /// What comes next, whatever it is.
    pub(super) fn read(&mut self, bytes: &mut [u8]) {
        self.0.read_exact(bytes).unwrap();
    }

    /// All that comes of a stream until its end.
    pub(super) fn rest(&mut self) -> String {
        while let Some(chunk) = self.chunk() {
            self.1 += &chunk;
        }
        std::mem::take(&mut self.1)
    }

    /// All bytes until the server hangs up.
    pub(super) fn all(&mut self) -> String {
        let mut bytes = String::new();
        self.0.read_to_string(&mut bytes).unwrap();
        bytes
    }

    /// The next piece of a body of unknown length. `None`: that was all.
    fn chunk(&mut self) -> Option<String> {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut chunk = vec![0; size + "\r\n".len()];
        self.0.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        (size > 0).then(|| String::from_utf8(chunk).unwrap())
    }

    /// The status of an answer, if one comes whole.
    pub(super) fn tries(&mut self, path: &str) -> Option<u16> {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    /// Sends nothing more, and still reads.
    pub(super) fn close_its_side(&mut self) -> &mut Self {
        self.0.get_ref().shutdown(Shutdown::Write).unwrap();
        self
    }

    /// Whether the server has hung up, with nothing more to say.
    pub(super) fn is_hung_up(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}
