//! What must hold for all copies together, by their logs and by what they answered. All machines share `CLOCK_MONOTONIC`; their
//! wall clocks are off. A line says how long its run has lasted, so the moments of a run are exact to each other, and to other
//! runs by the quickest of its lines to arrive.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::Value;

use super::client::Said;
use crate::lease::Copy;

/// What the moments may be wrong by: lines that arrive late, and milliseconds that are cut off.
const SLACK: Duration = Duration::from_millis(20);

/// A run of a supervisor.
#[derive(Debug)]
pub struct Run {
    pub machine: usize,
    /// Which of the copies of its machine.
    pub copy: usize,
    /// One that logged no start has none.
    pub epoch: Option<u64>,
    pub first: Instant,
    pub last: Instant,
    /// `agent.start` and `agent.exit`.
    pub agents: Vec<Change>,
}

#[derive(Debug, Clone)]
pub struct Change {
    pub at: Instant,
    pub agent: String,
    pub incarnation: u64,
    pub is_start: bool,
}

/// The runs of a copy, in their order.
pub fn runs(machine: usize, copy: usize, of: &Copy) -> Vec<Run> {
    let mut lines: Vec<(String, Vec<(Instant, Value)>)> = Vec::new();
    for (arrived, line) in of.arrivals() {
        // Why a run ended is said by others in its name.
        if line["event"] == "container.previous_run" {
            continue;
        }
        let Some(id) = line["runId"].as_str().map(str::to_owned) else { continue };
        match lines.iter_mut().find(|(known, _)| *known == id) {
            Some((_, lines)) => lines.push((arrived, line)),
            None => lines.push((id, vec![(arrived, line)])),
        }
    }
    lines.into_iter().filter_map(|(_, lines)| run(machine, copy, &lines)).collect()
}

fn run(machine: usize, copy: usize, lines: &[(Instant, Value)]) -> Option<Run> {
    let uptime = |line: &Value| line["uptimeMs"].as_u64().map(Duration::from_millis);
    let begins = lines.iter().filter_map(|(at, line)| at.checked_sub(uptime(line)?));
    let began = begins.min()?;
    let moments = || lines.iter().filter_map(|(_, line)| Some(began + uptime(line)?));
    let agents = lines.iter().filter_map(|(_, line)| {
        let is_start = line["event"] == "agent.start";
        (is_start || line["event"] == "agent.exit").then_some(())?;
        Some(Change {
            at: began + uptime(line)?,
            agent: line["agentId"].as_str()?.to_owned(),
            incarnation: line["incarnation"].as_u64()?,
            is_start,
        })
    });
    Some(Run {
        machine,
        copy,
        epoch: lines.iter().find_map(|(_, line)| line["leaseEpoch"].as_u64()),
        first: moments().min()?,
        last: moments().max()?,
        agents: agents.collect(),
    })
}

/// What does not hold. `runs` in any order.
pub fn problems(runs: &mut [Run], said: &Said) -> Vec<String> {
    runs.sort_by_key(|run| run.first);
    let mut found = said.problems.clone();
    found.extend(one_at_a_time(runs));
    found.extend(numbers(runs));
    found.extend(answers(runs, said));
    found.extend(stopped(runs, said));
    found
}

/// Runs, and their epochs.
fn one_at_a_time(runs: &[Run]) -> Vec<String> {
    let mut found = Vec::new();
    for pair in runs.windows(2) {
        let [one, next] = pair else { continue };
        let over = one.last.saturating_duration_since(next.first);
        if over > SLACK {
            found.push(format!(
                "epoch {:?} on machine {} goes on for {over:?} beside epoch {:?} on machine {}",
                one.epoch, one.machine, next.epoch, next.machine
            ));
        }
    }
    let mut served: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    let mut highest = 0;
    for run in runs {
        let Some(epoch) = run.epoch else { continue };
        let place = (run.machine, run.copy);
        if *served.entry(epoch).or_insert(place) != place {
            found.push(format!("epoch {epoch} was served by {:?} and {place:?}", served[&epoch]));
        }
        if epoch < highest {
            found.push(format!("epoch {epoch} after {highest}"));
        }
        highest = highest.max(epoch);
    }
    found
}

/// Numbers of incarnations rise, and one agent has one at a time.
fn numbers(runs: &[Run]) -> Vec<String> {
    let mut found = Vec::new();
    let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
    for run in runs {
        let mut live: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for Change { agent, incarnation, is_start, .. } in &run.agents {
            let live = live.entry(agent).or_default();
            live.retain(|number| number != incarnation);
            if !is_start {
                continue;
            }
            live.push(*incarnation);
            if live.len() > 1 {
                found.push(format!("{agent} is live as {live:?}"));
            }
            let last = highest.entry(agent).or_insert(0);
            if *incarnation <= *last {
                found.push(format!("{agent} has the number {incarnation} after {last}"));
            }
            *last = (*last).max(*incarnation);
        }
    }
    found
}

