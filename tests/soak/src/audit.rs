//! The log, line by line: what must hold whatever was done to the host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use harness::Value;
use harness::output::Drained;

use crate::report::Report;

/// What a run has to report of the one before it: one of these causes.
pub type Causes = &'static [&'static str];

/// A line has fewer bytes than this.
const LINE_BYTES: usize = 16 * 1024;

/// Reads the log as it comes.
#[derive(Default)]
pub struct Audit {
    run: Run,
    /// The highest number of each agent that began, over all runs.
    began: BTreeMap<String, u64>,
    /// What runs that begin from now on have to report, in order.
    expected: VecDeque<Causes>,
    /// The first run has nothing to report on.
    has_begun: bool,
    /// Half a line, or an empty one, was seen: only a run that was killed may leave it.
    broken: Option<String>,
}

/// What is known of the run whose lines come.
#[derive(Default)]
struct Run {
    id: String,
    /// The number of the next line.
    seq: u64,
    /// Numbers that no line had.
    gaps: u64,
    /// The part of a record that comes next, and how many it has.
    part: Option<(u64, u64)>,
    live: BTreeMap<String, u64>,
    /// Crash ids that an exit named, and that a record had.
    exits: BTreeSet<String>,
    records: BTreeSet<String>,
    pid: Option<i32>,
}

impl Audit {
    /// The run that begins next after a death reports one of these causes.
    pub fn expect(&mut self, causes: Causes) {
        self.expected.push_back(causes);
    }

    /// The process id of the run that began last.
    pub fn pid(&self) -> Option<i32> {
        self.run.pid
    }

    /// Deaths that no run has reported on.
    pub fn pending(&self) -> usize {
        self.expected.len()
    }

    /// Reads what came since the last time.
    pub fn read(&mut self, drained: Vec<Drained>, report: &mut Report) {
        for piece in drained {
            match piece {
                Drained::Line(line) => {
                    report.count("log lines read");
                    self.line(&line, report);
                }
                Drained::Broken(text) => {
                    if let Some(before) = self.broken.replace(text) {
                        report.found(format!("a line of the log is no JSON object: {before:?}"));
                    }
                }
            }
        }
    }

    /// No agent is active and nothing is on its way: every crash must have its record.
    pub fn is_settled(&mut self, report: &mut Report) {
        for id in self.run.exits.difference(&self.run.records) {
            report.found(format!("an exit names crash {id}, and the log has no record of it"));
        }
        for id in self.run.records.difference(&self.run.exits) {
            report.found(format!("crash {id} has a record and no exit"));
        }
        self.run.exits.clear();
        self.run.records.clear();
        if !self.run.live.is_empty() {
            report.found(format!("the log has no exit of {:?}", self.run.live));
        }
    }

    /// The run ended by itself with this line.
    fn stopped(&self, line: &Value, report: &mut Report) {
        let dropped = line["droppedLines"].as_u64().unwrap_or(0);
        report.add("log lines dropped and counted", dropped);
        if dropped != self.run.gaps {
            let gaps = self.run.gaps;
            report.found(format!(
                "{gaps} numbers of lines are missing, {dropped} lines were dropped: {line}"
            ));
        }
    }

    fn line(&mut self, line: &Value, report: &mut Report) {
        let event = line["event"].as_str().unwrap_or_default();
        if event == "container.cold_start" {
            self.cold_start(line);
        } else if let Some(text) = self.broken.take() {
            report.found(format!("a line of the log is no JSON object: {text:?}"));
        }
        if line["runId"] != self.run.id.as_str() {
            report.found(format!("a line of another run: {line}"));
        }
        if line.to_string().len() >= LINE_BYTES {
            report.found(format!("a line is longer than platforms pass on: {line}"));
        }
        self.part(line, report);
        match line["seq"].as_u64() {
            Some(seq) if seq >= self.run.seq => {
                self.run.gaps += seq - self.run.seq;
                self.run.seq = seq + 1;
            }
            _ => report
                .found(format!("the number of a line does not rise to {}: {line}", self.run.seq)),
        }
        match event {
            "container.previous_run" => self.previous_run(line, report),
            "container.stopped" => self.stopped(line, report),
            "container.unhandled_rejection" | "container.uncaught_exception" => {
                report.found(format!("the host itself failed: {line}"));
            }
            "agent.start" => self.start(line, report),
            "agent.exit" => self.exit(line, report),
            "agent.crash" => {
                report.count("crash records in the log");
                let id = line["crashId"].as_str().unwrap_or_default().to_owned();
                if !self.run.records.insert(id) {
                    report.found(format!("a crash has two records: {line}"));
                }
            }
            _ => {}
        }
    }

    /// Parts of a record follow each other, one line after the other, but for those whose numbers are missing.
    fn part(&mut self, line: &Value, report: &mut Report) {
        let part = line["part"].as_u64().zip(line["parts"].as_u64());
        let expected = self.run.part.take();
        let is_first = part.is_none_or(|(part, _)| part == 1);
        let is_next = line["seq"].as_u64() == Some(self.run.seq);
        if is_next && expected != part.filter(|_| !is_first) {
            report.found(format!("part {expected:?} of a record should be here: {line}"));
        }
        self.run.part = part.filter(|(part, parts)| part < parts).map(|(part, of)| (part + 1, of));
        if part.is_some() {
            report.count("parts of log records");
        }
    }

