//! Many who follow: how late an event is with a thousand of them, what that costs, and what others notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Host, files, json, model_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::connection::Connection;
use crate::process::Process;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// Who follow one agent.
const FOLLOWERS: usize = 1000;

/// Between two events.
const PAUSE: Duration = Duration::from_millis(100);

/// Agents whose models speak at one time, each with one who follows.
const SPEAKERS: usize = 200;

/// With a thousand who follow, the last but ten have an event after at most so long.
const FAN_OUT: Duration = Duration::from_millis(20);

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
    let mut http = Connection::open(host.address());
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
    let process = Process::of(host.pid());
    let (mut late, mut last) = (Samples::new(), Samples::new());
    let before = process.cpu();
    let beside = messages(&host, || {
        for _ in 0..events {
            let began = Instant::now();
            http.send("POST", "/agents/followed/message", HELLO).expect("send");
            let mut seen = followers.each_once();
            seen.sort_unstable();
            for at in &seen {
                late.add(at.duration_since(began));
            }
            last.add(seen.last().map_or(Duration::ZERO, |at| at.duration_since(began)));
            http.answered();
            std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
        }
    });
    let cpu = (process.cpu() - before).as_secs_f64() / events as f64;
    report.add(Row::tail("an event with 1,000 who follow", &late, FAN_OUT));
    report.add(Row::plain("the same until the last has it", &last));
    let each = Duration::from_secs_f64(cpu);
    let name = "CPU of the host for each such event, messages beside it included";
    let mut one = Samples::new();
    one.add(each);
    report.add(Row::plain(name, &one));
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
    let mut http = Connection::open(host.address());
    http.timed("POST", "/agents/start", r#"{"agentId":"well","role":"echo"}"#, 201);
    for n in 0..SPEAKERS {
        let body = format!("{{\"agentId\":\"s-{n}\",\"role\":\"speaker\"}}");
        http.timed("POST", "/agents/start", &body, 201);
    }
    let quiet = messages(&host, || std::thread::sleep(Duration::from_secs(5)));
    let process = Process::of(host.pid());
    let order = json!({"do": "stream", "model": "stream-500-100", "say": "hello"}).to_string();
    let body = json!({ "prompt": order }).to_string();
    for followed in [false, true] {
        let followers = followed.then(|| {
            let path = |n: usize| format!("/agents/s-{n}/events/stream");
            Followers::open_each(host.address(), (0..SPEAKERS).map(path).collect())
        });
        let mut all: Vec<_> = (0..SPEAKERS).map(|_| Connection::open(host.address())).collect();
        let before = process.cpu();
        let began = Instant::now();
        let beside = messages(&host, || {
            for (n, http) in all.iter_mut().enumerate() {
                let path = format!("/agents/s-{n}/message?wait=60000");
                http.send("POST", &path, &body).expect("send");
            }
            all.iter_mut().for_each(Connection::answered);
        });
        let share = (process.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
        let (cpu, messages) = match followed {
            true => ("CPU with 200 models that speak, followed", "messages beside that"),
            false => (
                "CPU with 200 models that speak, not followed",
                "messages beside that, not followed",
            ),
        };
        let row = Row::percent(cpu, share * 100.0, 0.0);
        report.add(Row { budget: "-".into(), met: None, ..row });
        report.add(Row::beside(messages, &quiet, &beside, BESIDE));
        if let Some(followers) = followers {
            let frames = followers.frames.load(Ordering::Relaxed) as f64;
            let each = frames / SPEAKERS as f64 / began.elapsed().as_secs_f64();
            report.add(Row::rate(
                "frames a second for each who follows",
                SPEAKERS,
                each,
                21.0,
                0.0,
            ));
        }
    }
    host.finish();
}

/// Messages to the agent that is well, every 4 ms while something else is done.
fn messages(host: &Host, work: impl FnOnce()) -> Samples {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (address, is_over) = (host.address(), &is_over);
        let asks = scope.spawn(move || {
            let mut http = Connection::open(address);
            let mut samples = Samples::new();
            while !is_over.load(Ordering::Relaxed) {
                samples.add(http.timed("POST", "/agents/well/message?wait=10000", HELLO, 200));
                std::thread::sleep(Duration::from_millis(4));
            }
            samples
        });
        work();
        is_over.store(true, Ordering::Relaxed);
        asks.join().expect("messages are answered")
    })
}

/// Connections that read a stream each, on one thread.
struct Followers {
    number: usize,
    seen: std::sync::Mutex<mpsc::Receiver<Instant>>,
    frames: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Followers {
    fn open(address: SocketAddr, path: &str, number: usize) -> Self {
        Self::open_each(address, vec![path.to_owned(); number])
    }

    fn open_each(address: SocketAddr, paths: Vec<String>) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("start tokio");
        let number = paths.len();
        let (send, seen) = mpsc::channel(1 << 16);
        let (opened, all) = std::sync::mpsc::sync_channel(number);
        let frames = Arc::new(AtomicUsize::new(0));
        for path in paths {
            let (send, opened, frames) = (send.clone(), opened.clone(), Arc::clone(&frames));
            runtime.spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("connect");
                let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
                stream.write_all(request.as_bytes()).await.expect("ask");
                let mut bytes = vec![0; 64 * 1024];
                let mut is_open = false;
                loop {
                    let Ok(read @ 1..) = stream.read(&mut bytes).await else { return };
                    let at = Instant::now();
                    let text = &bytes[..read];
                    if !is_open && find(text, b"retry:") > 0 {
                        is_open = true;
                        let _ = opened.send(());
                    }
                    frames.fetch_add(find(text, b"event: delta"), Ordering::Relaxed);
                    if find(text, b"\"agent.turn\"") > 0 {
                        let _ = send.send(at).await;
                    }
                }
            });
            // A server has a bound on connections that have not asked for anything yet.
            all.recv().expect("it is open");
        }
        Self { number, seen: std::sync::Mutex::new(seen), frames, _runtime: runtime }
    }

    /// Waits until each has seen one more turn, and says when.
    fn each_once(&self) -> Vec<Instant> {
        let mut seen = self.seen.lock().expect("nobody panicked");
        (0..self.number).map(|_| seen.blocking_recv().expect("they read")).collect()
    }
}

/// How often a word is in a text.
fn find(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| *window == word).count()
}
