//! What the database costs: `cargo run --release -p bulkhead-store --example store_figures`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_store::database::{Change, Config, Database};
use bulkhead_types::event::AgentTag;
use bulkhead_types::{
    AgentId, CrashRecord, Exit, ExitReason, Frame, Incarnation, Phase, Symbolized, Timestamp,
};

fn main() -> Result<(), std::io::Error> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "/tmp".into());
    let dir = tempfile::tempdir_in(dir)?;
    writes(dir.path(), 1, 20_000);
    writes(dir.path(), 64, 500);
    crashes(dir.path());
    hydration(dir.path());
    Ok(())
}

fn open(dir: &Path, name: &str) -> (Database, bulkhead_store::database::Found) {
    let config = Config { dir: Some(dir.join(name)), ..Config::default() };
    Database::open(config, |notice| println!("{notice:?}"))
}

fn id(n: usize) -> AgentId {
    AgentId::parse(&format!("agent-{n}")).expect("it is an id")
}

fn began(incarnation: u64) -> Change {
    let order = format!("{{\"role\":\"polecat\",\"prompt\":\"{}\"}}", "x".repeat(500));
    let restarts = Arc::default();
    let incarnation = Incarnation(incarnation);
    Change::Began { incarnation, order: order.into(), settings: None, restarts }
}

fn writes(dir: &Path, writers: usize, each: usize) {
    let (database, _) = open(dir, &format!("writes-{writers}"));
    let began_at = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let database = &database;
                scope.spawn(move || {
                    let one = |n: usize| {
                        let began_at = Instant::now();
                        let wrote = database.change(&id(writer), began(n as u64 + 1)).wait();
                        wrote.expect("it is durable");
                        began_at.elapsed()
                    };
                    (0..each).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a writer")).collect()
    });
    let took = began_at.elapsed();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let rate = times.len() as f64 / took.as_secs_f64();
    println!(
        "acknowledged writes, {writers} at once: p50 {:?}, p99 {:?}, worst {:?}, {rate:.0} a second",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn crashes(dir: &Path) {
    let (database, _) = open(dir, "crashes");
    let (seconds, mut queued) = (10, 0_u64);
    let began_at = Instant::now();
    while began_at.elapsed() < Duration::from_secs(seconds) {
        let before = database.counts();
        for _ in 0..500 {
            database.keep_crash(Arc::new(crash(queued)));
            queued += 1;
        }
        // A little less than the queue holds is under way.
        while queued - before.crashes_written - before.crashes_dropped > 3000
            && queued - database.counts().crashes_written - database.counts().crashes_dropped > 3000
        {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    database.flush(Duration::from_secs(30));
    let (took, counts) = (began_at.elapsed(), database.counts());
    let rate = counts.crashes_written as f64 / took.as_secs_f64();
    println!("crash records: {rate:.0} a second over {took:.1?}, {counts:?}");
}

fn hydration(dir: &Path) {
    let (database, _) = open(dir, "hydration");
    (0..1000).for_each(|n| _ = database.note(&id(n), began(1)));
    (0..1000).for_each(|n| database.keep_crash(Arc::new(crash(n))));
    database.receipt().wait().expect("it is durable");
    drop(database);
    let began_at = Instant::now();
    let (_database, found) = open(dir, "hydration");
    println!(
        "open with {} agents and {} crash records: {:?}",
        found.agents.len(),
        found.crashes.len(),
        began_at.elapsed()
    );
}

/// As large as they are: twelve frames, twenty lines.
fn crash(n: u64) -> CrashRecord {
    let frame = |index: usize| Frame {
        index,
        function: Some(format!("mayor::module::function_{index}")),
        module: Some("mayor.wasm".into()),
        function_index: index as u32,
        module_offset: Some(1000),
        ..Frame::default()
    };
    let agent = AgentTag {
        agent_id: id((n % 100) as usize),
        role: "mayor".into(),
        incarnation: Incarnation(n),
    };
    let message = "panicked at src/lib.rs:12:18: it went wrong";
    let exit = Exit::new(ExitReason::Panic, Phase::Handle, message);
    let (crash_id, at) =
        (format!("0190b5c2-7a1e-7c55-9d3e-{n:012x}"), Timestamp(4_000_000_000_000));
    CrashRecord {
        fingerprint: format!("{:016x}", n % 7),
        frames: (0..12).map(frame).collect(),
        symbolized: Symbolized::Pending,
        last_log_lines: (0..20).map(|n| format!("a line of the log, number {n}")).collect(),
        ..CrashRecord::new(crash_id, agent, &exit, at)
    }
}
