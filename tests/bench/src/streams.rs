//! Many who follow: how late an event is with a thousand of them, what that costs, and what others notice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Host, files, json, model_server};

use crate::connection::Connection;
use crate::followers::Followers;
use crate::process::Process;
use crate::report::{Report, Row};
use crate::row::time;
use crate::samples::Samples;

/// Who follow one agent.
const FOLLOWERS: usize = 1000;

/// Between two events.
const PAUSE: Duration = Duration::from_millis(100);

/// Agents whose models speak at one time, each with one who follows.
const SPEAKERS: usize = 200;

/// So many chunks, so many a second.
const SPEECH: &str = "stream-500-100";
const WARM_UP: &str = "stream-50-100";

/// With a thousand who follow, the last but ten have an event after at most so long.
const FAN_OUT: Duration = Duration::from_millis(20);

/// As often as the host sends text of a turn to one who follows, and the part of it that there is to be.
const FRAMES_A_SECOND: f64 = 20.0;
const FRAMES_ALLOWED: f64 = 0.9;

/// Answers that have not begun after this never will.
const PATIENCE: Duration = Duration::from_secs(90);

/// The 99th percentile of messages beside it, against quiet.
const BESIDE: f64 = 2.0;

const HELLO: &str = r#"{"prompt":"hello"}"#;

pub fn measure(events: usize, report: &mut Report) {
    fan_out(events, report);
    speakers(report);
}

/// The first agent is followed, the second is well.
fn fan_out(events: usize, report: &mut Report) {
    let host = crate::host();
    let mut http = connect(host.address());
    for agent in ["followed", "well"] {
        let body = format!("{{\"agentId\":\"{agent}\",\"role\":\"echo\"}}");
        http.timed("POST", "/agents/start", &body, 201);
    }
    let quiet = messages(&host, || {
        for _ in 0..events {
            http.timed("POST", "/agents/followed/message?wait=10000", HELLO, 200);
            std::thread::sleep(PAUSE);
        }
    });
    let followers = Followers::open(host.address(), "/agents/followed/events/stream", FOLLOWERS);
    // Not the one before: the host closes those that say nothing for long.
    let mut http = connect(host.address());
    let mut event = || {
        let began = Instant::now();
        http.send("POST", "/agents/followed/message", HELLO).expect("send");
        let mut seen = followers.each_once();
        http.answered(200);
        seen.sort_unstable();
        std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
        seen.into_iter().map(|at| at.duration_since(began)).collect::<Vec<_>>()
    };
    for _ in 0..events.div_ceil(10) {
        event();
    }
    let (process, here) = (Process::of(host.pid()), Process::of(std::process::id()));
    let (mut late, mut last) = (Samples::new(), Samples::new());
    let (before, before_here) = (process.cpu(), here.cpu());
    let beside = messages(&host, || {
        for _ in 0..events {
            let after = event();
            last.add(after.last().copied().unwrap_or_default());
            after.into_iter().for_each(|after| late.add(after));
        }
    });
    let each = |cpu: Duration| time(cpu.div_f64(events as f64));
    let (cpu, cpu_here) = (each(process.cpu() - before), each(here.cpu() - before_here));
    report.add(Row::tail("an event with 1,000 who follow", &late, FAN_OUT));
    report.add(Row::plain("the same until the last has it", &last));
    let name = "CPU of the host for each such event, messages beside it included";
    report.add(Row::said(name, events, cpu));
    report.add(Row::said("CPU of those who follow and send, in this process", events, cpu_here));
    report.add(Row::beside("messages of another agent beside it", &quiet, &beside, BESIDE));
    drop(followers);
    host.finish();
}

/// Agents whose models speak at one time.
fn speakers(report: &mut Report) {
    let model = model_server();
    let host = Host::builder()
        .open()
        .toml("[limits]\nmax_agents = 1100\n[log]\nlevel = \"info\"")
        .model(&model, "")
        .component("models", &files::component("models"))
        .role("speaker", "models", "models = [\"default\"]\nworkspace = false")
        .role("echo", "echo", "memory_limit_mb = 16\nworkspace = false")
        .start();
    let mut http = connect(host.address());
    http.timed("POST", "/agents/start", r#"{"agentId":"well","role":"echo"}"#, 201);
    for n in 0..SPEAKERS {
        let body = format!("{{\"agentId\":\"s-{n}\",\"role\":\"speaker\"}}");
        http.timed("POST", "/agents/start", &body, 201);
    }
    let quiet = messages(&host, || std::thread::sleep(Duration::from_secs(5)));
    let process = Process::of(host.pid());
    speak(&host, WARM_UP);
    for followed in [false, true] {
        let followers = followed.then(|| {
            let path = |n: usize| format!("/agents/s-{n}/events/stream");
            Followers::open_each(host.address(), (0..SPEAKERS).map(path).collect())
        });
        let before = process.cpu();
        let began = Instant::now();
        let beside = messages(&host, || speak(&host, SPEECH));
        let took = began.elapsed().as_secs_f64();
        let share = (process.cpu() - before).as_secs_f64() / took;
        let (cpu, messages) = match followed {
            true => ("CPU with 200 models that speak, followed", "messages beside that"),
            false => (
                "CPU with 200 models that speak, not followed",
                "messages beside that, not followed",
            ),
        };
        report.add(Row::said(cpu, SPEAKERS, format!("{:.0} %", share * 100.0)));
        report.add(Row::beside(messages, &quiet, &beside, BESIDE));
        if let Some(followers) = followers {
            let frames = followers.deltas() as f64;
            let each = frames / SPEAKERS as f64 / took;
            let name = "frames a second for each who follows";
            report.add(Row::rate(name, SPEAKERS, each, FRAMES_A_SECOND, FRAMES_ALLOWED));
        }
    }
    host.finish();
}

/// Has the model of each agent speak, until all have said everything.
fn speak(host: &Host, model: &str) {
    let order = json!({"do": "stream", "model": model, "say": "hello"}).to_string();
    let body = json!({ "prompt": order }).to_string();
    let ask = |n: usize| {
        let mut http = connect(host.address());
        let path = format!("/agents/s-{n}/message?wait=60000");
        http.send("POST", &path, &body).expect("send");
        http
    };
    let mut all: Vec<_> = (0..SPEAKERS).map(ask).collect();
    all.iter_mut().for_each(|http| http.answered(200));
}

/// A connection on which no answer is waited for without a bound.
fn connect(address: SocketAddr) -> Connection {
    Connection::open(address).patience(PATIENCE).expect("set a timeout")
}

/// Messages to the agent that is well, every 4 ms while something else is done.
fn messages(host: &Host, work: impl FnOnce()) -> Samples {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (address, is_over) = (host.address(), &is_over);
        let asks = scope.spawn(move || {
            let mut http = connect(address);
            let mut samples = Samples::new();
            while !is_over.load(Ordering::Relaxed) {
                samples.add(http.timed("POST", "/agents/well/message?wait=10000", HELLO, 200));
                std::thread::sleep(Duration::from_millis(4));
            }
            samples
        });
        // Also when it panics: the scope waits for the thread.
        let over = Over(is_over);
        work();
        drop(over);
        asks.join().expect("messages are answered")
    })
}

/// Sets it when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
