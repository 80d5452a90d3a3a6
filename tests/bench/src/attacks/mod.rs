//! What agents that are well feel of an attack, one attack after the other on one host.

mod bombs;
mod catalogue;
mod endpoint;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, scope, sleep};
use std::time::{Duration, Instant};

use catalogue::{ATTACKS, Ground};

use crate::connection::Connection;
use crate::freezes::Watch;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// How long they are watched before an attack, and in it.
const QUIET: Duration = Duration::from_secs(2);
const ATTACKED: Duration = Duration::from_secs(4);

/// From one message to one of them to the next. Each counts from when it is due: one that holds up the next ones counts
/// for all of them.
const PERIOD: Duration = Duration::from_millis(4);

/// How many times slower they may answer, at the 99th percentile.
const ALLOWED: f64 = 3.0;

/// All attacks that have this in their name.
pub fn measure(name: &str, report: &mut Report) {
    let ground = Ground::prepare();
    for attack in ATTACKS.iter().filter(|attack| attack.name.contains(name)) {
        let (quiet, _) = watch(&ground, QUIET);
        let over = AtomicBool::new(false);
        let (attacked, frozen) = scope(|scope| {
            attack.begin(&ground, scope, &over);
            let attacked = watch(&ground, ATTACKED);
            over.store(true, Ordering::Relaxed);
            attacked
        });
        attack.clear(&ground);
        let mut row = Row::beside(attack.name, &quiet, &attacked, ALLOWED);
        if !frozen.is_zero() {
            write!(row.against, ", machine away for {} ms", frozen.as_millis()).expect("a string");
        }
        eprintln!("{}: {} {} {} ({})", row.name, row.p50, row.p99, row.ratio_text(), row.against);
        report.add(row);
    }
}

/// Messages to all that are well, each on a connection of its own, without the time for which the machine was away, and
/// that time. The first tenth of the time warms up.
fn watch(ground: &Ground, time: Duration) -> (Samples, Duration) {
    let watch = Watch::begin();
    let messages: Vec<_> = scope(|scope| {
        let watched =
            ground.well().map(|agent| scope.spawn(move || messages(ground, &agent, time)));
        let watched: Vec<_> = watched.collect();
        watched.into_iter().flat_map(|one| one.join().expect("an agent that is well")).collect()
    });
    let (freezes, mut samples) = (watch.end(), Samples::new());
    for (due, done) in messages {
        samples.add((done - due).saturating_sub(freezes.within(due, done)));
    }
    (samples, freezes.total())
}

/// When each was due, and when it was answered.
fn messages(ground: &Ground, agent: &str, time: Duration) -> Vec<(Instant, Instant)> {
    let mut http = Connection::open(ground.address());
    let path = format!("/agents/{agent}/message?wait=60000");
    let (began, mut samples, mut due) = (Instant::now(), Vec::new(), Duration::ZERO);
    while due < time {
        sleep(due.saturating_sub(began.elapsed()));
        http.timed("POST", &path, r#"{"prompt":"x"}"#, 200);
        if due > time / 10 {
            samples.push((began + due, Instant::now()));
        }
        due += PERIOD;
    }
    samples
}

/// Runs `strike` again and again on a thread, until the attack is over. What an attacker computes outside of the host is
/// not the host's doing, so it has what the host leaves.
fn again<'scope>(
    scope: &'scope Scope<'scope, '_>,
    over: &'scope AtomicBool,
    mut strike: impl FnMut() + Send + 'scope,
) {
    scope.spawn(move || {
        step_back();
        while !over.load(Ordering::Relaxed) {
            strike();
        }
    });
}

fn step_back() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
}
