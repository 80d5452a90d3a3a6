//! What an agent that is well feels of others that compute for ever or crash all the time.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::peer::{Endpoint, Kind, Peer, crash_until_answer, start_until_answer};
use super::{Ours, Tools, boxed, those};
use crate::connection::Connection;
use crate::report::{Base, Report, Row};
use crate::samples::Samples;

/// How long it is watched in each state.
const WATCH: Duration = Duration::from_secs(4);

/// Between two messages to it.
const PAUSE: Duration = Duration::from_millis(2);

/// A message that has no answer by then counts as so long.
const PATIENCE: Duration = Duration::from_secs(2);

const CRASHERS: usize = 10;

/// The first spinner; the agent that is well is 0.
const SPINNERS: usize = 1;

/// The first crasher.
const FIRST_CRASHER: usize = 80;

/// Beside two spinning agents a core: the median against a quiet machine, and the tail.
const ALLOWED: f64 = 1.5;
const TAIL_BUDGET: Duration = Duration::from_millis(2);

pub fn measure(tools: &Tools, report: &mut Report) -> io::Result<()> {
    let ours = Ours::begin();
    let address = ours.host().address();
    let mut health = || health(address);
    one(Box::new(ours), Some(&mut health), report)?;
    let others = those(vec![
        boxed(tools.node_processes()),
        boxed(tools.bun_processes()),
        boxed(tools.wasmtime_server()),
        boxed(tools.pm2()),
        boxed(tools.supervisord()),
    ]);
    for peer in others {
        let name = peer.name();
        if let Err(error) = one(peer, None, report) {
            report.note(format!("{name}, beside agents that misbehave: cut short: {error}"));
        }
    }
    Ok(())
}

fn health(address: std::net::SocketAddr) -> Samples {
    let mut http = Connection::open(address);
    sampled(|| http.timed("GET", "/health", "", 200))
}

type Health<'a> = Option<&'a mut dyn FnMut() -> Samples>;

fn one(mut peer: Box<dyn Peer>, health: Health<'_>, report: &mut Report) -> io::Result<()> {
    let name = peer.name();
    let is_ours = name == "bulkhead";
    let (_, endpoint, _) = start_until_answer(peer.as_mut(), 0, Kind::Echo)?;
    let quiet = watch(&endpoint)?;
    let base = Base { name: "quiet", value: quiet.percentile(50) };
    report.add(Row::plain(format!("message, quiet: {name}"), &quiet));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut spinning = Vec::new();
    let mut began = 0;
    for count in [1, 2 * cores] {
        while began < count {
            let (_, endpoint, mut http) =
                start_until_answer(peer.as_mut(), SPINNERS + began, Kind::Spinner)?;
            http.send("POST", &endpoint.path, peer.faults().spin)?;
            spinning.push(http);
            began += 1;
        }
        let samples = watch(&endpoint)?;
        let what = format!("message beside {count} that spin: {name}");
        let row = Row::times(what, &samples, base, ALLOWED);
        let asked = is_ours && count == 2 * cores;
        report.add(if asked { row } else { unasked(row) });
        if asked {
            let what = format!("the same, its tail: {name}");
            report.add(Row::tail(what, &samples, TAIL_BUDGET));
        }
    }
    if let Some(health) = health {
        let what = format!("GET /health beside {began} that spin, its tail: {name}");
        report.add(Row::tail(what, &health(), TAIL_BUDGET));
    }
    (0..began).for_each(|spinner| peer.stop(SPINNERS + spinner));
    drop(spinning);
    let (samples, crashes) = beside_crashes(peer.as_mut(), &endpoint)?;
    let rate = crashes as f64 / WATCH.as_secs_f64();
    let what = format!("message beside 10 that crash, {rate:.0} /s: {name}");
    report.add(unasked(Row::times(what, &samples, base, ALLOWED)));
    Ok(())
}

fn unasked(row: Row) -> Row {
    Row { budget: "-".into(), met: None, ..row }
}

/// Ten agents crash one after the other, each again as soon as it is its turn and it answered.
fn beside_crashes(peer: &mut dyn Peer, well: &Endpoint) -> io::Result<(Samples, usize)> {
    let mut crashers = Vec::new();
    for agent in FIRST_CRASHER..FIRST_CRASHER + CRASHERS {
        let (_, endpoint, http) = start_until_answer(peer, agent, Kind::Crasher)?;
        crashers.push((agent, endpoint, http));
    }
    let (over, crashes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let samples = std::thread::scope(|scope| {
        let crash = scope.spawn(|| -> io::Result<()> {
            while !over.load(Ordering::Relaxed) {
                for (agent, endpoint, http) in &mut crashers {
                    crash_until_answer(peer, *agent, endpoint, http)?;
                    crashes.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        let samples = watch(well);
        over.store(true, Ordering::Relaxed);
        crash.join().expect("the one who makes them crash")?;
        samples
    })?;
    Ok((samples, crashes.into_inner()))
}

/// Messages to the agent that is well. The first tenth of the time warms up.
fn watch(endpoint: &Endpoint) -> io::Result<Samples> {
    let mut http = Connection::try_open(endpoint.address)?.patience(PATIENCE)?;
    Ok(sampled(|| {
        let began = Instant::now();
        if endpoint.hello(&mut http).is_ok() {
            return began.elapsed();
        }
        // Nobody knows how long it would have taken.
        if let Ok(again) =
            Connection::try_open(endpoint.address).and_then(|one| one.patience(PATIENCE))
        {
            http = again;
        }
        began.elapsed().max(PATIENCE)
    }))
}

fn sampled(mut ask: impl FnMut() -> Duration) -> Samples {
    let (began, mut samples) = (Instant::now(), Samples::new());
    while began.elapsed() < WATCH {
        let took = ask();
        if began.elapsed() > WATCH / 10 {
            samples.add(took);
        }
        std::thread::sleep(PAUSE);
    }
    samples
}
