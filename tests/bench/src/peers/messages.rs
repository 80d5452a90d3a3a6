//! A message and its answer, on a connection that stays.

use std::io;

use super::peer::{Kind, start_until_answer};
use super::{Ours, Rounds, Tools, bars, boxed, those};
use crate::connection::Connection;
use crate::report::{Base, Report, Row};
use crate::samples::Samples;

/// Against `GET /health` of the same server.
const ALLOWED: f64 = 1.3;

pub fn measure(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    let mut ours = Ours::begin();
    let mut peers = those(vec![
        boxed(tools.node_processes()),
        boxed(tools.bun_processes()),
        boxed(tools.wasmtime_server()),
    ]);
    let (_, own_place, mut own_http) = start_until_answer(&mut ours, 0, Kind::Echo)?;
    let mut health_http = Connection::open(ours.host().address());
    let mut lines = Vec::new();
    for peer in &mut peers {
        let (_, endpoint, http) = start_until_answer(peer.as_mut(), 0, Kind::Echo)?;
        lines.push((endpoint, http, Samples::new()));
    }
    let (mut own, mut health) = (Samples::new(), Samples::new());
    for round in 0..rounds.fast + rounds.fast / 10 {
        let one = health_http.timed("GET", "/health", "", 200);
        let two = own_place.hello(&mut own_http)?;
        let kept = round >= rounds.fast / 10;
        if kept {
            health.add(one);
            own.add(two);
        }
        for (endpoint, http, samples) in &mut lines {
            let took = endpoint.hello(http)?;
            if kept {
                samples.add(took);
            }
        }
    }
    let (base, middle) = (health.percentile(50), own.percentile(50));
    report.add(Row::plain("GET /health: bulkhead", &health));
    let health_base = Base { name: "health", value: base };
    report.add(Row::times("message round trip: bulkhead", &own, health_base, ALLOWED));
    let mut all = vec![("bulkhead", &own)];
    for (peer, (_, _, samples)) in peers.iter().zip(&lines) {
        let name = format!("message round trip: {}", peer.name());
        report.add(Row::peer(name, samples, middle, None));
        all.push((peer.name(), samples));
    }
    report.note(
        "pm2 and supervisord run the node agent: their messages are those of the row for node",
    );
    report.plot(bars("Message round trip on one connection", &all));
    ours.end();
    Ok(())
}
