//! The least that reads a stream of a model: hyper on one thread, which looks for lines of server-sent events.

#![expect(clippy::disallowed_methods, reason = "a client without a host has no spawner")]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::lines::Lines;
use crate::process::Process;

/// Set in a process that reads streams: a [`Job`] as JSON.
const JOB: &str = "BULKHEAD_BENCH_STREAMS";

/// A request of the host's, to be made again.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ask {
    pub address: SocketAddr,
    pub path: String,
    pub body: String,
}

/// One connection, used again and again.
pub struct Client {
    tokio: Runtime,
    sender: SendRequest<Full<Bytes>>,
    ask: Ask,
}

impl Client {
    pub fn open(ask: Ask) -> Self {
        let tokio = tokio();
        let sender = tokio.block_on(connect(ask.address));
        Self { tokio, sender, ask }
    }

    /// Asks, and reads the answer to its end. Until the first text of it was there.
    pub fn first_text(&mut self) -> Duration {
        let began = Instant::now();
        let (mut first, mut lines) = (None, Lines::default());
        let reading = read(&mut self.sender, &self.ask, |bytes| {
            lines.take(bytes, |line| {
                if first.is_none() && has_text(line) {
                    first = Some(began.elapsed());
                }
            });
        });
        self.tokio.block_on(reading);
        first.expect("an answer with a text")
    }
}

/// Streams that a process of its own reads at the same time.
#[derive(Serialize, Deserialize)]
struct Job {
    ask: Ask,
    streams: usize,
}

/// That process.
pub struct Streams {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Streams {
    /// It is connected, and asks nothing yet.
    pub fn open(ask: Ask, streams: usize) -> Self {
        let job = serde_json::to_string(&Job { ask, streams }).expect("a job is JSON");
        let program = std::env::current_exe().expect("path of this program");
        let mut command = Command::new(program);
        command.env(JOB, job).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start the bare client");
        let stdin = child.stdin.take().expect("its input");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut streams = Self { child, stdin, stdout };
        streams.line();
        streams
    }

    /// Reads all streams to their ends. Yields the CPU time for it, and the lines with data.
    pub fn read(&mut self) -> (Duration, usize) {
        let process = Process::of(self.child.id());
        let before = process.cpu();
        self.stdin.write_all(b"go\n").expect("it listens");
        let lines = self.line().trim().parse().expect("a number of lines");
        (process.cpu() - before, lines)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let bytes = self.stdout.read_line(&mut line).expect("it answers");
        assert!(bytes > 0, "the bare client ended");
        line
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process with a job does. None: this is no such process.
pub fn work() -> Option<ExitCode> {
    let job: Job = serde_json::from_str(&std::env::var(JOB).ok()?).expect("a job");
    tokio().block_on(async {
        let mut senders = Vec::new();
        for _ in 0..job.streams {
            senders.push(connect(job.ask.address).await);
        }
        println!("connected");
        for line in std::io::stdin().lines() {
            line.expect("read the input");
            let mut tasks = Vec::new();
            for mut sender in senders.drain(..) {
                let ask = job.ask.clone();
                tasks.push(tokio::spawn(async move {
                    let (mut lines, mut count) = (Lines::default(), 0);
                    let take = |bytes: &[u8]| {
                        lines.take(bytes, |line| count += usize::from(line.starts_with(b"data:")));
                    };
                    read(&mut sender, &ask, take).await;
                    (sender, count)
                }));
            }
            let mut all = 0;
            for task in tasks {
                let (sender, count) = task.await.expect("a stream");
                senders.push(sender);
                all += count;
            }
            println!("{all}");
        }
    });
    Some(ExitCode::SUCCESS)
}

fn tokio() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("start tokio")
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("connect to the model server");
    stream.set_nodelay(true).expect("set TCP_NODELAY");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    sender
}

/// Asks, and gives each piece of the answer away as it comes.
async fn read(sender: &mut SendRequest<Full<Bytes>>, ask: &Ask, mut take: impl FnMut(&[u8])) {
    sender.ready().await.expect("a connection that is free");
    let request = Request::post(&ask.path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(ask.body.clone())))
        .expect("a request");
    let response = sender.send_request(request).await.expect("a response");
    assert_eq!(response.status(), 200);
    let mut body: Incoming = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.expect("a whole answer").into_data() {
            take(&bytes);
        }
    }
}

/// Whether a line is a chunk with text in it. The first chunk of an answer has none.
fn has_text(line: &[u8]) -> bool {
    let line = std::str::from_utf8(line).unwrap_or_default();
    line.split_once("\"content\":\"").is_some_and(|(_, text)| !text.starts_with('"'))
}
