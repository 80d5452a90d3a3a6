//! The judge: asks every rule about a run that ended, adds up, and says what leads, or that nothing does.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::collect::names::Name;
use crate::curve::{Shape, samples};
use crate::rules::{Hypothesis, RULES, Rule, Sign, Test};
use crate::runs::{Run, Seen, Town};
use crate::words::counted;

/// From here on something explains an end.
const EXPLAINS: i32 = 5;

/// A verdict leads every other explanation by this.
const LEAD: i32 = 2;

/// What it takes to be sure: this much, this lead, no more than this against, and one rule of this weight, which is
/// the word of somebody who saw it. What only went on at that time is never sure.
const SURE: (i32, i32, i32, i32) = (9, 3, -2, 7);

/// What it takes to be rather sure.
const RATHER_SURE: i32 = 6;

// `types` has one as well, of the judgement that a run writes about the one before. This crate imports nothing of that.
/// How sure a verdict is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// It leads, by little or on few signs.
    Low,
    /// More than one thing speaks for it, or one that is enough by itself.
    Medium,
    /// Somebody saw it, and nothing else comes near.
    High,
}

/// A rule that held.
#[derive(Debug, Clone)]
pub struct Proof<'a> {
    /// Which one.
    pub rule: &'static Rule,
    /// The line that shows it best.
    pub seen: Option<&'a Seen>,
    /// What was found, as a sentence.
    pub found: String,
}

impl Proof<'_> {
    /// Whether it is the word of the next run.
    fn is_report(&self) -> bool {
        self.rule.weight > 0 && self.seen.is_some_and(|seen| seen.spec.is_about_previous())
    }
}

/// What is said of an end.
#[derive(Debug)]
pub struct Judgement<'a> {
    /// What explains it; none when that cannot be decided.
    pub verdict: Option<Hypothesis>,
    /// How sure that is; of an undecided end, low.
    pub confidence: Confidence,
    /// What speaks for itself beside the verdict; of an undecided end, the candidates.
    pub also: Vec<Hypothesis>,
    /// Every rule that held, the heaviest first.
    pub proofs: Vec<Proof<'a>>,
}

/// A run of a town, and what the rules ask about it.
struct Case<'a, 'b> {
    run: &'a Run,
    next: Option<&'a Run>,
    end: i64,
    /// Of this run.
    shape: Option<Shape>,
    /// Of the others.
    shapes: Vec<Shape>,
    is_doubled: bool,
    in_runs: &'b InRuns,
}

/// In how many runs of a town an agent has a sign.
type InRuns = HashMap<(Sign, Name), u32>;

/// What was found for a test.
type Found<'a> = Option<(Option<&'a Seen>, String)>;

/// Judges each run of a town, whether it ended or not.
pub fn judge_town<'a>(town: &'a Town) -> Vec<Judgement<'a>> {
    let mut in_runs = InRuns::new();
    for run in &town.runs {
        let pairs = run.seen.iter().filter_map(|seen| Some((seen.spec.sign, seen.agent?)));
        for pair in pairs.collect::<HashSet<_>>() {
            *in_runs.entry(pair).or_default() += 1;
        }
    }
    let shapes: Vec<_> = town.runs.iter().map(|run| Shape::of(&samples(run))).collect();
    let case = |(at, run): (usize, &'a Run)| {
        // A ceiling shows in the neighbours, and a town may have thousands of runs.
        let near = at.saturating_sub(20)..(at + 21).min(shapes.len());
        let others = near.filter(|other| *other != at).filter_map(|other| shapes[other]);
        let case = Case {
            run,
            next: town.next(at),
            end: end_of(run, town.next(at)),
            shape: shapes[at],
            shapes: others.collect(),
            is_doubled: town.is_doubled,
            in_runs: &in_runs,
        };
        case.judge()
    };
    town.runs.iter().enumerate().map(case).collect()
}

/// When a run fell silent; no later than the next one began.
fn end_of(run: &Run, next: Option<&Run>) -> i64 {
    next.map_or(run.end(), |next| run.end().min(next.start.max(run.start)))
}

