//! A process that appends as fast as it can is killed at random moments, about a hundred times
//! (`BLACKBOX_KILLS`), and what it acknowledged as written is there.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::previous::{Observations, WaitStatus, judge};
use bulkhead_blackbox::{BlackBox, Geometry, Kind, Previous, Run, Work};
use bulkhead_types::Cause;
use bulkhead_types::previous::RunState;
use support::launcher::spawn_bound;

/// Small, so that the rings go round many times before the end.
const GEOMETRY: Geometry = Geometry { in_flight: 4, container: 16, agents: 64 };

const THREADS: u64 = 2;
const DIR: &str = "BLACKBOX_KILL_DIR";
const RUN: &str = "BLACKBOX_KILL_RUN";

/// Not a test of its own: the process that is killed runs this.
#[test]
fn writes_until_it_is_killed() {
    let (Ok(dir), Ok(run_id)) = (std::env::var(DIR), std::env::var(RUN)) else { return };
    let run = Run { run_id, pid: std::process::id(), ..Run::default() };
    let blackbox = blackbox::open(Path::new(&dir), &run, GEOMETRY).blackbox.unwrap();
    blackbox.reached(RunState::Hydrated).unwrap();
    std::thread::scope(|scope| {
        (0..THREADS).for_each(|_| drop(scope.spawn(|| write_for_ever(&blackbox))));
    });
}

/// Eight bytes on stderr, which nobody buffers and the test runner leaves alone, for each record.
fn write_for_ever(blackbox: &BlackBox) {
    let at_hand = blackbox.in_flight();
    for n in 0.. {
        let kind = if n % 8 == 0 { Kind::Draining } else { Kind::AgentExit };
        let _marker = at_hand.begin(&work(n));
        let seq = blackbox.append(kind, &payload(n)).expect("a slot");
        if std::io::stderr().write_all(&seq.to_le_bytes()).is_err() {
            return;
        }
    }
}

/// A number, and as many times a byte that follows from it as follow from it.
fn payload(n: u64) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(8 + (n.wrapping_mul(37) % 480) as usize, n as u8);
    payload
}

fn work(n: u64) -> Work<'static> {
    Work {
        agent_id: format!("agent-{n}").into(),
        incarnation: n,
        phase: "handle".into(),
        message_id: None,
    }
}

/// Starts a writer, kills it after it wrote about `records`, and returns what it acknowledged as written.
fn kill_one(
    dir: &Path,
    run_id: &str,
    records: usize,
    pause: Duration,
) -> (BTreeSet<u64>, WaitStatus) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
        .env(DIR, dir)
        .env(RUN, run_id)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = spawn_bound(command).unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let mut acknowledged = vec![0; 8 * (records + 1)];
    pipe.read_exact(&mut acknowledged).unwrap();
    // The moment of the kill is meant to be random: nothing waits for this time.
    std::thread::sleep(pause);
    child.kill().unwrap();
    pipe.read_to_end(&mut acknowledged).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "it ended by itself");
    let seqs =
        acknowledged.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    (seqs, WaitStatus::of(status).unwrap())
}

fn check(left: &Previous, acknowledged: &BTreeSet<u64>, run_id: &str) {
    assert_eq!((left.run.run_id.as_str(), left.state()), (run_id, Some(RunState::Hydrated)));
    let found: BTreeSet<u64> = left.records.iter().map(|record| record.seq).collect();
    let last = acknowledged.last().unwrap();
    assert!(found.contains(last), "record {last} was acknowledged; {found:?}");
    // Of the latest records none is missing but those that were being written.
    let recent = last.saturating_sub(u64::from(GEOMETRY.container));
    let missing: Vec<_> =
        acknowledged.range(recent + 1..).filter(|seq| !found.contains(seq)).collect();
    assert!(missing.is_empty(), "{missing:?} of {found:?}");
    for record in &left.records {
        let n = u64::from_le_bytes(*record.payload.first_chunk().unwrap());
        assert_eq!(record.payload, payload(n), "a torn record was believed");
    }
    for known in &left.in_flight {
        let work = work(known.incarnation);
        assert_eq!(known.agent_id, work.agent_id, "a torn marker was believed");
        assert_eq!((&*known.phase, &known.message_id), ("handle", &None));
        assert!(known.since >= left.run.started_at());
    }
    assert!(left.in_flight.len() as u64 <= THREADS);
    assert!(u64::from(left.torn) <= 2 * THREADS, "{} torn", left.torn);
    assert_eq!(left.missing, 0);
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let kills = std::env::var("BLACKBOX_KILLS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("BLACKBOX_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("BLACKBOX_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let (mut records, mut torn) = (0, 0);
    for n in 0..kills.unwrap_or(100) {
        let run_id = format!("run-{n}");
        let pause = Duration::from_micros(dice.u64(0..500));
        let (acknowledged, status) = kill_one(dir.path(), &run_id, dice.usize(0..2000), pause);
        let found = blackbox::read(dir.path());
        let left = found.run().expect("it parses");
        check(left, &acknowledged, &run_id);
        let now = Observations { wait: Some(status), ..Observations::default() };
        assert_eq!(judge(left, &now).cause, Cause::ExternalSigkill);
        records += acknowledged.len();
        torn += left.torn;
    }
    println!("{records} records were acknowledged, {torn} slots were torn");
}
