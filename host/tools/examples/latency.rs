//! How long it takes to run `true` in the full sandbox, and what it costs at least: `floor.c` does the same in straight
//! lines. One after the other, in turn.
//!
//! `cargo run --release --example latency -- <launcher> [runs] [MiB]`, with the absolute path of `tools-test-launcher`. The
//! floor wants `cc`, root, and cgroups. With a size it measures again while this process, as a host with many agents, holds
//! so much memory.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bulkhead_tools::{Bind, Command, Launcher, Settings, Tools};

const RUNS: usize = 300;
const SOURCE: &str = include_str!("floor.c");

/// A process that makes a sandbox for each byte.
struct Floor(Child);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args_os().skip(1);
    let program = PathBuf::from(args.next().expect("the path of a launcher"));
    let runs = args.next().and_then(|it| it.to_str()?.parse().ok()).unwrap_or(RUNS);
    let megabytes = args.next().and_then(|it| it.to_str()?.parse::<usize>().ok());
    let command = std::process::Command::new(program);
    let launcher = Launcher::start(command, &Settings::default()).expect("a launcher");
    println!("{}", serde_json::to_string(launcher.layers()).expect("JSON"));
    let workspace = tempfile::tempdir().expect("a directory");
    let mut floor = Floor::start(launcher.id(), workspace.path());
    let (tools, driver) = launcher.connect().expect("a runtime");
    let measured = async {
        let (times, floors) = measure(&tools, workspace.path(), floor.as_mut(), runs).await;
        let Some(megabytes) = megabytes else { return (times, floors) };
        let held = vec![1_u8; megabytes << 20];
        let (large, _) = measure(&tools, workspace.path(), floor.as_mut(), runs).await;
        print(&format!("sandbox of a process with {} MiB", held.len() >> 20), large);
        (times, floors)
    };
    let (times, floors) = tokio::select! {
        measured = measured => measured,
        _ = driver => panic!("the launcher died"),
    };
    let median = print("sandbox", times);
    if !floors.is_empty() {
        let floor = print("floor", floors);
        println!("ratio of the medians {:.2}", median.as_secs_f64() / floor.as_secs_f64());
    }
}

async fn measure(
    tools: &Tools,
    workspace: &Path,
    mut floor: Option<&mut Floor>,
    runs: usize,
) -> (Vec<Duration>, Vec<Duration>) {
    let mut command = Command::new("/bin/true");
    let (host, inside) = (workspace.to_owned(), "/workspace".into());
    command.sandbox.binds = vec![Bind { host, inside, writable: true, limit: None }];
    let (mut times, mut floors) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    for _ in 0..runs {
        let begun = Instant::now();
        tools.run(&command, Vec::new()).await.expect("a run");
        times.push(begun.elapsed());
        // Neither pays for what the other one leaves.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if let Some(floor) = &mut floor {
            floors.push(floor.run());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    (times, floors)
}

impl Floor {
    /// In the cgroups of the launcher. `None`, and why, where there cannot be one.
    fn start(launcher: u32, workspace: &Path) -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let (source, program) = (dir.path().join("floor.c"), dir.path().join("floor"));
        fs::write(&source, SOURCE).ok()?;
        let mut cc = std::process::Command::new("cc");
        if !cc
            .args(["-O2", "-w", "-o"])
            .arg(&program)
            .arg(&source)
            .status()
            .is_ok_and(|it| it.success())
        {
            println!("no floor: cc fails");
            return None;
        }
        let mut cgroups = Vec::new();
        find(Path::new("/sys/fs/cgroup"), &format!("-{launcher}-"), &mut cgroups);
        let mut command = std::process::Command::new(program);
        command.arg(workspace).args(cgroups).stdin(Stdio::piped()).stdout(Stdio::piped());
        Some(Self(command.spawn().ok()?))
    }

    fn run(&mut self) -> Duration {
        let begun = Instant::now();
        let done = self.0.stdin.as_mut().expect("a pipe").write_all(b"x");
        let mut answer = [0];
        let done =
            done.and_then(|()| self.0.stdout.as_mut().expect("a pipe").read_exact(&mut answer));
        done.expect("the floor runs");
        begun.elapsed()
    }
}

impl Drop for Floor {
    /// It ends with its input.
    fn drop(&mut self) {
        self.0.stdin.take();
        let _ = self.0.wait();
    }
}

fn find(dir: &Path, part: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.starts_with("bulkhead-tools-") && name.contains(part) {
                found.push(entry.path());
            }
            find(&entry.path(), part, found);
        }
    }
}

fn print(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    let ms = |part| at(part).as_secs_f64() * 1000.0;
    let (p10, p50, p90, p99) = (ms(10), ms(50), ms(90), ms(99));
    println!(
        "{name}: n {}, p10 {p10:.2} ms, p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms",
        times.len()
    );
    at(50)
}
