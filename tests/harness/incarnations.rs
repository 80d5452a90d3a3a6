//! What the log says of an agent's incarnations, and what must hold for all of them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::trial::incarnation;

/// The lines of an event about an agent, of those given.
pub fn events_of<'a>(
    lines: &'a [Value],
    agent: &str,
    event: &str,
) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["event"] == event && line["agentId"] == agent)
}

/// The only line of an event about an agent.
#[track_caller]
pub fn only<'a>(lines: &'a [Value], agent: &str, event: &str) -> &'a Value {
    let found: Vec<_> = events_of(lines, agent, event).collect();
    let [line] = found[..] else { panic!("{} lines of {event} about {agent}", found.len()) };
    line
}

/// Incarnations that began to run, minus those that ended, after every line of the log: never more
/// than one.
#[track_caller]
pub fn check_one_at_a_time(lines: &[Value], agent: &str) {
    let mut active: Vec<u64> = Vec::new();
    for line in lines.iter().filter(|line| line["agentId"] == agent) {
        match line["event"].as_str().unwrap_or_default() {
            "agent.start" => active.push(incarnation(line)),
            "agent.exit" => active.retain(|number| *number != incarnation(line)),
            _ => {}
        }
        assert!(active.len() <= 1, "two incarnations are active: {active:?} at {line}");
    }
}

/// Every incarnation has one end in the log: an exit record when it had its turn, else the line of the
/// start that did not come to it.
#[track_caller]
pub fn check_one_end_each(lines: &[Value], agent: &str, incarnations: u64) {
    let ends = ends(lines, agent);
    for number in 1..=incarnations {
        let (exits, refusals) = ends.get(&number).copied().unwrap_or_default();
        assert!(
            matches!((exits, refusals), (1, 0 | 1) | (0, 1)),
            "incarnation {number} of {agent} has {exits} exits and {refusals} refusals"
        );
    }
}

/// Whether every incarnation has an end in these lines. The log's writer is a moment behind the facts.
pub fn all_ended(lines: &[Value], agent: &str, incarnations: u64) -> bool {
    let ends = ends(lines, agent);
    (1..=incarnations).all(|number| ends.contains_key(&number))
}

/// Exit records, and refused starts, of each incarnation.
fn ends(lines: &[Value], agent: &str) -> BTreeMap<u64, (usize, usize)> {
    let mut ends = BTreeMap::<u64, (usize, usize)>::new();
    for line in lines.iter().filter(|line| line["agentId"] == agent) {
        // A start that was not let in has no incarnation.
        let Some(number) = line["incarnation"].as_u64() else { continue };
        match line["event"].as_str().unwrap_or_default() {
            "agent.exit" => ends.entry(number).or_default().0 += 1,
            "agent.start_superseded" | "agent.start_failed" => {
                ends.entry(number).or_default().1 += 1;
            }
            _ => {}
        }
    }
    ends
}
