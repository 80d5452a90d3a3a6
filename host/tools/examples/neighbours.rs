//! What threads of a host feel of hostile tools: round trips between two threads, one every 4 ms for each core, quiet and
//! beside four callers that run the same tool again and again. It has no engine and no HTTP, so that what it shows is the
//! doing of launcher, sandboxes and tools.
//!
//! `cargo run --release --example neighbours -- <launcher> [rounds] [name]`, with the absolute path of `tools-test-launcher`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use bulkhead_tools::{Command, Launcher, Settings, Tools};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

const QUIET: Duration = Duration::from_secs(2);
const ATTACKED: Duration = Duration::from_secs(4);
const PERIOD: Duration = Duration::from_millis(4);
const CALLERS: usize = 4;
/// As the host's slow lane, which serves agents with such tools.
const NICE: i32 = 10;

const ATTACKS: [(&str, &[&str]); 5] = [
    ("fork", &["/bin/sh", "-c", "f()(f|f&);f"]),
    ("memory", &["/usr/bin/tail", "/dev/zero"]),
    ("spin", &["/usr/bin/sha256sum", "/dev/zero"]),
    ("flood", &["/usr/bin/yes"]),
    ("after", &["/bin/true"]),
];

fn main() {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().expect("the path of a launcher"));
    let rounds = args.next().map_or(1, |it| it.parse().expect("a number"));
    let name = args.next().unwrap_or_default();
    let command = std::process::Command::new(program);
    let launcher = Launcher::start(command, &Settings::default()).expect("a launcher");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(step_back)
        .enable_all()
        .build()
        .expect("a runtime");
    let guard = runtime.enter();
    let (tools, driver) = launcher.connect().expect("a driver");
    drop(guard);
    scope(|scope| {
        // As the host's thread that talks to the launcher.
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(driver)
        });
        for (name, words) in ATTACKS.iter().filter(|(it, _)| it.contains(&name)) {
            for _ in 0..rounds {
                measure(&runtime, &tools, name, words);
            }
        }
        drop(tools);
    });
}

fn measure(runtime: &tokio::runtime::Runtime, tools: &Tools, name: &str, words: &[&str]) {
    let quiet = watch(QUIET);
    let (over, ends) = (AtomicBool::new(false), AtomicU64::new(0));
    let attacked = scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| runtime.block_on(call(tools, words, &over, &ends)));
        }
        let attacked = watch(ATTACKED);
        over.store(true, Relaxed);
        attacked
    });
    let at = |times: &[Duration], part: usize| times[times.len() * part / 1000].as_secs_f64() * 1e6;
    let ratio = at(&attacked, 990) / at(&quiet, 990);
    println!(
        "{name}: n {}, p50 {:.0} -> {:.0} µs, p99 {:.0} -> {:.0} µs, ratio {ratio:.2}, {} tools",
        attacked.len(),
        at(&quiet, 500),
        at(&attacked, 500),
        at(&quiet, 990),
        at(&attacked, 990),
        ends.load(Relaxed),
    );
}

async fn call(tools: &Tools, words: &[&str], over: &AtomicBool, ends: &AtomicU64) {
    // This thread is not the runtime's.
    step_back();
    let mut command = Command::new(words[0]);
    command.args = words[1..].iter().map(Into::into).collect();
    command.limits.wall = Duration::from_secs(2);
    command.limits.pids = 64;
    command.limits.memory_bytes = 128 << 20;
    command.limits.output_bytes = 4 << 20;
    while !over.load(Relaxed) {
        let _ = tools.run(&command, Vec::new()).await;
        ends.fetch_add(1, Relaxed);
    }
}

fn step_back() {
    let _ = setpriority_process(Some(gettid()), NICE);
}

/// Sorted.
fn watch(time: Duration) -> Vec<Duration> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = scope(|scope| {
        let watched: Vec<_> = (0..cores).map(|_| scope.spawn(|| trips(time))).collect();
        watched.into_iter().flat_map(|it| it.join().expect("it ends")).collect::<Vec<_>>()
    });
    all.sort_unstable();
    all
}

/// Each counts from when it is due.
fn trips(time: Duration) -> Vec<Duration> {
    let (mut here, mut there) = UnixStream::pair().expect("sockets");
    let server = std::thread::spawn(move || {
        let mut byte = [0];
        while there.read(&mut byte).is_ok_and(|read| read == 1) {
            let _ = there.write_all(&byte);
        }
    });
    let (began, mut samples, mut due) = (Instant::now(), Vec::new(), Duration::ZERO);
    while due < time {
        sleep(due.saturating_sub(began.elapsed()));
        let _ = here.write_all(b"x").and_then(|()| here.read_exact(&mut [0]));
        if due > time / 10 {
            samples.push(began.elapsed().saturating_sub(due));
        }
        due += PERIOD;
    }
    drop(here);
    let _ = server.join();
    samples
}
