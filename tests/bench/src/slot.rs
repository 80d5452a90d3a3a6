//! The start slot: what it costs to join a start, and to take one over that hangs.

use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use harness::Host;

use crate::connection::Connection;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// How long the guest's `start` takes that others join: enough for them to come, also on a busy machine.
const START_MS: u64 = 50;

/// Callers that join it.
const JOINERS: usize = 2;

const JOIN_BUDGET: Duration = Duration::from_micros(10);
const SUPERSEDE_BUDGET: Duration = Duration::from_millis(50);

pub fn measure(rounds: usize, report: &mut Report) {
    let host = Host::builder().open().guest("slow-start").toml("[log]\nlevel = \"info\"").start();
    let mut http = Connection::open(host.address());
    // The component is loaded here.
    start(&mut http, 0, 201);
    stop(&mut http);
    join(&host, &mut http, rounds, report);
    supersede(&host, &mut http, rounds, report);
    host.finish();
}

fn start(http: &mut Connection, ms: u64, status: u16) -> Duration {
    let body = format!(r#"{{"agentId":"one","role":"slow-start","prompt":"{ms}"}}"#);
    http.timed("POST", "/agents/start", &body, status)
}

fn stop(http: &mut Connection) {
    http.timed("POST", "/agents/one/stop", "", 200);
}

/// When the answers of one start come, all by the clock of this process. From outside one sees only
/// that, and the host's one thread writes one answer after the other, in an order of chance. The last of
/// those who joined is held against the first caller, and how far two of them lie apart is what cannot
/// be distinguished from noise.
fn join(host: &Host, http: &mut Connection, rounds: usize, report: &mut Report) {
    let (mut after, mut apart) = (Samples::new(), Samples::new());
    let mut others: Vec<_> = (0..JOINERS).map(|_| Connection::open(host.address())).collect();
    let mut watcher = Connection::open(host.address());
    for _ in 0..rounds {
        let (first, joined) = round(http, &mut others, &mut watcher);
        stop(http);
        let (earlier, later) = (joined[0].min(joined[1]), joined[0].max(joined[1]));
        // The first caller may be the last to be answered.
        after.add(later.saturating_duration_since(first));
        apart.add(later - earlier);
    }
    let noise = apart.percentile(50);
    let budget = noise + JOIN_BUDGET;
    report.add(Row::floor("floor: two joined answers apart", &apart, noise));
    report.add(Row::latency("the last joined answer after the first", &after, noise, budget));
}

/// One start that is joined. When its caller, and when the others had their answers.
fn round(
    first: &mut Connection,
    others: &mut [Connection],
    watcher: &mut Connection,
) -> (Instant, Vec<Instant>) {
    let barrier = Barrier::new(JOINERS);
    std::thread::scope(|scope| {
        let first = scope.spawn(move || {
            start(first, START_MS, 201);
            Instant::now()
        });
        until_starting(watcher);
        let joined: Vec<ScopedJoinHandle<'_, Instant>> = others
            .iter_mut()
            .map(|other| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    start(other, START_MS, 200);
                    let answered = Instant::now();
                    assert!(other.body().contains("\"joined\":true"), "it came too late");
                    answered
                })
            })
            .collect();
        let joined = joined.into_iter().map(|other| other.join().expect("a caller")).collect();
        (first.join().expect("the first caller"), joined)
    })
}

/// From the request of a start of another spec to its answer, while the one before hangs.
fn supersede(host: &Host, http: &mut Connection, rounds: usize, report: &mut Report) {
    let mut took = Samples::new();
    for _ in 0..rounds {
        let mut hanging = Connection::open(host.address());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let body = r#"{"agentId":"one","role":"slow-start","prompt":"60000"}"#;
                hanging.timed("POST", "/agents/start", body, 409);
            });
            until_starting(http);
            took.add(start(http, 0, 201));
        });
        stop(http);
    }
    report.add(Row::worst("a start instead of one that hangs", &took, SUPERSEDE_BUDGET));
}

fn until_starting(http: &mut Connection) {
    loop {
        http.timed("GET", "/agents", "", 200);
        if http.body().contains("\"status\":\"starting\"") {
            return;
        }
    }
}
