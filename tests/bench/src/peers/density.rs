//! What each idle agent adds to the memory of all processes of a peer, in two ways. `resident` is what `top`
//! shows, and counts a page that processes share for each of them. `own part` (`Pss`) divides such a page by
//! those who share it, so that many processes of one program are not charged for its code again and again.

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
pub const SETTLE: Duration = Duration::from_secs(2);

pub fn measure(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    let mut ours = Ours::begin();
    let counts = OWN.to_vec();
    let own = each(&mut ours, &counts, report)?;
    ours.end();
    let Some(most) = own.last() else { return Ok(()) };
    for found in &own {
        let asked = found.agents == most.agents;
        for (what, bytes) in [("resident", found.each.resident), ("own part", found.each.own_part)]
        {
            let row = Row::bytes(name(what, found.agents, "bulkhead"), bytes, BUDGET);
            // The budget is for the largest crowd.
            let budget = if asked { row.budget.clone() } else { "-".into() };
            report.add(Row { n: found.agents, met: row.met.filter(|_| asked), budget, ..row });
        }
    }
    let mut lines = curves("bulkhead", &own);
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
        for (index, Found { agents, each }) in theirs.iter().enumerate() {
            let last = index + 1 == theirs.len();
            let goal = (peer.name() == "bun" && last).then_some(GOAL);
            let ours = &most.each;
            let kinds = [
                ("resident", each.resident, ours.resident),
                ("own part", each.own_part, ours.own_part),
            ];
            for (what, bytes, ours) in kinds {
                let name = name(what, *agents, peer.name());
                report.add(Row::peer_bytes(name, *agents, bytes, ours, goal));
            }
        }
        lines.extend(curves(peer.name(), &theirs));
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

/// With so many agents, what each adds.
struct Found {
    agents: usize,
    each: Bytes,
}

/// Of some processes, or of an agent.
#[derive(Clone, Copy, Default)]
pub struct Bytes {
    pub resident: u64,
    pub own_part: u64,
}

impl Bytes {
    pub fn beyond(self, before: Self, agents: usize) -> Self {
        let each = |now: u64, before: u64| now.saturating_sub(before) / agents as u64;
        Self {
            resident: each(self.resident, before.resident),
            own_part: each(self.own_part, before.own_part),
        }
    }
}

fn name(what: &str, agents: usize, peer: &str) -> String {
    format!("{what} for each of {agents} idle agents: {peer}")
}

fn each(peer: &mut dyn Peer, counts: &[usize], report: &mut Report) -> io::Result<Vec<Found>> {
    let before = memory_of(&peer.processes());
    let (mut begun, mut found, mut last) = (0, Vec::new(), Bytes::default());
    for agents in counts.iter().copied() {
        let more = last.own_part * (agents - begun) as u64;
        if available() < RESERVE + more {
            let name = peer.name();
            report.note(format!("{agents} agents of {name} do not fit beside what must stay free"));
            break;
        }
        for endpoint in peer.start_many(begun..agents) {
            endpoint.first_answer()?;
        }
        begun = agents;
        std::thread::sleep(SETTLE);
        last = memory_of(&peer.processes()).beyond(before, agents);
        found.push(Found { agents, each: last });
    }
    Ok(found)
}

fn curves(name: &str, found: &[Found]) -> Vec<Line> {
    let line = |what: &str, bytes: fn(&Bytes) -> u64| {
        let kib = |one: &Found| (one.agents as f64, bytes(&one.each) as f64 / 1024.0);
        Line { name: format!("{name}, {what}"), points: found.iter().map(kib).collect() }
    };
    vec![line("resident", |each| each.resident), line("own part", |each| each.own_part)]
}

/// Of these processes together.
pub fn memory_of(pids: &[Pid]) -> Bytes {
    let all = pids.iter().filter_map(|pid| {
        let path = format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero());
        let text = fs::read_to_string(path).ok()?;
        Some((kib(&text, "Rss:")?, kib(&text, "Pss:")?))
    });
    all.fold(Bytes::default(), |sum, (resident, own_part)| Bytes {
        resident: sum.resident + resident,
        own_part: sum.own_part + own_part,
    })
}

fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib(&text, "MemAvailable:").unwrap_or(0)
}

fn kib(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
