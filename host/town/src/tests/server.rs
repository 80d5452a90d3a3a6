//! A small HTTP server whose answers a test writes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;

use parking_lot::Mutex;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn token(&self) -> &str {
        self.header("authorization").unwrap().strip_prefix("Bearer ").unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The answer.
pub(crate) enum Answer {
    Json(u16, String),
    /// Headers and octets.
    Octets(Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes, and then the end of the connection.
    Raw(Vec<u8>),
    /// An answer, and then the end of the connection without a word of it.
    JsonThenClose(String),
    /// Nothing, until the other side gives up.
    Silence,
}

type Handler = Box<dyn Fn(&Got) -> Answer + Send + Sync>;

struct Shared {
    handler: Handler,
    got: Mutex<Vec<Got>>,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

pub(crate) struct Server {
    shared: Arc<Shared>,
    pub(crate) url: String,
    address: std::net::SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Got) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            got: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serving.accept(&listener));
        Self { shared, url: format!("http://{address}"), address, thread: Some(thread) }
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().clone()
    }

    /// The requests whose path ends like this.
    pub(crate) fn got_at(&self, end: &str) -> Vec<Got> {
        self.got().into_iter().filter(|got| got.path.ends_with(end)).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        for stream in self.shared.open.lock().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        for stream in listener.incoming() {
            if self.ended.load(SeqCst) {
                break;
            }
            let stream = stream.unwrap();
            self.connections.fetch_add(1, SeqCst);
            self.open.lock().push(stream.try_clone().unwrap());
            let this = Arc::clone(&self);
            threads.push(std::thread::spawn(move || this.serve(stream)));
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(got) = read(&mut reader) {
            self.got.lock().push(got.clone());
            if !self.answer(&mut stream, (self.handler)(&got)) {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Says whether the connection goes on.
    fn answer(&self, stream: &mut TcpStream, answer: Answer) -> bool {
        let json = |status: u16, text: &str| {
            let length = text.len();
            format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{text}"
            )
        };
        match answer {
            Answer::Json(status, text) => stream.write_all(json(status, &text).as_bytes()).is_ok(),
            Answer::JsonThenClose(text) => {
                let _ = stream.write_all(json(200, &text).as_bytes());
                false
            }
            Answer::Octets(headers, bytes) => {
                let mut head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", bytes.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                head += "\r\n";
                stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&bytes).is_ok()
            }
            Answer::Raw(bytes) => {
                let _ = stream.write_all(&bytes);
                false
            }
            Answer::Silence => {
                let mut byte = [0];
                let _ = stream.read(&mut byte);
                false
            }
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Got> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut got = Got { method, path, headers, body: Vec::new() };
    let length = got.header("content-length").map_or(0, |text| text.parse().unwrap());
    got.body.resize(length, 0);
    reader.read_exact(&mut got.body).ok()?;
    Some(got)
}