    fn cold_start(&mut self, line: &Value) {
        let id = line["runId"].as_str().unwrap_or_default().to_owned();
        let pid = line["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        self.run = Run { id, pid, ..Run::default() };
        self.broken = None;
    }

    fn previous_run(&mut self, line: &Value, report: &mut Report) {
        if !std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let cause = line["cause"].as_str().unwrap_or_default();
        report.count(&format!("ends judged {cause}"));
        match self.expected.pop_front() {
            Some(causes) if causes.contains(&cause) => {}
            Some(causes) => report.found(format!("judged {cause} where it was {causes:?}: {line}")),
            None => report.found(format!("an end that nobody caused: {line}")),
        }
    }

    fn start(&mut self, line: &Value, report: &mut Report) {
        let (agent, number) = named(line);
        report.count("incarnations");
        if let Some(other) = self.run.live.insert(agent.clone(), number) {
            report.found(format!("{agent} {number} began while {other} lived"));
        }
        let before = self.began.insert(agent.clone(), number).unwrap_or(0);
        if number <= before {
            report.found(format!("{agent} {number} began after {before}"));
        }
    }

    fn exit(&mut self, line: &Value, report: &mut Report) {
        let (agent, number) = named(line);
        self.run.live.retain(|id, live| *id != agent || *live != number);
        if let Some(id) = line["crashId"].as_str()
            && !self.run.exits.insert(id.to_owned())
        {
            report.found(format!("two exits name one crash: {line}"));
        }
    }
}

fn named(line: &Value) -> (String, u64) {
    let agent = line["agentId"].as_str().unwrap_or_default().to_owned();
    (agent, line["incarnation"].as_u64().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use harness::json;

    use super::*;

    fn read(lines: &[Value]) -> bool {
        let (mut audit, mut report) = (Audit::default(), Report::default());
        let numbered = lines.iter().zip(0..).map(|(line, seq)| {
            let mut line = line.clone();
            line["runId"] = "r".into();
            if line["seq"].is_null() {
                line["seq"] = seq.into();
            }
            Drained::Line(line)
        });
        audit.read(numbered.collect(), &mut report);
        audit.is_settled(&mut report);
        report.is_clean()
    }

    fn cold() -> Value {
        json!({"event": "container.cold_start", "pid": 1})
    }

    fn of(event: &str, incarnation: u64) -> Value {
        json!({"event": event, "agentId": "a", "incarnation": incarnation})
    }

    #[test]
    fn a_whole_log_is_right_and_each_fault_is_found() {
        let (start, exit) = (of("agent.start", 1), of("agent.exit", 1));
        assert!(read(&[
            cold(),
            start.clone(),
            exit.clone(),
            of("agent.start", 3),
            of("agent.exit", 3)
        ]));
        assert!(!read(&[cold(), start.clone()]), "it is active");
        assert!(!read(&[
            cold(),
            start.clone(),
            of("agent.start", 2),
            exit.clone(),
            of("agent.exit", 2)
        ]));
        assert!(
            !read(&[cold(), of("agent.start", 2), of("agent.exit", 2), start, exit]),
            "a number fell"
        );
        let mut crashed = of("agent.exit", 1);
        crashed["crashId"] = "c".into();
        assert!(!read(&[cold(), of("agent.start", 1), crashed.clone()]), "no record");
        let record = json!({"event": "agent.crash", "crashId": "c"});
        assert!(read(&[cold(), of("agent.start", 1), crashed.clone(), record.clone()]));
        assert!(
            !read(&[cold(), of("agent.start", 1), crashed, record.clone(), record]),
            "two records"
        );
        let stopped =
            |dropped| json!({"event": "container.stopped", "seq": 5, "droppedLines": dropped});
        assert!(read(&[cold(), stopped(4)]));
        assert!(!read(&[cold(), stopped(3)]), "a hole that nobody counted");
        assert!(!read(&[
            cold(),
            json!({"event": "container.previous_run"}),
            json!({"event": "container.previous_run"})
        ]));
    }

    #[test]
    fn parts_of_a_record_come_one_after_the_other_or_their_numbers_are_missing() {
        let part =
            |part: u64, seq: u64| json!({"event": "x.y", "part": part, "parts": 3, "seq": seq});
        let all = [part(1, 1), part(2, 2), part(3, 3), part(1, 4), part(2, 5), part(3, 6)];
        let with = |lines: &[Value]| read(&[&[cold()], lines].concat());
        assert!(with(&all));
        assert!(with(&[part(1, 1), part(3, 3)]), "one was dropped, which its number shows");
        assert!(with(&[part(2, 2), part(3, 3)]), "so was the first");
        assert!(!with(&[part(1, 1), part(3, 2)]));
        assert!(!with(&[part(2, 1), part(3, 2)]));
        assert!(!with(&[part(1, 1), part(2, 2), part(1, 3)]));
        assert!(!with(&[part(1, 1), json!({"event": "x.y", "seq": 2})]));
        let long = json!({"event": "x.y", "message": "x".repeat(LINE_BYTES)});
        assert!(!with(&[long]));
    }
}
