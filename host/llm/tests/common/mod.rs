//! A server that says bytes as a script has them, on a real socket, and what a chat makes of them.

#![allow(dead_code, reason = "each test takes what it needs")]

pub mod frames;
pub mod modes;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkhead_llm::{
    Bounds, Chat, Content, Dialect, Endpoint, Error, Message, Part, Request, Role, Settings,
};
use bulkhead_net::{BaseUrl, Connector, Credential, System};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

/// What the server does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes bytes.
    Send(Vec<u8>),
    /// Waits.
    Pause(u64),
    /// Says nothing more. The client's end of the connection is counted.
    Hang,
    /// Ends the connection.
    Close,
    /// Breaks the connection off.
    Reset,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Of the connection, from 0.
    pub connection: usize,
    /// Of the request, from 0, over all connections.
    pub number: usize,
    /// With the request line.
    pub head: String,
    /// JSON.
    pub body: Value,
}

impl Asked {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some((found.len() + 1, value.len()))
        };
        self.head.lines().find_map(|line| of(line).map(|(at, _)| line[at..].trim()))
    }

    /// Whether the conversation has the result of a tool.
    pub fn has_result(&self) -> bool {
        let messages = self.body["messages"].as_array();
        messages.is_some_and(|all| all.iter().any(|message| message["role"] == "tool"))
    }
}

type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

/// A scripted server. Its threads end with their connections.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    hung_up: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each request with steps. Without `Hang`, `Close` and `Reset` the connection serves the next one.
    pub fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, hung_up) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicUsize>::default());
        let script: Arc<Script> = Arc::new(script);
        let (all, gone) = (Arc::clone(&asked), Arc::clone(&hung_up));
        let served = Arc::<AtomicUsize>::default();
        let done = Arc::clone(&served);
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (script, all, gone) =
                    (Arc::clone(&script), Arc::clone(&all), Arc::clone(&gone));
                let done = Arc::clone(&done);
                let Ok(stream) = stream else { return };
                std::thread::spawn(move || serve(connection, stream, &*script, &all, &gone, &done));
            }
        });
        Self { address, asked, hung_up, served }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Waits until so many requests are answered, and all that was to be sent has arrived, an end of the connection too.
    pub async fn served(&self, wanted: usize) {
        while self.served.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // The runtime sees what is at its sockets when it has nothing else to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Connections that the client closed while the server was silent.
    pub async fn hung_up(&self, wanted: usize) {
        while self.hung_up.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn serve(
    connection: usize,
    mut stream: TcpStream,
    script: &Script,
    all: &Mutex<Vec<Asked>>,
    gone: &AtomicUsize,
    done: &AtomicUsize,
) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer) {
        let asked = {
            let mut all = all.lock();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let asked = Asked { connection, number: all.len(), head, body };
            all.push(asked.clone());
            asked
        };
        for step in script(&asked) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
                Step::Pause(ms) => std::thread::sleep(Duration::from_millis(ms)),
                Step::Hang => {
                    while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
                    gone.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Step::Close => {
                    let _ = stream.shutdown(Shutdown::Write);
                    arrives(&stream);
                    done.fetch_add(1, Ordering::SeqCst);
                    while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
                    return;
                }
                Step::Reset => {
                    reset(stream);
                    return;
                }
            }
        }
        arrives(&stream);
        done.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits until the client's side of a connection has acknowledged all that was sent, or is gone.
fn arrives(stream: &TcpStream) {
    let (Ok(here), Ok(there)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let in_table = |at: SocketAddr| {
        let SocketAddr::V4(at) = at else { panic!("{at} is not in this table") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port())
    };
    let (here, there) = (in_table(here), in_table(there));
    let waits = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        table.lines().any(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns[1..3] == [&*here, &*there] && !columns[4].starts_with("00000000:")
        })
    };
    while waits() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Closing with a linger of zero sends RST.
fn reset(stream: TcpStream) {
    // What was sent has to arrive before the reset discards it.
    arrives(&stream);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _inside = runtime.enter();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    stream.set_zero_linger().unwrap();
}

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut more = |buffer: &mut Vec<u8>| {
        let mut bytes = [0; 16 * 1024];
        let read = stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&bytes[..read]);
        Some(())
    };
    let end = loop {
        match buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break end + 4,
            None => more(buffer)?,
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let length: usize = length.unwrap_or(0);
    while buffer.len() < length {
        more(buffer)?;
    }
    Some((head, buffer.drain(..length).collect()))
}

/// The head of a chunked response.
pub fn head(status: &str, headers: &str) -> Step {
    Step::Send(format!("HTTP/1.1 {status}\r\n{headers}transfer-encoding: chunked\r\n\r\n").into())
}

/// The head of a stream of events.
pub fn ok() -> Step {
    head("200 OK", "content-type: text/event-stream\r\n")
}

/// A chunk of the body.
pub fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    if bytes.is_empty() {
        // An empty chunk would be the end.
        return Step::Send(Vec::new());
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    Step::Send(chunk)
}