/// No machine answers when a later epoch has begun, and no number comes again after a higher one.
fn answers(runs: &[Run], said: &Said) -> Vec<String> {
    let mut found = Vec::new();
    let mut highest: BTreeMap<&str, (u64, Instant)> = BTreeMap::new();
    for claim in &said.claims {
        let own =
            runs.iter().rfind(|run| run.machine == claim.machine && run.first <= claim.answered);
        let epoch = own.and_then(|run| run.epoch).unwrap_or(0);
        for run in runs.iter().filter(|run| run.machine != claim.machine) {
            if run.epoch > Some(epoch) && run.first + SLACK < claim.sent {
                found.push(format!(
                    "machine {} answers by epoch {epoch} when {:?} has begun",
                    claim.machine, run.epoch
                ));
            }
        }
        for (agent, number) in &claim.running {
            match highest.get(agent.as_str()) {
                Some((last, answered)) if number < last && *answered < claim.sent => {
                    found.push(format!("{agent} runs as {number} after {last}"));
                }
                _ => _ = highest.insert(agent, (*number, claim.answered)),
            }
        }
    }
    found
}

/// A stopped agent does not begin until somebody asks for it.
fn stopped(runs: &[Run], said: &Said) -> Vec<String> {
    let starts = || runs.iter().flat_map(|run| &run.agents).filter(|change| change.is_start);
    let back = |stop: &super::client::Stop| {
        let is_back = |change: &&Change| {
            change.agent == stop.agent
                && change.at > stop.acknowledged + SLACK
                && stop.until.is_none_or(|until| change.at + SLACK < until)
        };
        starts().find(is_back).map(|change| {
            format!("{} was stopped and began again as {}", change.agent, change.incarnation)
        })
    };
    said.stops.iter().filter_map(back).collect()
}

#[cfg(test)]
mod tests {
    use super::super::client::{Claim, Stop};
    use super::*;

    /// Runs by machine, epoch, and milliseconds from and to.
    fn world(runs: &[(usize, u64, u64, u64)]) -> (Instant, Vec<Run>) {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let run = |&(machine, epoch, first, last): &(usize, u64, u64, u64)| Run {
            machine,
            copy: 0,
            epoch: Some(epoch),
            first: at(first),
            last: at(last),
            agents: Vec::new(),
        };
        (zero, runs.iter().map(run).collect())
    }

    fn change(at: Instant, incarnation: u64, is_start: bool) -> Change {
        Change { at, agent: "a".into(), incarnation, is_start }
    }

    #[track_caller]
    fn finds(runs: &mut [Run], said: &Said, part: &str) {
        let found = problems(runs, said);
        assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
    }

    #[test]
    fn runs_one_after_the_other_are_well() {
        let (_, mut runs) = world(&[(1, 2, 200, 300), (0, 1, 0, 150)]);
        assert!(problems(&mut runs, &Said::default()).is_empty());
    }

    #[test]
    fn each_violation_is_found() {
        let said = Said::default();
        let (_, mut runs) = world(&[(0, 1, 0, 250), (1, 2, 200, 300)]);
        finds(&mut runs, &said, "beside");
        let (_, mut runs) = world(&[(0, 1, 0, 100), (1, 1, 200, 300)]);
        finds(&mut runs, &said, "served by");
        let (_, mut runs) = world(&[(0, 2, 0, 100), (1, 1, 200, 300)]);
        finds(&mut runs, &said, "after 2");
        let (zero, mut runs) = world(&[(0, 1, 0, 100), (1, 2, 200, 300)]);
        runs[0].agents.push(change(zero, 7, true));
        runs[1].agents.push(change(zero, 7, true));
        finds(&mut runs, &said, "the number 7 after 7");
        let (zero, mut runs) = world(&[(0, 1, 0, 100)]);
        runs[0].agents = [1, 2].map(|number| change(zero, number, true)).into();
        finds(&mut runs, &said, "is live as [1, 2]");
    }

    #[test]
    fn an_answer_that_comes_too_late_and_a_stop_that_is_forgotten_are_found() {
        let (zero, mut runs) = world(&[(0, 1, 0, 100), (1, 2, 200, 300)]);
        let at = |ms| zero + Duration::from_millis(ms);
        let claim = |machine, ms, number| Claim {
            machine,
            sent: at(ms),
            answered: at(ms + 1),
            running: vec![("a".into(), number)],
        };
        let said = Said { claims: vec![claim(0, 250, 1)], ..Said::default() };
        finds(&mut runs, &said, "answers by epoch 1");
        let said = Said { claims: vec![claim(1, 250, 5), claim(1, 260, 4)], ..Said::default() };
        finds(&mut runs, &said, "runs as 4 after 5");
        let stop = Stop { agent: "a".into(), acknowledged: at(150), until: None };
        runs[1].agents.push(change(at(220), 9, true));
        let said = Said { stops: vec![stop], ..Said::default() };
        finds(&mut runs, &said, "was stopped");
    }
}
