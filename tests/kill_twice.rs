//! The host is killed, and then again while it boots, at random moments: each end is reported, by its own name.
//!
//! `KILL_TWICE_ROUNDS` makes it longer, `KILL_TWICE_SEED` repeats the moments.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, Instant};

use harness::host::command;
use harness::memory_group::no_kills;
use harness::{Host, HostBuilder, Value, processes, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Rounds when nothing else is said: a few seconds.
const ROUNDS: usize = 6;

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// The dice and the number of rounds, which a failed test prints.
fn dice() -> (fastrand::Rng, usize) {
    let seed = from_env("KILL_TWICE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = from_env("KILL_TWICE_ROUNDS").unwrap_or(ROUNDS);
    println!("KILL_TWICE_SEED={seed} KILL_TWICE_ROUNDS={rounds}");
    (fastrand::Rng::with_seed(seed), rounds)
}

fn builder() -> HostBuilder {
    Host::builder().guest("puppet").toml("[limits]\nshutdown_ms = 2000")
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("kill it");
}

/// Some moment of a boot that takes so long.
fn moment(dice: &mut fastrand::Rng, boot: Duration) -> Duration {
    boot.mul_f64(dice.f64() * 1.1)
}

fn run_id(line: &Value) -> String {
    line["previousRunId"].as_str().unwrap_or("none").to_owned()
}

/// The ends that a line reports: that of the run right before, and those that nobody reported.
fn ends(line: &Value) -> Vec<Value> {
    let earlier = line["earlier"].as_array().cloned().unwrap_or_default();
    earlier.into_iter().chain([line.clone()]).collect()
}

#[test]
fn init_names_every_kill_around_a_boot() {
    let _quiet = no_kills();
    let (mut dice, rounds) = dice();
    // No death is in a window with another one: each restart comes at once.
    let began = Instant::now();
    let host = builder().supervise().args(&["--restart-window-ms", "1"]).start().ready();
    let boot = began.elapsed();
    let init = Pid::from_raw(host.pid().cast_signed()).expect("an id");
    let child = || processes::children(init).first().copied();
    let (mut kills, mut last) = (0, Some(host.supervisor_pid()));
    for _ in 0..rounds {
        // Once while it works, and up to three times while it boots.
        kill(last.expect("a supervisor"));
        kills += 1;
        for _ in 0..dice.usize(1..=3) {
            wait_until("there is another supervisor", || {
                child().is_some_and(|it| Some(it) != last)
            });
            last = child();
            // The moment of the kill is meant to be random: nothing waits for this time.
            std::thread::sleep(moment(&mut dice, boot));
            kill(last.expect("a supervisor"));
            kills += 1;
        }
        wait_until("there is another supervisor", || child().is_some_and(|it| Some(it) != last));
        last = child();
        let ready = || host.supervisor_pid() == last.expect("a supervisor");
        wait_until("it has a line", ready);
        host.wait_until_ready();
    }
    let reported: Vec<_> =
        host.events_named("container.previous_run")[1..].iter().flat_map(ends).collect();
    for line in &reported {
        assert_eq!(line["cause"], "external_sigkill", "{line:#}");
        assert_eq!(line["signal"], 9, "{line:#}");
    }
    let ends: BTreeSet<_> = reported.iter().map(run_id).collect();
    assert_eq!(ends.len(), kills, "every kill is reported, and nothing else");
    let begun = host.events_named("container.cold_start");
    for run in begun.iter().rev().skip(1).map(|line| line["runId"].as_str().unwrap_or_default()) {
        assert!(ends.contains(run), "{run} began, was killed, and is forgotten: {ends:?}");
    }
    host.finish();
}

#[test]
fn alone_a_kill_around_a_boot_gets_no_wrong_name() {
    let _quiet = no_kills();
    let (mut dice, rounds) = dice();
    let began = Instant::now();
    let mut host = builder().start().ready();
    let boot = began.elapsed();
    for _ in 0..rounds {
        let first = host.lines()[0]["runId"].as_str().expect("a name").to_owned();
        let expected = if dice.bool() {
            "unknown"
        } else {
            host.client().start("a", "puppet");
            host.client().send("a", "wait long").expect(200);
            wait_until("it is busy", || host.client().status("a").busy);
            host.signal(Signal::TERM);
            host.wait_for_line("the drain", |line| line["event"] == "container.draining");
            "orchestrator_stop"
        };
        host.signal(Signal::KILL);
        host.wait();
        let mut reported = Vec::new();
        for _ in 0..dice.usize(1..=3) {
            reported.extend(boot_and_kill(&host, moment(&mut dice, boot)));
        }
        host = host.restart().ready();
        host.wait_for_number(&["container.previous_run"], 1);
        if host.client().find("a").is_some() {
            host.client().stop("a").expect(200);
        }
        reported.extend(host.events_named("container.previous_run").iter().flat_map(ends));
        assert!(
            reported.iter().any(|line| run_id(line) == first),
            "{first} is forgotten: {reported:#?}"
        );
        for line in &reported {
            let expected = if run_id(line) == first { expected } else { "unknown" };
            assert_eq!(line["cause"], expected, "{line:#}");
        }
        let summary = &host.lines()[0]["previousRun"];
        let newest = &host.events_named("container.previous_run")[0];
        assert_eq!(summary["runId"], newest["previousRunId"], "{newest:#}");
    }
    host.finish();
}

/// Starts the host, kills it a while later, and returns what it said of earlier runs.
fn boot_and_kill(host: &Host, after: Duration) -> Vec<Value> {
    let mut child =
        command(&host.dir().join("bulkhead.toml"), host.dir()).spawn().expect("start it");
    // The moment of the kill is meant to be random: nothing waits for this time.
    std::thread::sleep(after);
    child.kill().expect("kill it");
    let mut text = Vec::new();
    let mut stdout = child.stdout.take().expect("stdout is a pipe");
    stdout.read_to_end(&mut text).expect("read its lines");
    child.wait().expect("wait for it");
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["event"] == "container.previous_run")
        .flat_map(|line| ends(&line))
        .collect()
}
