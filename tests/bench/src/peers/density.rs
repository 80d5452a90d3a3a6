//! What each idle agent adds to the memory of all processes of a peer.
//!
//! Pages that processes share count for each in part (`Pss`), so that many processes of one program are not
//! charged for its code again and again.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::Pid;

use super::peer::Peer;
use super::{Ours, Rounds, Tools, boxed, supervisord, those};
use crate::plot::{Line, Plot};
use crate::report::{Report, Row};

/// Agents of ours.
const OWN: [usize; 3] = [10, 100, 1000];

/// Agents of a peer, those that fit.
const THEIRS: [usize; 4] = [10, 50, 100, 1000];

/// What must stay free.
const RESERVE: u64 = 3 << 30;

/// For each idle agent at 1,000.
const BUDGET: u64 = 64 * 1024;

/// How many times as much a process of bun is to take.
const GOAL: f64 = 500.0;

/// Idle begins when everything that a start leaves to do is done.
const SETTLE: Duration = Duration::from_secs(2);

pub fn measure(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    let mut ours = Ours::begin();
    let counts = OWN.to_vec();
    let own = each(&mut ours, &counts, report)?;
    ours.end();
    let most = own.last().copied().unwrap_or_default();
    for (count, bytes) in &own {
        let name = format!("resident for each of {count} idle agents: bulkhead");
        let row = Row { n: *count, ..Row::bytes(name, *bytes, BUDGET) };
        // The budget is for the largest crowd.
        let asked = *count == most.0;
        let budget = if asked { row.budget.clone() } else { "-".into() };
        report.add(Row { met: row.met.filter(|_| asked), budget, ..row });
    }
    let mut lines = vec![curve("bulkhead", &own)];
    // One after the other: together they would not fit.
    type Maker = fn(&Tools) -> Option<Box<dyn Peer>>;
    let makers: [Maker; 5] = [
        |tools| boxed(tools.node_processes()),
        |tools| boxed(tools.bun_processes()),
        |tools| boxed(tools.wasmtime_processes()),
        |tools| boxed(tools.pm2()),
        |tools| boxed(tools.supervisord()),
    ];
    for mut peer in makers.into_iter().flat_map(|maker| those(vec![maker(tools)])) {
        let most_here = match peer.name() {
            "supervisord" => rounds.most_processes.min(supervisord::PROGRAMS),
            _ => rounds.most_processes,
        };
        let counts: Vec<_> = THEIRS.into_iter().filter(|count| *count <= most_here).collect();
        let theirs = each(peer.as_mut(), &counts, report)?;
        for (index, (count, bytes)) in theirs.iter().enumerate() {
            let name = format!("resident for each of {count} idle agents: {}", peer.name());
            let last = index + 1 == theirs.len();
            let goal = (peer.name() == "bun" && last).then_some(GOAL);
            report.add(Row::peer_bytes(name, *count, *bytes, most.1, goal));
        }
        lines.push(curve(peer.name(), &theirs));
    }
    report.note(
        "processes for each agent are measured at the counts that fit into the memory of this \
         machine, and not beyond",
    );
    report.plot(Plot::Curves {
        title: "Resident memory for each idle agent".into(),
        x: "agents",
        unit: "KiB for each",
        lines,
    });
    Ok(())
}

/// For each count, what each agent adds.
fn each(
    peer: &mut dyn Peer,
    counts: &[usize],
    report: &mut Report,
) -> io::Result<Vec<(usize, u64)>> {
    let before = resident(&peer.processes());
    let (mut begun, mut found, mut last) = (0, Vec::new(), 0);
    for count in counts.iter().copied() {
        let more = last * (count - begun) as u64;
        if available() < RESERVE + more {
            let name = peer.name();
            report.note(format!("{count} agents of {name} do not fit beside what must stay free"));
            break;
        }
        for place in peer.start_many(begun..count) {
            place.first_answer()?;
        }
        begun = count;
        std::thread::sleep(SETTLE);
        last = resident(&peer.processes()).saturating_sub(before) / count as u64;
        found.push((count, last));
    }
    Ok(found)
}

fn curve(name: &str, found: &[(usize, u64)]) -> Line {
    let points = found.iter().map(|(count, bytes)| (*count as f64, *bytes as f64 / 1024.0));
    Line { name: name.to_owned(), points: points.collect() }
}

/// The proportional share of these processes.
pub fn resident(pids: &[Pid]) -> u64 {
    pids.iter().filter_map(|pid| pss(*pid)).sum()
}

fn pss(pid: Pid) -> Option<u64> {
    let path = format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero());
    kib(&fs::read_to_string(path).ok()?, "Pss:")
}

fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib(&text, "MemAvailable:").unwrap_or(0)
}

fn kib(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