/// The end of the body.
pub fn end() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

/// A whole stream of events, each in a chunk of its own.
pub fn stream(frames: &[&str]) -> Vec<Step> {
    [ok()].into_iter().chain(frames.iter().map(chunk)).chain([end()]).collect()
}

/// A whole response in one JSON document.
pub fn document(status: &str, headers: &str, body: &str) -> Vec<Step> {
    vec![head(status, &format!("content-type: application/json\r\n{headers}")), chunk(body), end()]
}

/// Bounds that nothing here comes near to.
pub const WIDE: Bounds = Bounds {
    whole: Duration::from_secs(60),
    first_byte: Duration::from_secs(30),
    attempt: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    retries: 2,
    max_wait: Duration::from_secs(10),
    max_answer_bytes: 1024 * 1024,
};

/// Silence is noticed at once, and nothing is tried again.
pub const NARROW: Bounds = Bounds {
    first_byte: Duration::from_millis(60),
    idle: Duration::from_millis(60),
    retries: 0,
    ..WIDE
};

/// An endpoint `main` at an address.
pub fn settings(address: SocketAddr, bounds: Bounds) -> Settings {
    Settings {
        name: "main".into(),
        base: BaseUrl::parse(&format!("http://{address}/v1")).unwrap(),
        dialect: Dialect::OpenAi,
        headers: Vec::new(),
        connector: Connector::default(),
        bounds,
    }
}

/// An endpoint `main` at an address, with the key `sk-test`.
pub fn endpoint(address: SocketAddr, bounds: Bounds) -> Arc<Endpoint> {
    let key = Credential::fixed("sk-test".to_owned().into());
    Arc::new(Endpoint::new(settings(address, bounds), key))
}

/// A message.
pub fn message(role: Role, text: &str) -> Message {
    let content = vec![Content::Text(text.to_owned())];
    Message { role, content, tool_calls: Vec::new(), tool_call_id: None, reasoning_state: None }
}

/// A question.
pub fn question() -> Request {
    Request {
        model: "m".into(),
        messages: vec![message(Role::User, "hi")],
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        temperature: None,
        max_tokens: None,
        extra: serde_json::Map::new(),
        headers: Default::default(),
    }
}

/// Asks.
pub fn ask(endpoint: &Arc<Endpoint>, request: Request) -> Chat {
    let deadline = Instant::now() + Duration::from_secs(60);
    endpoint.chat(request, None, deadline, Arc::new(System))
}

/// What a chat comes to, text and reasoning joined, as a line: `reasoning hm, text fine, stop 3/2`.
pub async fn outcome(chat: &mut Chat) -> String {
    let mut parts: Vec<Part> = Vec::new();
    let mut last = "nothing".to_owned();
    while let Some(next) = chat.next().await {
        match next {
            Ok(Part::Text(more)) => match parts.last_mut() {
                Some(Part::Text(text)) => text.push_str(&more),
                _ => parts.push(Part::Text(more)),
            },
            Ok(Part::Reasoning(more)) => match parts.last_mut() {
                Some(Part::Reasoning(text)) => text.push_str(&more),
                _ => parts.push(Part::Reasoning(more)),
            },
            Ok(Part::End(end)) => {
                last = format!("{:?}", end.finish).to_lowercase();
                if let Some(usage) = end.usage {
                    last += &format!(" {}/{}", usage.input, usage.output);
                }
            }
            Ok(call) => parts.push(call),
            Err(error) => last = failed(&error),
        }
    }
    assert!(chat.next().await.is_none());
    // Ids that the client made up.
    let id = |id: &str| match id.strip_prefix("call") {
        Some(rest) if rest.len() == 5 => "made-up".to_owned(),
        _ => id.to_owned(),
    };
    let words = parts.iter().map(|part| match part {
        Part::Text(text) => format!("text {text}, "),
        Part::Reasoning(text) => format!("reasoning {text}, "),
        Part::ToolCall(call) => format!("{} {}({}), ", id(&call.id), call.name, call.arguments),
        Part::End(_) => unreachable!(),
    });
    words.collect::<String>() + &last
}

/// An error as a line.
pub fn failed(error: &Error) -> String {
    match error {
        Error::Unavailable(text) => format!("unavailable {text}"),
        Error::RateLimited { retry_after, message } => {
            format!("rate limited {:?} {message}", retry_after.map(|time| time.as_millis()))
        }
        Error::Rejected { status, message } => format!("rejected {status} {message}"),
        Error::BadAnswer { message, cut_off: true } => format!("cut off {message}"),
        Error::BadAnswer { message, cut_off: false } => format!("bad answer {message}"),
        Error::Timeout(text) => format!("timeout {text}"),
    }
}

/// All bytes of several steps in one.
pub fn joined(steps: impl IntoIterator<Item = Step>) -> Step {
    let bytes = steps.into_iter().flat_map(|step| match step {
        Step::Send(bytes) => bytes,
        other => panic!("it sends nothing: {other:?}"),
    });
    Step::Send(bytes.collect())
}
