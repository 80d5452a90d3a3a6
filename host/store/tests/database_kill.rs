//! A process that changes the database as fast as it can is killed at random moments, forty times
//! (`DATABASE_KILLS`), and what it acknowledged as durable is there. The file opens clean each time. Another one
//! gives numbers of incarnations as fast as it can, and no number is given by two of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_store::database::{
    AgentRow, Change, Config, Database, Found, Newest, RESERVED, Snapshot, TownKnows, Wanted,
};
use bulkhead_types::{AgentId, Incarnation, RestartState, Timestamp};
use support::launcher::spawn_bound;

const AGENTS: u64 = 4;
const DIR: &str = "DATABASE_KILL_DIR";

/// What an agent goes through, again and again.
const STEPS: u64 = 5;

/// Not a test of its own: the process that is killed runs this.
#[test]
fn writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let (database, found) = open(Path::new(&dir));
    std::thread::scope(|scope| {
        for agent in 0..AGENTS {
            let first = row(&found, agent).map_or(1, |row| row.incarnation.0 + 1);
            let database = &database;
            scope.spawn(move || work_for_ever(database, agent, first));
        }
    });
}

/// Not a test of its own either. Writes every number to stderr once it may be used.
#[test]
fn comes_back_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let (database, found) = open(Path::new(&dir));
    let first = row(&found, 0).map_or(1, |row| row.incarnation.0 + 1);
    for number in first.. {
        let incarnation = Incarnation(number);
        let change = match number {
            1 => {
                let (order, restarts) = (order(1).into(), Arc::default());
                Change::Began { incarnation, order, settings: None, restarts }
            }
            _ => Change::Returned { incarnation },
        };
        if let Some(receipt) = database.note(&id(0), change) {
            receipt.wait().unwrap();
        }
        if std::io::stderr().write_all(&number.to_le_bytes()).is_err() {
            return;
        }
    }
}

fn open(dir: &Path) -> (Database, Found) {
    let config = Config { dir: Some(PathBuf::from(dir)), ..Config::default() };
    Database::open(config, |notice| panic!("{notice:?}"))
}

fn id(agent: u64) -> AgentId {
    AgentId::parse(&format!("agent-{agent}")).unwrap()
}

fn row(found: &Found, agent: u64) -> Option<&AgentRow> {
    found.agents.iter().find(|row| row.id == id(agent))
}

/// Writes every acknowledged step to stderr, which nobody buffers: the agent, the incarnation, the step.
fn work_for_ever(database: &Database, agent: u64, first: u64) {
    for number in first.. {
        for step in 0..STEPS {
            take(database, agent, number, step);
            let acknowledged: Vec<u8> =
                [agent, number, step].iter().flat_map(|word| word.to_le_bytes()).collect();
            if std::io::stderr().write_all(&acknowledged).is_err() {
                return;
            }
        }
    }
}

fn take(database: &Database, agent: u64, number: u64, step: u64) {
    let incarnation = Incarnation(number);
    let restarts = restarts(number).into();
    let receipt = match step {
        0 => {
            let order = order(number).into();
            let restarts = Arc::default();
            database
                .change(&id(agent), Change::Began { incarnation, order, settings: None, restarts })
        }
        1 => {
            let (agent, taken_at) = (id(agent), Timestamp(0));
            let bytes: Arc<[u8]> = bytes(number).into();
            let snapshot = Snapshot { agent, incarnation, taken_at, code: None, bytes };
            database.keep_snapshot(snapshot).unwrap()
        }
        2 => {
            let settings = format!("settings {number}").into();
            database.change(&id(agent), Change::Settings { incarnation, settings })
        }
        3 => {
            let wanted = Wanted::Running;
            database.change(&id(agent), Change::Ended { incarnation, restarts, wanted })
        }
        _ => database.change(&id(agent), Change::Stopped { upto: incarnation }),
    };
    receipt.wait().unwrap();
}

/// Of all sizes, so that some lie across pages.
fn order(number: u64) -> String {
    format!("order {number} {}", "x".repeat((number * 37 % 9000) as usize))
}

fn bytes(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number * 101 % 20_000) as usize, number as u8);
    bytes
}

fn restarts(number: u64) -> RestartState {
    RestartState { streak: number as u32, ..RestartState::default() }
}

