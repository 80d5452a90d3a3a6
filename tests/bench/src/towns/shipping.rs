//! What a town with `[ship]` puts into its bucket: idle, and while agents start.

use std::thread::sleep;
use std::time::{Duration, Instant};

use bucket_server::{Method, Traffic};
use harness::json;

use crate::connection::Connection;
use crate::fleet::{Fleet, TTL};
use crate::report::{Report, Row};

/// Nothing happens for so long. More than the host's heartbeat.
const IDLE: Duration = Duration::from_secs(20);

/// Starts a second, for so long.
const RATES: [u32; 2] = [1, 10];
const STARTS_FOR: Duration = Duration::from_secs(10);

/// `ship.interval_ms` and a put.
const REST: Duration = Duration::from_secs(3);

/// Where the town's objects are.
const PLACE: &str = "/towns/state";

pub fn measure(report: &mut Report) {
    let put = |fleet: &Fleet| fleet.traffic(&Method::PUT, PLACE);
    let mut fleet = Fleet::new(TTL);
    let copy = fleet.copy();
    copy.serves();
    copy.fill(10, "node");
    sleep(REST);
    let before = put(&fleet);
    sleep(IDLE);
    let idle = put(&fleet) - before;
    let name = "an idle town with 10 agents, shipped: objects, bytes in 20 s";
    report.add(Row::said(name, 1, format!("{}, {}", idle.requests, idle.bytes_in)));
    drop(copy);
    for role in ["node", "fleet"] {
        for rate in RATES {
            let mut fleet = Fleet::new(TTL);
            let copy = fleet.copy();
            copy.serves();
            let mut http = Connection::open(copy.address);
            copy.fill(1, role);
            sleep(REST);
            let before = put(&fleet);
            let starts = start(&mut http, role, rate);
            sleep(REST);
            let put = put(&fleet) - before;
            report.add(row(role, rate, starts, put));
        }
    }
}

/// Evenly. Agents stay.
fn start(http: &mut Connection, role: &str, rate: u32) -> u32 {
    let starts = rate * u32::try_from(STARTS_FOR.as_secs()).expect("seconds");
    let began = Instant::now();
    for n in 0..starts {
        let due = began + Duration::from_secs(1) * n / rate;
        sleep(due.saturating_duration_since(Instant::now()));
        let start = json!({ "agentId": format!("b-{n}"), "role": role }).to_string();
        http.timed("POST", "/agents/start", &start, 201);
    }
    starts
}

fn row(role: &str, rate: u32, starts: u32, put: Traffic) -> Row {
    let each = |count: u64| count as f64 / f64::from(starts);
    let name =
        format!("{rate} starts a second, durable = \"{role}\": objects, bytes for each start");
    let value = format!("{:.2}, {:.0}", each(put.requests), each(put.bytes_in));
    Row::said(name, starts as usize, value)
}
