//! Leases and shipping on machines: three network namespaces with addresses, disks and clocks of their own, an engine in a
//! fourth one, and whatever befalls them, by a seed.
//!
//! ```text
//!   test ─▶ a process for each seed, in a network and a mount namespace of its own
//!             └─▶ engine (etcd or NATS, bucket), clients, three machines ─▶ init, keeper, supervisor each
//! ```
//!
//! - `network`: namespaces, cables, cuts
//! - `engine`: etcd or NATS, and the bucket
//! - `machine`: a copy of the town, and its orchestrator
//! - `schedule`: what befalls them
//! - `line`, `client`: what is asked of the town
//! - `check`: what must hold
//! - `world`: one seed
//!
//! Everything is gone with the processes, also when they are killed: namespaces have no names, files lie in a `tmpfs` of the
//! mount namespace, and the kernel kills the children of a process that is killed.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Need, launcher, seeds, skip};
use parking_lot::Mutex;

mod check;
mod client;
mod engine;
mod line;
mod machine;
mod network;
mod schedule;
mod world;

use engine::Register;

/// The shortest there is.
const TTL_MS: u64 = 2000;

const MACHINES: usize = 3;

/// How long a start or stop may take that waits to be shipped.
const PATIENT: Duration = Duration::from_millis(2500);

/// Those of `just test`.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// What runs beside each other. Each waits most of the time.
const JOBS: usize = 4;

/// The test below, run by the one above it.
const INNER: &str = "machines::in_namespaces_of_its_own";

/// Whether it can be had: a bridge, cables that can be cut, a place for files.
const PROBE: &str = "ip link add bridge0 type bridge && ip link add cable0 type veth peer name cable1 && \
     tc qdisc add dev cable0 root blackhole && mount -t tmpfs none \"$0\"";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Whether worlds can be made here.
fn is_possible() -> bool {
    let dir = std::env::temp_dir();
    let mut probe = Command::new("unshare");
    let probe = probe.args(["--net", "--mount", "sh", "-c", PROBE]).arg(dir).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        let what = "a network namespace with a bridge and cables that can be cut, which takes root, unshare, ip and tc";
        skip(Need::Netns, what);
        return false;
    }
    if let Err(why) = harness::wall_clock::WallClock::new() {
        skip(Need::Cc, &why);
        return false;
    }
    true
}

/// Runs the test below in namespaces of its own. What it printed, if it failed.
fn play_apart(seed: u64, register: Register) -> Result<String, String> {
    let this = std::env::current_exe().expect("path of this test");
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "sh", "-c", "mount -t tmpfs none \"$0\" && exec \"$@\""])
        .arg(std::env::temp_dir())
        .arg(this)
        .args(["--exact", INNER, "--ignored", "--nocapture"])
        .env("MACHINES_INNER", seed.to_string())
        .env("MACHINES_REGISTER", format!("{register:?}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = launcher::spawn_bound(command).expect("run a seed");
    let ended = child.wait_with_output().expect("its end");
    let text = [ended.stdout, ended.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    match ended.status.success() && text.contains("1 passed") {
        true => Ok(text),
        false => Err(text),
    }
}

/// Random blows: `MACHINES_SEEDS` of them instead of those of `just test`, or `MACHINES_SEED` alone.
#[test]
fn at_most_one_machine_serves_and_nothing_acknowledged_is_lost() {
    if !is_possible() {
        return;
    }
    let seeds: Vec<u64> = match (number("MACHINES_SEED"), number("MACHINES_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(many)) => {
            let first = u64::from(fastrand::u32(..));
            (first..first + many).collect()
        }
        (None, None) => SEEDS.to_vec(),
    };
    let has_etcd = has("etcd");
    if !has_etcd {
        skip(Need::Etcd, "etcd; leases are in the bucket instead");
    }
    let has_nats = has("nats-server");
    if !has_nats {
        skip(Need::Nats, "nats-server; leases are in the bucket instead");
    }
    // Before many of them want it.
    seeds::guests();
    let jobs = number("MACHINES_JOBS").map_or(JOBS, |jobs| jobs as usize);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let register = match seed % 3 {
                        1 if has_etcd => Register::Etcd,
                        2 if has_nats => Register::Nats,
                        _ => Register::Bucket,
                    };
                    match play_apart(*seed, register) {
                        Ok(text) => {
                            let line = text.lines().find(|line| line.starts_with("MACHINES_SEED="));
                            println!("{}", line.unwrap_or_default());
                        }
                        Err(text) => {
                            println!("seed {seed} failed, by itself: MACHINES_SEED={seed}\n{text}");
                            failed.lock().push(*seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{} of {} seeds failed: {failed:?}", failed.len(), seeds.len());
}

#[test]
#[ignore = "the test above runs it, in namespaces"]
fn in_namespaces_of_its_own() {
    let Some(seed) = number("MACHINES_INNER") else { return };
    let register = match std::env::var("MACHINES_REGISTER").as_deref() {
        Ok("Etcd") => Register::Etcd,
        Ok("Nats") => Register::Nats,
        _ => Register::Bucket,
    };
    world::play(seed, register, std::env::var("MOTO").ok().as_deref());
}
