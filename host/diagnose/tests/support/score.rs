//! Counting: what was said against what was done.

use std::collections::BTreeMap;

use bulkhead_diagnose::{Confidence, Report, Restart, Verdict, parse_time};

use super::{Log, Which};

/// A next run begins that close to where it is expected.
const NEAR_MS: i64 = 20_000;

/// Hits and misses of a label.
#[derive(Debug, Default, Clone, Copy)]
pub struct Score {
    pub hits: u32,
    /// Said and not so.
    pub wrong: u32,
    /// So and not said.
    pub missed: u32,
}

impl Score {
    pub fn precision(&self) -> f64 {
        f64::from(self.hits) / f64::from((self.hits + self.wrong).max(1))
    }

    pub fn recall(&self) -> f64 {
        f64::from(self.hits) / f64::from((self.hits + self.missed).max(1))
    }
}

/// Scores by label; `undecided` is one of them.
#[derive(Debug, Default)]
pub struct Scores {
    pub by_label: BTreeMap<String, Score>,
    /// High confidence in something that was not so.
    pub confident_and_wrong: Vec<String>,
    /// What else was not right.
    pub mistakes: Vec<String>,
    pub ends: usize,
}

impl Scores {
    /// Adds a log.
    pub fn add(&mut self, log: &Log, report: &Report) {
        let mut unclaimed: Vec<&Restart> = report.restarts.iter().collect();
        for truth in &log.truths {
            self.ends += 1;
            let is_it = |restart: &&Restart| match &truth.which {
                Which::Run(run) => restart.run_id.as_ref() == Some(run),
                Which::At(at) => {
                    let said = restart.at.as_ref().and_then(|text| parse_time(text.as_bytes()));
                    said.is_some_and(|(said, _)| (said - at).abs() <= NEAR_MS)
                }
            };
            let found = unclaimed.iter().position(is_it).map(|at| unclaimed.remove(at));
            let said = found.map_or_else(Vec::new, said);
            let wanted = match &truth.labels[..] {
                [] => vec!["undecided".to_owned()],
                labels => labels.to_vec(),
            };
            for label in &said {
                let score = self.by_label.entry(label.clone()).or_default();
                if wanted.contains(label) { score.hits += 1 } else { score.wrong += 1 }
            }
            for label in wanted.iter().filter(|label| !said.contains(label)) {
                self.by_label.entry(label.clone()).or_default().missed += 1;
            }
            let verdict = found.map(|restart| (restart.verdict.id(), restart.confidence));
            if said != wanted
                && (said.len() != wanted.len() || said.iter().any(|one| !wanted.contains(one)))
            {
                self.mistakes.push(format!(
                    "{} {:?}: {wanted:?} was reported as {said:?}",
                    log.town, truth.which
                ));
            }
            if let Some((id, Confidence::High)) = verdict
                && !wanted.iter().any(|label| label == id)
            {
                self.confident_and_wrong
                    .push(format!("{} {:?}: {wanted:?} is {id}", log.town, truth.which));
            }
        }
    }

    /// A table for people.
    pub fn table(&self, title: &str) -> String {
        let mut text =
            format!("{title}: {} ends\n  cause      precision  recall   of\n", self.ends);
        for (label, score) in &self.by_label {
            text.push_str(&format!(
                "  {label:<10} {:>9.3} {:>7.3} {:>4}\n",
                score.precision(),
                score.recall(),
                score.hits + score.missed
            ));
        }
        text
    }

    /// Labels below a goal.
    pub fn below(&self, goal: f64) -> Vec<String> {
        // An end that is left undecided without need is missed where it belongs; it is no wrong verdict.
        let bad = |(label, score): &(&String, &Score)| {
            (*label != "undecided" && score.precision() < goal) || score.recall() < goal
        };
        self.by_label.iter().filter(bad).map(|(label, _)| label.clone()).collect()
    }
}

fn said(restart: &Restart) -> Vec<String> {
    let first = restart.verdict.id().to_owned();
    let also = restart.also.iter().map(|one| one.id().to_owned());
    match restart.verdict {
        Verdict::Of(_) => std::iter::once(first).chain(also).collect(),
        // Two that lead equally are said, although none is the verdict.
        Verdict::Undecided(_) if restart.also.is_empty() => vec![first],
        Verdict::Undecided(_) => also.collect(),
    }
}
