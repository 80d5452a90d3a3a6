//! How soon the record of a crash is at the sink of the evidence, which is a server of this process: from the message that
//! makes an agent crash to the document that has its record, read to its end.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::Host;
use parking_lot::{Condvar, Mutex};

use crate::connection::Connection;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// At the 99th percentile.
const BUDGET: Duration = Duration::from_secs(1);

/// Agents that crash at about the same time.
const STORM: usize = 200;

/// An agent that is not at the sink by then counts as if it came then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps nothing but when an agent was first in a document with crash records.
#[derive(Default)]
struct Arrivals {
    /// `None`: it is waited for.
    seen: Mutex<HashMap<String, Option<Instant>>>,
    changed: Condvar,
}

pub fn measure(rounds: usize, report: &mut Report) {
    let (arrivals, address) = sink();
    // Nothing but crashes is sent meanwhile.
    let settings = format!(
        "[limits]\nmax_agents = 300\n[log]\nlevel = \"info\"\n[evidence]\nsink = \"http://{address}\"\nname = \"bench\"\n\
         heartbeat_ms = 60000"
    );
    let role = "restart = \"temporary\"\nworkspace = false";
    let host = Host::builder().open().guest("trap").role("once", "trap", role).toml(&settings);
    let host = host.start();
    let mut http = Connection::open(host.address());
    let mut alone = Samples::new();
    for round in 0..rounds + rounds / 10 {
        let agent = format!("one-{round}");
        begin(&mut http, &arrivals, &agent);
        let sent = Instant::now();
        let path = format!("/agents/{agent}/message?wait=10000");
        http.timed("POST", &path, r#"{"prompt":"panic"}"#, 502);
        let took = arrivals.of(&agent, sent) - sent;
        if round >= rounds / 10 {
            alone.add(took);
        }
    }
    report.add(Row::tail("crash record at the sink, tail", &alone, BUDGET));

    let agents: Vec<_> = (0..STORM).map(|n| format!("many-{n}")).collect();
    agents.iter().for_each(|agent| begin(&mut http, &arrivals, agent));
    let sent = agents.iter().map(|agent| {
        let sent = Instant::now();
        http.timed("POST", &format!("/agents/{agent}/message"), r#"{"prompt":"panic"}"#, 202);
        (agent, sent)
    });
    let sent: Vec<_> = sent.collect();
    let mut many = Samples::new();
    for (agent, sent) in sent {
        many.add(arrivals.of(agent, sent) - sent);
    }
    report.add(Row::tail("the same, 200 agents at once, tail", &many, BUDGET));
    host.finish();
}

fn begin(http: &mut Connection, arrivals: &Arrivals, agent: &str) {
    let body = format!("{{\"agentId\":\"{agent}\",\"role\":\"once\"}}");
    http.timed("POST", "/agents/start", &body, 201);
    arrivals.seen.lock().insert(agent.to_owned(), None);
}

impl Arrivals {
    /// When it came, or the end of the patience with it.
    fn of(&self, agent: &str, sent: Instant) -> Instant {
        let is_missing = |seen: &mut HashMap<String, Option<Instant>>| {
            seen.get(agent).is_some_and(Option::is_none)
        };
        let left = PATIENCE.saturating_sub(sent.elapsed());
        let mut seen = self.seen.lock();
        self.changed.wait_while_for(&mut seen, is_missing, left);
        seen.remove(agent).flatten().unwrap_or(sent + PATIENCE)
    }

    fn came(&self, document: &str) {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        for (agent, at) in seen.iter_mut().filter(|(_, at)| at.is_none()) {
            if document.contains(&format!("{agent:?}")) {
                *at = Some(now);
            }
        }
        self.changed.notify_all();
    }
}

/// A server that takes all documents and has none. It goes with this process.
fn sink() -> (Arc<Arrivals>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let arrivals = Arc::new(Arrivals::default());
    let of_server = Arc::clone(&arrivals);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let arrivals = Arc::clone(&of_server);
            std::thread::spawn(move || serve(stream, &arrivals));
        }
    });
    (arrivals, address)
}

/// Answers requests until the connection is closed.
fn serve(stream: TcpStream, arrivals: &Arrivals) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let status = if head.starts_with("PUT ") { "204 No Content" } else { "404 Not Found" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        reader.get_mut().write_all(answer.as_bytes())?;
        if head.contains("crashes") {
            arrivals.came(&String::from_utf8_lossy(&body));
        }
    }
}
