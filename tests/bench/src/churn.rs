//! Agents that come and go on many connections at once: how many requests a second, against `GET /health`
//! on as many connections, and what stays behind.

use std::time::Instant;

use harness::Host;

use crate::connection::Connection;
use crate::process::Process;
use crate::report::{Report, Row};

/// Connections at one time.
const CONNECTIONS: usize = 64;

/// Part of the rate of `GET /health` that starts and stops must come to.
const RATE_BUDGET: f64 = 0.5;

/// Percent by which the host may have grown.
const GROWTH_BUDGET: f64 = 5.0;

pub fn measure(agents: usize, report: &mut Report) {
    let host = crate::host();
    let each = agents.div_ceil(CONNECTIONS);
    let process = Process::of(host.pid());
    // Fills what is kept of ended agents, and every buffer that grows to its size.
    churn(&host, "warm", each);
    let before = process.resident_bytes();
    // As many requests as the starts and stops are.
    let health = rate(&host, 2 * each, |http, _, _| {
        http.timed("GET", "/health", "", 200);
    });
    let rate = churn(&host, "more", each);
    let growth = process.resident_bytes() as f64 / before as f64 * 100.0 - 100.0;
    let number = 2 * each * CONNECTIONS;
    report.add(Row::rate("GET /health on 64 connections", number, health, health, 1.0));
    report.add(Row::rate("starts and stops on 64 connections", number, rate, health, RATE_BUDGET));
    report.add(Row::percent("growth of the host by that many more", growth, GROWTH_BUDGET));
    host.finish();
}

/// Starts and stops agents that never were there before. Yields requests a second.
fn churn(host: &Host, round: &str, each: usize) -> f64 {
    2.0 * rate(host, each, |http, connection, n| {
        let body = format!(r#"{{"agentId":"{round}-{connection}-{n}","role":"echo"}}"#);
        http.timed("POST", "/agents/start", &body, 201);
        http.timed("POST", &format!("/agents/{round}-{connection}-{n}/stop"), "", 200);
    })
}

/// How often a second something was done, over all connections.
fn rate(host: &Host, each: usize, act: impl Fn(&mut Connection, usize, usize) + Sync) -> f64 {
    let mut connections: Vec<_> =
        (0..CONNECTIONS).map(|_| Connection::open(host.address())).collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (index, http) in connections.iter_mut().enumerate() {
            let act = &act;
            scope.spawn(move || (0..each).for_each(|n| act(http, index, n)));
        }
    });
    (each * CONNECTIONS) as f64 / began.elapsed().as_secs_f64()
}
