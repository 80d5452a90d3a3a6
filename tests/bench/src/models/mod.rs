//! What it costs that the host asks models for its agents: against a bare client that makes the same requests.

mod bare;

use std::time::{Duration, Instant};

use harness::{Host, ModelServer, Value, files, json, model_server};

use crate::connection::Connection;
use crate::process::Process;
use crate::report::{Report, Row};
use crate::row::time;
use crate::samples::Samples;

pub use bare::work;

/// From a guest's request to its first part, over what a bare client needs.
const FIRST_BUDGET: Duration = Duration::from_micros(300);

/// Agents that each read a stream, and chunks a second of each.
const STREAMS: usize = 50;
const RATE: usize = 1000;

/// CPU time of the host for a chunk, against a bare client's.
const CPU_ALLOWED: f64 = 1.5;

/// The 99th percentile of messages to an agent that is well, beside the streams.
const BESIDE_ALLOWED: f64 = 2.0;

/// How often each of two things is measured, in turn. The first round warms up.
const ROUNDS: usize = 4;

/// How long a round takes.
const SECONDS: usize = 4;

/// Between two messages to the agent that is well.
const PAUSE: Duration = Duration::from_millis(2);

pub fn measure(rounds: usize, report: &mut Report) {
    let model = model_server();
    let role = "workspace = false\nmemory_limit_mb = 16\nmodels = [\"default\"]";
    let host = Host::builder()
        .open()
        .toml("[log]\nlevel = \"info\"")
        .component("models", &files::component("models"))
        .role("models", "models", role)
        .model(&model, "")
        .start();
    let mut http = Connection::open(host.address());
    http.timed("POST", "/agents/start", r#"{"agentId":"well","role":"echo"}"#, 201);
    for n in 0..STREAMS {
        let body = format!(r#"{{"agentId":"s-{n}","role":"models"}}"#);
        http.timed("POST", "/agents/start", &body, 201);
    }
    first_part(&mut http, &model, rounds, report);
    streams(&host, &model, report);
    beside(&host, report);
    host.finish();
}

/// The guest's own clock says when it had the first part, so the message that made it ask is not in the figure.
fn first_part(http: &mut Connection, model: &ModelServer, rounds: usize, report: &mut Report) {
    let ask = |http: &mut Connection| {
        let reply = drain(http, 0, "stream-1-0");
        Duration::from_nanos(reply["firstNs"].as_u64().expect("a first part"))
    };
    ask(http);
    let mut client = bare::Client::open(again(model));
    let (mut bare, mut guest) = (Samples::new(), Samples::new());
    for round in 0..rounds + rounds / 10 {
        let (one, two) = (client.first_text(), ask(http));
        if round >= rounds / 10 {
            bare.add(one);
            guest.add(two);
        }
    }
    let base = bare.percentile(50);
    report.add(Row::plain("floor: bare hyper, first text of an answer", &bare));
    let name = "first part of an answer, by the guest's clock";
    report.add(Row::latency(name, &guest, base, base + FIRST_BUDGET));
}

/// CPU time of two processes that read the same streams, in turn.
fn streams(host: &Host, model: &ModelServer, report: &mut Report) {
    let process = Process::of(host.pid());
    // For the request.
    read_all(host, SECONDS);
    let mut bare = bare::Streams::open(again(model), STREAMS);
    let (mut chunks, mut theirs, mut ours) = (0, Duration::ZERO, Duration::ZERO);
    let (mut took, mut parts) = (Duration::ZERO, 0);
    for round in 0..ROUNDS {
        let (cpu, lines) = bare.read();
        assert!(lines >= STREAMS * SECONDS * RATE, "{lines} lines");
        let (began, before) = (Instant::now(), process.cpu());
        let taken = read_all(host, SECONDS);
        if round > 0 {
            chunks += STREAMS * SECONDS * RATE;
            theirs += cpu;
            ours += process.cpu() - before;
            took += began.elapsed();
            parts += taken;
        }
    }
    let each = |cpu: Duration| cpu.div_f64(chunks as f64);
    let rate = chunks as f64 / took.as_secs_f64();
    report.add(Row::said("chunks that 50 streams brought", chunks, format!("{rate:.0} /s")));
    report.add(Row::said("of them, in one part for the guest", parts, per_part(chunks, parts)));
    report.add(Row::said("CPU of a bare client for each", chunks, time(each(theirs))));
    let budget = each(theirs).mul_f64(CPU_ALLOWED);
    let row = Row::cost("CPU of the host for each", chunks, each(ours), budget);
    report.add(Row {
        against: format!("bare {}", time(each(theirs))),
        ratio: Some(ours.as_secs_f64() / theirs.as_secs_f64()),
        budget: format!("<= {CPU_ALLOWED} x"),
        ..row
    });
}

fn per_part(chunks: usize, parts: usize) -> String {
    format!("{:.1}", chunks as f64 / parts as f64)
}

/// Messages to an agent that is well, without and with the streams, in turn.
fn beside(host: &Host, report: &mut Report) {
    let (mut quiet, mut busy) = (Samples::new(), Samples::new());
    for round in 0..ROUNDS {
        let alone = watch(host, Duration::from_secs(SECONDS as u64));
        let with = std::thread::scope(|scope| {
            let reading = scope.spawn(|| read_all(host, SECONDS + 1));
            let with = watch(host, Duration::from_secs(SECONDS as u64));
            reading.join().expect("the streams");
            with
        });
        if round > 0 {
            quiet.extend(&alone);
            busy.extend(&with);
        }
    }
    let name = "message to an agent that is well, beside them";
    report.add(Row::beside(name, &quiet, &busy, BESIDE_ALLOWED));
}

fn watch(host: &Host, time: Duration) -> Samples {
    // A new one: the host closes those that say nothing for long.
    let mut http = Connection::open(host.address());
    let (began, mut samples) = (Instant::now(), Samples::new());
    while began.elapsed() < time {
        let path = "/agents/well/message?wait=60000";
        samples.add(http.timed("POST", path, r#"{"prompt":"x"}"#, 200));
        std::thread::sleep(PAUSE);
    }
    samples
}

/// All agents read a stream of so many seconds at the same time. Yields the parts that they took.
fn read_all(host: &Host, seconds: usize) -> usize {
    let model = format!("stream-{}-{RATE}", seconds * RATE);
    std::thread::scope(|scope| {
        let reading = |n: usize| {
            let model = &model;
            scope.spawn(move || {
                let mut http = Connection::open(host.address());
                let reply = drain(&mut http, n, model);
                assert_eq!(reply["textBytes"], seconds * RATE * 8, "{reply}");
                reply["count"].as_u64().expect("a count") as usize
            })
        };
        let readers: Vec<_> = (0..STREAMS).map(reading).collect();
        readers.into_iter().map(|reader| reader.join().expect("a stream")).sum()
    })
}

/// An agent reads an answer to its end.
fn drain(http: &mut Connection, agent: usize, model: &str) -> Value {
    let order = json!({"do": "drain", "model": model}).to_string();
    let path = format!("/agents/s-{agent}/message?wait=60000");
    http.timed("POST", &path, &json!({"prompt": order}).to_string(), 200);
    let answer: Value = serde_json::from_str(http.body()).expect("an answer in JSON");
    let reply = answer["reply"].as_str().unwrap_or_else(|| panic!("no reply: {answer}"));
    let reply: Value = serde_json::from_str(reply).expect("a reply in JSON");
    assert_eq!(reply["end"]["end"], "stop", "{reply}");
    reply
}

/// The last request of the host's.
fn again(model: &ModelServer) -> bare::Ask {
    let last = model.requests().pop().expect("the host asked");
    bare::Ask { address: model.address(), path: last.path, body: last.body.to_string() }
}
