//! What the leases of 1,000 towns ask of their register, and what shipping asks of its bucket.
//!
//! ```text
//!   1,000 holders ─┐
//!                  ├─▶ proxy that counts bytes ─▶ etcd, nats-server, or the bucket of the tests
//!   1,000 waiting ─┘
//! ```
//!
//! Each copy has a client of its own, as in a process of its own. Requests are those that the server counts.

mod engine;
mod holders;
mod proxy;
mod shipping;

use std::time::{Duration, Instant};

use bulkhead_types::error::chain;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::process::Process;
use crate::report::{Report, Row};
use crate::samples::Samples;
use engine::{Engine, Served, Sync};
use holders::{Towns, Wrong, renewed_every};
use proxy::{Passed, Proxy};

const TOWNS: usize = 1000;

/// The default, and a longer one.
const TTLS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// Whole periods of renewal for both, so that it does not matter where in it a town is.
const WINDOW: Duration = Duration::from_secs(18);

/// Towns begin one after the other, as machines do.
const RAMP: Duration = Duration::from_secs(4);

/// A renewal is given up after a tenth of the TTL, so this is far from harm.
const RENEWAL_BUDGET: Duration = Duration::from_millis(100);

/// What was counted in the window.
struct Counted {
    took: Duration,
    writes: u64,
    reads: u64,
    to: u64,
    from: u64,
    connections: u64,
    kept: i64,
    resident: Option<u64>,
    cpu: Option<Duration>,
    own_cpu: Duration,
    renewals: Samples,
    wrong: Wrong,
    released: u64,
}

/// At one moment.
struct Moment {
    at: Instant,
    served: Served,
    passed: Passed,
    cpu: Option<Duration>,
    own_cpu: Duration,
}

pub fn measure(report: &mut Report) {
    for (missing, start) in [
        ("etcd is not installed", Engine::etcd as fn() -> Option<Engine>),
        ("nats-server is not installed", || Engine::nats(Sync::Later)),
        ("no nats-server that knows `sync_interval` (2.10)", || Engine::nats(Sync::Always)),
        ("", || Some(Engine::bucket())),
    ] {
        let Some(engine) = start() else {
            report.note(format!("{missing}: not measured"));
            continue;
        };
        for ttl in TTLS {
            match leases(&engine, ttl) {
                Ok(counted) => rows(&engine, ttl, &counted, report),
                Err(why) => report.add(broken(&engine, ttl, &why)),
            }
        }
        if engine.process().is_none() {
            report.note("S3 is the bucket of the tests, in this process: its CPU says nothing of a bucket that people use");
        }
    }
    shipping::measure(report);
}

/// Why not: what broke.
fn leases(engine: &Engine, ttl: Duration) -> Result<Counted, String> {
    let proxy = Proxy::start(engine.at()).map_err(|error| chain(&error))?;
    let register = engine.register(proxy.at);
    let runtime = Runtime::new().map_err(|error| chain(&error))?;
    runtime.block_on(async {
        let round = format!("ttl-{}", ttl.as_secs());
        let mut towns = Towns::new(TOWNS, &round, &register, ttl);
        let patience = Duration::from_secs(20);
        towns.hold(RAMP).await;
        if !towns.until_there(1, patience).await {
            return Err(format!("not every town has a holder: {:?}", towns.wrong()));
        }
        towns.wait(RAMP).await;
        if !towns.until_there(2, patience).await {
            return Err(format!("not every town has a copy that waits: {:?}", towns.wrong()));
        }
        sleep(Duration::from_secs(1)).await;
        towns.forget();
        let before = Moment::now(engine, &proxy);
        sleep(WINDOW).await;
        let after = Moment::now(engine, &proxy);
        let renewals = towns.taken_renewals();
        let resident = engine.process().map(|process| process.resident_bytes());
        // What went wrong before the window counts as well.
        let wrong = towns.wrong();
        let released = towns.release().await;
        Ok(Counted {
            took: after.at - before.at,
            writes: after.served.writes - before.served.writes,
            reads: after.served.reads - before.served.reads,
            to: after.passed.to - before.passed.to,
            from: after.passed.from - before.passed.from,
            connections: after.passed.connections - before.passed.connections,
            kept: after.served.kept_bytes.cast_signed() - before.served.kept_bytes.cast_signed(),
            resident,
            cpu: after.cpu.zip(before.cpu).map(|(after, before)| after - before),
            own_cpu: after.own_cpu - before.own_cpu,
            renewals,
            wrong,
            released,
        })
    })
}

