//! From asking for an agent to its answer to a first message.

use std::io;

use super::peer::{Kind, Peer, start_until_answer};
use super::{Ours, Rounds, Tools, bars, boxed, those};
use crate::report::{Report, Row};
use crate::samples::Samples;

/// Ours take so little that one round has so many.
const OURS_A_ROUND: usize = 50;

/// How many times as long a process for each agent is to take.
fn goal(name: &str) -> Option<f64> {
    match name {
        "bun" => Some(100.0),
        "node" | "pm2" => Some(300.0),
        _ => None,
    }
}

pub fn measure(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    let mut ours = Ours::begin();
    let mut peers = those(vec![
        boxed(tools.node_processes()),
        boxed(tools.bun_processes()),
        boxed(tools.wasmtime_processes()),
        boxed(tools.pm2()),
        boxed(tools.supervisord()),
    ]);
    let mut own = Samples::new();
    let mut theirs = vec![Samples::new(); peers.len()];
    // The first round warms up.
    for round in 0..=rounds.slow {
        for agent in 0..OURS_A_ROUND {
            let took = own_start(&mut ours, agent)?;
            if round > 0 {
                own.add(took);
            }
        }
        for (peer, samples) in peers.iter_mut().zip(&mut theirs) {
            let (took, ..) = start_until_answer(peer.as_mut(), 0, Kind::Echo)?;
            peer.stop(0);
            if round > 0 {
                samples.add(took);
            }
        }
    }
    let middle = own.percentile(50);
    report.add(Row::plain("start until it answers: bulkhead", &own));
    let mut all = vec![("bulkhead", &own)];
    for (peer, samples) in peers.iter().zip(&theirs) {
        let name = format!("start until it answers: {}", peer.name());
        report.add(Row::peer(name, samples, middle, goal(peer.name())));
        all.push((peer.name(), samples));
    }
    report.plot(bars("From asking for an agent to its first answer", &all));
    ours.end();
    Ok(())
}

/// Start and first message, each a request on a new connection, as with the others.
fn own_start(ours: &mut Ours, agent: usize) -> io::Result<std::time::Duration> {
    let (took, ..) = start_until_answer(ours, agent, Kind::Echo)?;
    ours.stop(agent);
    Ok(took)
}
