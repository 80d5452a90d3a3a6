//! What spans cost: where nobody asked for any, and where a collector takes them.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bulkhead_telemetry::{CurrentTurn, TurnSpan};
use harness::Host;

use crate::connection::Connection;
use crate::report::{Base, Report, Row};
use crate::samples::Samples;

/// Turns without telemetry that are timed together, and how often.
const TURNS: u32 = 1000;
const BATCHES: usize = 1000;

/// What a turn may cost that nobody records.
const OFF_BUDGET: Duration = Duration::from_nanos(100);

/// A message with spans, against one without.
const ON_ALLOWED: f64 = 1.2;

pub fn measure(rounds: usize, report: &mut Report) {
    let name = "a turn's spans when telemetry is off";
    report.add(Row::nanos(name, BATCHES * TURNS as usize, &off(), OFF_BUDGET));
    let collector = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", collector());
    let builder = || Host::builder().open().toml("[log]\nlevel = \"info\"");
    let hosts = [builder().start(), builder().run_by(&["env", &collector]).start()];
    let mut clients = hosts.each_ref().map(|host| Connection::open(host.address()));
    for http in &mut clients {
        http.timed("POST", "/agents/start", r#"{"agentId":"a","role":"echo"}"#, 201);
    }
    let mut samples: [Samples; 2] = Default::default();
    for round in 0..rounds + rounds / 10 {
        for (http, samples) in clients.iter_mut().zip(&mut samples) {
            let path = "/agents/a/message?wait=60000";
            let took = http.timed("POST", path, r#"{"prompt":"hello"}"#, 200);
            if round >= rounds / 10 {
                samples.add(took);
            }
        }
    }
    let [without, with] = &samples;
    report.add(Row::plain("message without a collector", without));
    let base = Base { name: "without", value: without.percentile(50) };
    report.add(Row::times("message with a collector", with, base, ON_ALLOWED));
    hosts.into_iter().for_each(|host| drop(host.finish()));
}

/// What a turn does for its spans when there are none.
fn off() -> Samples {
    let (mut samples, current) = (Samples::new(), CurrentTurn::default());
    for _ in 0..BATCHES {
        let began = Instant::now();
        for _ in 0..TURNS {
            let turn = black_box(TurnSpan::default());
            current.set(turn.scope());
            black_box(current.get().trace_context());
            turn.returned("idle");
        }
        samples.add(began.elapsed() / TURNS);
    }
    samples
}

/// Takes what is exported. It ends with this process.
fn collector() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || take(stream));
        }
    });
    address
}

/// Until the host hangs up.
fn take(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).ok()? > 0 && !line.trim_end().is_empty() {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}