impl<'a> Case<'a, '_> {
    fn judge(&self) -> Judgement<'a> {
        let mut proofs: Vec<Proof<'a>> = RULES
            .iter()
            .filter_map(|rule| {
                let (seen, found) = self.holds(&rule.test)?;
                Some(Proof { rule, seen, found })
            })
            .collect();
        let mut sums: BTreeMap<Hypothesis, (i32, i32, i32)> = BTreeMap::new();
        for proof in &proofs {
            let (sum, against, best) = sums.entry(proof.rule.hypothesis).or_default();
            *sum += proof.rule.weight;
            *against += proof.rule.weight.min(0);
            *best = proof.rule.weight.max(*best);
        }
        proofs.sort_by_key(|proof| -proof.rule.weight.abs());
        let mut explanations: Vec<_> =
            sums.into_iter().filter(|(_, (sum, ..))| *sum >= EXPLAINS).collect();
        explanations.sort_by_key(|(hypothesis, (sum, ..))| (-sum, *hypothesis));
        // A host that reports ends contains its agents: their troubles are beside the cause that it reports.
        let explains = |hypothesis| explanations.iter().any(|(one, _)| *one == hypothesis);
        let is_cause_reported =
            proofs.iter().any(|proof| proof.is_report() && explains(proof.rule.hypothesis));
        let competes = |hypothesis: Hypothesis| !(is_cause_reported && hypothesis.is_of_agents());
        let mut rivals = explanations.iter().filter(|(hypothesis, _)| competes(*hypothesis));
        let (first, second) = (rivals.next(), rivals.next());
        let sum_of = |one: Option<&(_, (i32, i32, i32))>| one.map_or(0, |(_, (sum, ..))| *sum);
        let lead = sum_of(first) - sum_of(second);
        let verdict = first.filter(|_| lead >= LEAD);
        let confidence = match verdict {
            Some((_, (sum, against, best))) => {
                let sure =
                    *sum >= SURE.0 && lead >= SURE.1 && *against >= SURE.2 && *best >= SURE.3;
                match (sure, *sum >= RATHER_SURE) {
                    (true, _) => Confidence::High,
                    (false, true) => Confidence::Medium,
                    (false, false) => Confidence::Low,
                }
            }
            None => Confidence::Low,
        };
        let verdict = verdict.map(|(hypothesis, _)| *hypothesis);
        // Where only the next run says so, nobody is surer of it than that run.
        let speaks =
            |proof: &&Proof<'_>| proof.rule.weight > 0 && Some(proof.rule.hypothesis) == verdict;
        let is_hearsay = proofs.iter().filter(speaks).all(Proof::is_report);
        let confidence =
            if is_hearsay { confidence.min(self.reported_confidence()) } else { confidence };
        let all = explanations.iter().map(|(hypothesis, _)| *hypothesis);
        Judgement {
            verdict,
            confidence,
            also: all.filter(|hypothesis| Some(*hypothesis) != verdict).collect(),
            proofs,
        }
    }

    /// How sure the next run is of what it reports.
    fn reported_confidence(&self) -> Confidence {
        let is_said = |sign| self.run.of(sign).next().is_some();
        match (is_said(Sign::ReportedUnsure), is_said(Sign::ReportedRatherSure)) {
            (true, _) => Confidence::Low,
            (false, true) => Confidence::Medium,
            (false, false) => Confidence::High,
        }
    }

    fn within(&self, sign: Sign, seconds: u32) -> impl Iterator<Item = &'a Seen> {
        let from = if seconds == 0 { i64::MIN } else { self.end - i64::from(seconds) * 1000 };
        self.run.of(sign).filter(move |seen| seen.cell.last.ts >= from)
    }

    fn holds(&self, test: &Test) -> Found<'a> {
        match *test {
            Test::Seen { sign, at_least, within_s } => self.seen(sign, at_least, within_s),
            Test::SeenOfOneAgent { sign, at_least, within_s } => {
                self.of_one_agent(sign, at_least, within_s)
            }
            Test::SeenOfAgents { sign, agents, within_s } => {
                let seen: Vec<_> = self.within(sign, within_s).collect();
                let different: HashSet<_> = seen.iter().filter_map(|seen| seen.agent).collect();
                let enough = different.len() >= agents as usize;
                enough.then(|| {
                    (
                        seen.last().copied(),
                        format!("{}, {} agents", seen[0].spec.says, different.len()),
                    )
                })
            }
            Test::Clustered { sign, at_least, within_s, factor } => {
                let found = self.seen(sign, at_least, within_s)?;
                let (inside, outside) = self.rates(sign, within_s);
                (inside >= f64::from(factor) * outside).then_some(found)
            }
            Test::Steady { sign, within_s } => self.steady(sign, within_s),
            Test::SeenInOtherRuns { sign, runs } => {
                let seen = self.run.of(sign).find(|seen| {
                    let key = seen.agent.map(|agent| (sign, agent));
                    key.and_then(|key| self.in_runs.get(&key)).is_some_and(|count| *count > runs)
                })?;
                Some((Some(seen), format!("{}, in other runs as well", seen.spec.says)))
            }
            Test::Twins { sign, within_ms, before_end_s } => {
                self.twins(sign, within_ms, before_end_s, !self.is_doubled)
            }
            Test::MoreThanOneEach { sign, within_ms, before_end_s } => {
                self.twins(sign, within_ms, before_end_s, false)
            }
            Test::Memory(curve) => {
                let shape = self.shape.filter(|shape| shape.is(curve, &self.shapes))?;
                let last = samples(self.run).last().map(|sample| sample.seen);
                Some((last, format!("memory went {}", shape.words())))
            }
            Test::LivedLessThan { seconds } => {
                let lived = self.end - self.run.start;
                let words = format!("it lived {} s", lived / 1000);
                (lived < i64::from(seconds) * 1000).then_some((None, words))
            }
            Test::OtherBoot => {
                let boot = |run: &'a Run| run.of(Sign::Boot).find_map(|seen| seen.cell.boot_id);
                let (own, next) = (boot(self.run)?, boot(self.next?)?);
                let seen = self.next?.of(Sign::Boot).next();
                (own != next).then(|| (seen, "the next run has another boot id".to_owned()))
            }
            Test::All(tests) => self.all(tests),
            Test::Not(test) => match self.holds(test) {
                Some(_) => None,
                None => Some((None, String::new())),
            },
        }
    }

    fn all(&self, tests: &[Test]) -> Found<'a> {
        let mut all: (Option<&Seen>, String) = (None, String::new());
        for test in tests {
            let (seen, words) = self.holds(test)?;
            all.0 = all.0.or(seen);
            if !words.is_empty() {
                let comma = if all.1.is_empty() { "" } else { "; " };
                all.1 = format!("{}{comma}{words}", all.1);
            }
        }
        Some(all)
    }

    fn seen(&self, sign: Sign, at_least: u32, within_s: u32) -> Found<'a> {
        let seen: Vec<_> = self.within(sign, within_s).collect();
        let count = count_of(seen.iter().copied());
        let last = *seen.last()?;
        // The same finding is in two lines.
        let times = if count > 1 && !last.spec.is_about_previous() {
            format!(", {count} times")
        } else {
            String::new()
        };
        let when = match within_s {
            0 => String::new(),
            _ => format!(", {}", before_end(self.end - last.cell.last.ts)),
        };
        (count >= at_least).then(|| (Some(last), format!("{}{times}{when}", last.spec.says)))
    }

    fn of_one_agent(&self, sign: Sign, at_least: u32, within_s: u32) -> Found<'a> {
        let mut counts: HashMap<Name, (u32, &Seen)> = HashMap::new();
        for seen in self.within(sign, within_s) {
            if let Some(agent) = seen.agent {
                let entry = counts.entry(agent).or_insert((0, seen));
                *entry = (entry.0.saturating_add(seen.cell.count), seen);
            }
        }
        let (count, seen) =
            counts.into_values().max_by_key(|(count, seen)| (*count, seen.cell.last))?;
        (count >= at_least)
            .then(|| (Some(seen), format!("{}, {}", seen.spec.says, counted(count.into(), "time"))))
    }

    /// Lines of a sign in a second, within the window and before it.
    fn rates(&self, sign: Sign, within_s: u32) -> (f64, f64) {
        let window = f64::from(within_s);
        let lived = (self.end - self.run.start) as f64 / 1000.0;
        let count = |seen: u32| f64::from(seen);
        let inside = count_of(self.within(sign, within_s));
        let all = count_of(self.run.of(sign));
        // A run that is hardly longer than the window has no usual rate.
        let before = (lived - window).max(window);
        (count(inside) / window, count(all.saturating_sub(inside)) / before)
    }

    fn steady(&self, sign: Sign, within_s: u32) -> Found<'a> {
        let (inside, outside) = self.rates(sign, within_s);
        let from = self.end - i64::from(within_s) * 1000;
        let before: Vec<_> = self.run.of(sign).filter(|seen| seen.cell.last.ts < from).collect();
        let steady = before.len() >= 3 && outside * 3.0 > inside;
        steady.then(|| {
            let words = format!("{}, all the time and not only at the end", before[0].spec.says);
            (before.last().copied(), words)
        })
    }

    /// Two of one agent that are close together. Whether two lines that are the same letter for letter are two
    /// depends on what the log is like.
    fn twins(&self, sign: Sign, within_ms: i64, window_s: u32, same_counts: bool) -> Found<'a> {
        let mut last_of: HashMap<Name, i64> = HashMap::new();
        for seen in self.within(sign, window_s) {
            let Some(agent) = seen.agent else { continue };
            let cell = &seen.cell;
            let before = last_of.insert(agent, cell.last.ts);
            let across = before.map(|before| cell.first.ts - before);
            let gap = [across, cell.gap_ms].into_iter().flatten().min();
            let twins = gap.is_some_and(|gap| (0..=within_ms).contains(&gap));
            if twins || (same_counts && cell.same > 0) {
                let gap = gap.filter(|_| twins).unwrap_or(0);
                return Some((Some(seen), format!("{}, twice within {gap} ms", seen.spec.says)));
            }
        }
        None
    }
}

fn count_of<'a>(seen: impl Iterator<Item = &'a Seen>) -> u32 {
    seen.fold(0, |sum, seen| sum.saturating_add(seen.cell.count))
}

fn before_end(ms: i64) -> String {
    match ms {
        ms if ms < 0 => format!("{:.1} s after its last line", -ms as f64 / 1000.0),
        ms => format!("{:.1} s before its last line", ms as f64 / 1000.0),
    }
}