/// What a row says after a step of an incarnation.
fn after(agent: u64, number: u64, step: u64) -> AgentRow {
    let stopped = step == 4;
    let changed = (2..4).contains(&step);
    AgentRow {
        id: id(agent),
        wanted: if stopped { Wanted::Stopped } else { Wanted::Running },
        incarnation: Incarnation(number),
        order: (!stopped).then(|| order(number).into()),
        settings: changed.then(|| format!("settings {number}").into()),
        restarts: if step >= 3 { restarts(number).into() } else { Arc::default() },
        changed_at: Timestamp(0),
        town_knows: TownKnows::No,
    }
}

/// What was acknowledged of each agent: the incarnation that the process began with, and the last one with its step.
type Acknowledged = BTreeMap<u64, (u64, u64, u64)>;

/// Starts a process, kills it after so many bytes of acknowledgements, and returns those.
fn kill_one(dir: &Path, what: &str, bytes: usize, pause: Duration) -> Vec<u8> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", what, "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = spawn_bound(command).unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let mut acknowledged = vec![0; bytes];
    let read = pipe.read_exact(&mut acknowledged);
    assert!(read.is_ok(), "it ended by itself: {}", String::from_utf8_lossy(&acknowledged));
    // The moment of the kill is meant to be random: nothing waits for this time.
    std::thread::sleep(pause);
    child.kill().unwrap();
    pipe.read_to_end(&mut acknowledged).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended by itself");
    acknowledged
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().unwrap())
}

/// What was acknowledged of each agent's steps.
fn steps_of(acknowledged: &[u8]) -> Acknowledged {
    let mut last = Acknowledged::new();
    for line in acknowledged.as_chunks::<24>().0 {
        let (agent, number, step) = (word(line), word(&line[8..]), word(&line[16..]));
        let (_, last_number, last_step) = last.entry(agent).or_insert((number, number, step));
        (*last_number, *last_step) = (number, step);
    }
    last
}

fn check(dir: &Path, acknowledged: &Acknowledged) {
    let (database, found) = open(dir);
    for (agent, (first, number, step)) in acknowledged {
        let mut row = row(&found, *agent).expect("it was acknowledged").clone();
        row.changed_at = Timestamp(0);
        row.incarnation.0 -= RESERVED;
        let next = match step + 1 {
            STEPS => after(*agent, number + 1, 0),
            step => after(*agent, *number, step),
        };
        let last = after(*agent, *number, *step);
        assert!(row == last || row == next, "{row:?} is neither {last:?} nor {next:?}");
        let Newest::Kept(kept) = database.newest_snapshot(&id(*agent)).unwrap() else {
            assert!(*number == 1 && *step == 0, "agent {agent} has no snapshot");
            continue;
        };
        let incarnation = kept.snapshot.incarnation.0;
        // The incarnation before the first one was interrupted by the kill before, perhaps ahead of its snapshot.
        let least = match step {
            0 if number == first => 0,
            0 => number - 1,
            _ => *number,
        };
        assert!(incarnation >= least, "{incarnation} of {number}, step {step}");
        assert!(*kept.snapshot.bytes == *bytes(incarnation), "a torn snapshot was believed");
    }
}

/// Calls `kill` as often as is asked for, with dice whose seed is printed.
fn again_and_again(mut kill: impl FnMut(&mut fastrand::Rng)) {
    let kills = std::env::var("DATABASE_KILLS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("DATABASE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("DATABASE_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    (0..kills.unwrap_or(40)).for_each(|_| kill(&mut dice));
}

#[test]
fn what_was_acknowledged_as_durable_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    again_and_again(|dice| {
        let (bytes, pause) = (24 * dice.usize(1..400), Duration::from_micros(dice.u64(0..3000)));
        let acknowledged = kill_one(dir.path(), "writes_until_it_is_killed", bytes, pause);
        check(dir.path(), &steps_of(&acknowledged));
    });
}

#[test]
fn no_number_is_given_by_two_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut highest = 0;
    again_and_again(|dice| {
        let (bytes, pause) = (8 * dice.usize(1..2000), Duration::from_micros(dice.u64(0..300)));
        let acknowledged = kill_one(dir.path(), "comes_back_until_it_is_killed", bytes, pause);
        let numbers: Vec<_> =
            acknowledged.as_chunks::<8>().0.iter().map(|bytes| word(bytes)).collect();
        assert!(numbers[0] > highest, "{} was given before, as was {highest}", numbers[0]);
        assert!(numbers[0] <= highest + 2 * RESERVED + 1, "{} after {highest}", numbers[0]);
        assert!(numbers.is_sorted_by(|before, after| before + 1 == *after));
        highest = numbers[numbers.len() - 1];
    });
}