impl Moment {
    fn now(engine: &Engine, proxy: &Proxy) -> Self {
        Self {
            at: Instant::now(),
            served: engine.served(),
            passed: proxy.passed(),
            cpu: engine.process().map(|process| process.cpu()),
            own_cpu: Process::of(std::process::id()).cpu(),
        }
    }
}

fn rows(engine: &Engine, ttl: Duration, counted: &Counted, report: &mut Report) {
    let seconds = counted.took.as_secs_f64();
    let of = format!("{}, TTL {} s", engine.name(), ttl.as_secs());
    let each = |count: u64| count as f64 / seconds;
    let kib = |bytes: u64| each(bytes) / 1024.0;
    let said = |what: &str, value: String| Row::said(format!("{of}: {what}"), TOWNS, value);
    let [writes, reads] = [counted.writes, counted.reads].map(each);
    report.add(said("writes a second", format!("{writes:.0} /s")));
    report.add(said("reads a second", format!("{reads:.0} /s")));
    report.add(said("to the engine", format!("{:.0} KiB/s", kib(counted.to))));
    report.add(said("from the engine", format!("{:.0} KiB/s", kib(counted.from))));
    let percent = |cpu: Duration| format!("{:.1} %", cpu.as_secs_f64() / seconds * 100.0);
    if let Some(cpu) = counted.cpu {
        report.add(said("CPU of the engine, of one core", percent(cpu)));
    }
    report.add(said("CPU of all clients, this proxy included", percent(counted.own_cpu)));
    if let Some(resident) = counted.resident {
        report.add(said("memory of the engine", format!("{} MiB", resident / (1024 * 1024))));
        // In so short a time a store that removes what is old has not done so yet.
        let kept = counted.kept as f64 / counted.writes.max(1) as f64;
        report.add(said("its files grow for each write by", format!("{kept:.0} bytes")));
    }
    let renewals = format!("{of}: a renewal until its answer is read");
    report.add(Row::tail(renewals, &counted.renewals, RENEWAL_BUDGET));
    let expected = TOWNS as f64 * seconds / renewed_every(ttl).as_secs_f64();
    report.add(wrong(&of, counted, expected));
}

/// What must be 0, and renewals of which none is missing.
fn wrong(of: &str, counted: &Counted, expected: f64) -> Row {
    let Wrong { lost, taken, failures, late } = counted.wrong;
    let kept = TOWNS as u64 - counted.released.min(TOWNS as u64);
    let renewed = counted.renewals.len() as f64 / expected;
    let value = format!("{lost}, {taken}, {failures}, {late}, {kept}");
    let is_well = lost + taken + failures + late + kept + counted.connections == 0
        && (0.99..=1.01).contains(&renewed);
    let name = format!("{of}: lost, taken over, failing, late, not given back");
    Row {
        budget: "0".into(),
        against: format!(
            "{} renewals, {} new connections",
            counted.renewals.len(),
            counted.connections
        ),
        ratio: Some(renewed),
        met: Some(is_well),
        ..Row::said(name, TOWNS, value)
    }
}

fn broken(engine: &Engine, ttl: Duration, why: &str) -> Row {
    let name = format!("{}, TTL {} s: {why}", engine.name(), ttl.as_secs());
    Row { met: Some(false), ..Row::said(name, TOWNS, "-".into()) }
}
