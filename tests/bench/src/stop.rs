//! The stop of an agent that is in a turn: how long it takes beyond the grace that its role gives.

use std::time::Duration;

use harness::{Host, HostBuilder};

use crate::connection::Connection;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// The grace.
const GRACE: Duration = Duration::from_millis(100);

const BUDGET: Duration = Duration::from_millis(50);

/// Guests, what keeps them busy for longer than anybody waits, and what is shown.
const BUSY: [(&str, &str, &str); 3] = [
    ("spin", "spin", "stop of a turn that computes, past grace"),
    ("hang", "60000", "stop of a turn in a host call, past grace"),
    ("ignores-stop", "deaf 60000", "stop of a turn that is deaf, past grace"),
];

pub fn measure(rounds: usize, report: &mut Report) {
    let grace = GRACE.as_millis();
    let limits = format!("cpu_ms = 60000\nhost_call_ms = 60000\nshutdown_ms = {grace}");
    let role = |builder: HostBuilder, (guest, ..): &(&str, &str, &str)| {
        builder.guest(guest).role(guest, guest, &limits)
    };
    let builder = Host::builder().open().toml("[log]\nlevel = \"info\"");
    let host = BUSY.iter().fold(builder, role).start();
    let mut http = Connection::open(host.address());
    for (guest, message, name) in BUSY {
        let mut late = Samples::new();
        for _ in 0..rounds {
            late.add(stop(&mut http, guest, message).saturating_sub(GRACE));
        }
        report.add(Row::worst(name, &late, BUDGET));
    }
    host.finish();
}

fn stop(http: &mut Connection, guest: &str, message: &str) -> Duration {
    let body = format!(r#"{{"agentId":"{guest}","role":"{guest}"}}"#);
    http.timed("POST", "/agents/start", &body, 201);
    let body = format!(r#"{{"prompt":"{message}"}}"#);
    http.timed("POST", &format!("/agents/{guest}/message"), &body, 200);
    loop {
        http.timed("GET", &format!("/agents/{guest}/status"), "", 200);
        if http.body().contains("\"busy\":true") {
            break;
        }
    }
    http.timed("POST", &format!("/agents/{guest}/stop"), "", 200)
}
