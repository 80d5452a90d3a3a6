//! The report, made from what was judged.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AgentCount, Evidence, InputCounts, Intervals, Ongoing, Picture, Report, Restart, SCHEMA,
    Summary, Undecided, Verdict,
};
use crate::Options;
use crate::collect::Collected;
use crate::curve::samples;
use crate::judge::{Judgement, judge_town};
use crate::read::stamp;
use crate::rules::{Hypothesis, Sign};
use crate::runs::{Run, Town};
use crate::words::counted;

/// Restarts that are listed one by one, the last ones. All of them are counted.
const MAX_RESTARTS: usize = 20_000;

/// Agents in the summary.
const MAX_AGENTS: usize = 50;

/// Points of a picture for each town.
const MAX_POINTS: usize = 4_000;

/// Makes the report.
pub fn build(
    collected: &Collected,
    names: &[String],
    (towns, homeless): &(Vec<Town>, u64),
    doubled: u64,
    options: &Options,
    mut notes: Vec<String>,
) -> Report {
    let builder = Builder { collected, names };
    let (mut ended, mut ongoing, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut pictures, mut town_count, mut run_count) = (Vec::new(), 0, 0);
    for town in towns {
        let name = town.name.map(|name| collected.texts.towns.text(name).to_owned());
        if options.town.is_some() && options.town != name {
            continue;
        }
        town_count += 1;
        run_count += town.runs.len();
        let mut picture = builder.picture(name.as_deref(), town);
        let judged = judge_town(town);
        for (at, (run, judgement)) in town.runs.iter().zip(&judged).enumerate() {
            let next = town.next(at);
            let reported = run.seen.iter().any(|seen| seen.spec.is_about_previous());
            if next.is_none() && !reported {
                ongoing.extend(builder.ongoing(name.as_deref(), run, judgement));
                continue;
            }
            let when = next.map_or(run.end(), |next| next.start);
            if options.since.is_some_and(|since| when < since)
                || options.until.is_some_and(|until| when > until)
            {
                continue;
            }
            let restart = builder.restart(name.as_deref(), run, next, judgement);
            picture.ends.push((when, restart.verdict));
            ended.push((when, restart));
            if let Some(next) = next {
                starts.push(next.start.saturating_sub(run.start).max(0) as u64);
            }
        }
        pictures.push(picture);
    }
    ended.sort_by(|(a, x), (b, y)| (a, &x.town).cmp(&(b, &y.town)));
    let mut restarts: Vec<Restart> = ended.into_iter().map(|(_, restart)| restart).collect();
    let mut summary = summary(&restarts, starts);
    (summary.towns, summary.runs, summary.ongoing) = (town_count, run_count, ongoing);
    summary.input = counts(collected, doubled, *homeless);
    if restarts.len() > MAX_RESTARTS {
        let cut = restarts.len() - MAX_RESTARTS;
        restarts.drain(..cut);
        notes.push(format!("the first {cut} restarts are counted and not listed"));
    }
    notes.extend(towns.iter().filter(|town| town.is_parallel()).map(|town| {
        let name = town.name.map_or("(no town)", |name| collected.texts.towns.text(name));
        format!("{name}: two containers at once: separate their logs, or set town.id for each")
    }));
    notes.extend(what_is_missing(towns, *homeless));
    summary.notes = notes;
    Report { schema: SCHEMA, restarts, summary, pictures }
}

fn counts(collected: &Collected, doubled: u64, homeless: u64) -> InputCounts {
    let counts = &collected.counts;
    InputCounts {
        bytes: counts.bytes,
        lines: counts.lines,
        json_lines: counts.json,
        cut_lines: counts.cut,
        text_lines: counts.text,
        binary_lines: counts.binary,
        doubled_lines: doubled,
        homeless_lines: homeless,
    }
}

fn what_is_missing(towns: &[Town], homeless: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let runs = towns.iter().flat_map(|town| &town.runs);
    let lost = runs.fold(0, |sum: u64, run| sum.saturating_add(run.lost_lines));
    if lost > 0 {
        notes.push(format!("missing: {}", counted(lost, "numbered line")));
    }
    if homeless > 0 {
        notes.push(format!("{homeless} lines that matter name no town, and their log has several"));
    }
    notes
}

struct Builder<'a> {
    collected: &'a Collected,
    names: &'a [String],
}

impl Builder<'_> {
    fn run_id(&self, run: &Run) -> Option<String> {
        run.id.map(|id| self.collected.texts.runs.text(id).to_owned())
    }

    fn restart(
        &self,
        town: Option<&str>,
        run: &Run,
        next: Option<&Run>,
        judgement: &Judgement<'_>,
    ) -> Restart {
        let verdict =
            judgement.verdict.map_or(Verdict::Undecided(Undecided::Undecided), Verdict::Of);
        let texts = &self.collected.texts;
        let agents: BTreeSet<_> = judgement
            .proofs
            .iter()
            .filter(|proof| proof.rule.weight > 0)
            .filter_map(|proof| proof.seen?.agent)
            .map(|agent| texts.agents.text(agent).to_owned())
            .collect();
        Restart {
            town: town.map(str::to_owned),
            at: next.map(|next| stamp::format(next.start)),
            last_line_at: run.last.map(|last| stamp::format(last.ts)),
            run_id: self.run_id(run),
            lived_ms: run.end().saturating_sub(run.start).max(0) as u64,
            lost_lines: run.lost_lines,
            verdict,
            confidence: judgement.confidence,
            also: judgement.also.clone(),
            agents: agents.into_iter().collect(),
            evidence: judgement.proofs.iter().map(|proof| self.evidence(proof)).collect(),
            next: next_step(town, run, judgement),
        }
    }

    fn evidence(&self, proof: &crate::judge::Proof<'_>) -> Evidence {
        let texts = &self.collected.texts;
        let mut text = proof.found.clone();
        if let Some(seen) = proof.seen {
            if let Some(agent) = seen.agent {
                text = format!("{text} (agent {})", texts.agents.text(agent));
            }
            if let Some(detail) = seen.cell.detail {
                text = format!("{text}: {}", texts.details.text(detail));
            }
        }
        let at = proof.seen.map(|seen| seen.cell.last);
        Evidence {
            hypothesis: proof.rule.hypothesis,
            r#for: proof.rule.weight > 0,
            weight: proof.rule.weight,
            file: at.and_then(|at| self.names.get(usize::from(at.input)).cloned()),
            line: at.map(|at| at.line),
            text,
            reason: proof.rule.reason.to_owned(),
        }
    }

    fn ongoing(&self, town: Option<&str>, run: &Run, judged: &Judgement<'_>) -> Option<Ongoing> {
        let hypotheses: Vec<_> = judged.verdict.into_iter().chain(judged.also.clone()).collect();
        (!hypotheses.is_empty()).then(|| Ongoing {
            town: town.map(str::to_owned),
            run_id: self.run_id(run),
            hypotheses,
        })
    }

    fn picture(&self, town: Option<&str>, town_runs: &Town) -> Picture {
        let mut picture = Picture {
            town: town.unwrap_or("(no town)").to_owned(),
            runs: Vec::new(),
            memory: Vec::new(),
            limit_mb: None,
            ends: Vec::new(),
            events: Vec::new(),
        };
        for run in &town_runs.runs {
            picture.runs.push((run.start, run.end()));
            for sample in samples(run) {
                picture.memory.push((sample.ts, sample.memory.rss));
                let limit = sample.memory.limit;
                picture.limit_mb = picture.limit_mb.or((limit > 0.0).then_some(limit));
            }
            if picture.memory.last().is_some_and(|(_, mb)| !mb.is_nan()) {
                picture.memory.push((run.end(), f32::NAN));
            }
            let reported = run.seen.iter().filter(|seen| {
                !matches!(seen.spec.sign, Sign::Memory | Sign::Boot | Sign::Supervised)
                    && !seen.spec.is_about_previous()
            });
            picture.events.extend(reported.map(|seen| (seen.cell.last.ts, seen.spec.says)));
        }
        thin_out(&mut picture.memory);
        thin_out(&mut picture.events);
        picture
    }
}

fn thin_out<T>(points: &mut Vec<T>) {
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    let mut at = 0;
    points.retain(|_| {
        at += 1;
        (at - 1) % step == 0
    });
}

fn next_step(town: Option<&str>, run: &Run, judgement: &Judgement<'_>) -> String {
    if let Some(hypothesis) = judgement.verdict {
        let asked = (hypothesis == Hypothesis::H4).then(|| who_asked(town, run)).flatten();
        let next = asked.unwrap_or_else(|| hypothesis.next());
        return match hypothesis {
            Hypothesis::H13 if !is_supervised(run) => format!("{next}; {WITH_INIT}"),
            _ => next.to_owned(),
        };
    }
    if !judgement.also.is_empty() {
        let steps: Vec<_> = judgement.also.iter().take(2).map(|one| one.next()).collect();
        return steps.join("; or ");
    }
    if run.last.is_none() {
        return "none of its lines is here: look whether its log was kept".into();
    }
    if run.of(Sign::DiskFull).next().is_some() {
        return DISK_FULL.into();
    }
    let mut steps = Vec::new();
    if run.of(Sign::Memory).next().is_none() {
        steps.push(
            "log memory (container.memory_usage): without it a kill for memory looks like nothing",
        );
    }
    steps.push("ask the platform for the exit code and who stopped it");
    if run.id.is_some() && !is_supervised(run) {
        steps.push(WITH_INIT);
    }
    steps.join("; ")
}

const DISK_FULL: &str = "make room in the state directory: its disk was full, so the run may have no black box to tell from";

const WITH_INIT: &str = "run with --supervise, so that init sees the signal";

/// An init process watched over it, as it says itself.
fn is_supervised(run: &Run) -> bool {
    run.of(Sign::Supervised).next().is_some()
}

/// What to do about a request whose signal is known, and that no line of the control plane speaks of.
fn who_asked(town: Option<&str>, run: &Run) -> Option<&'static str> {
    let seen = |sign| run.of(sign).next().is_some();
    if seen(Sign::ControlPlaneStop) || seen(Sign::Eviction) {
        return None;
    }
    // One that follows only cuts the grace period short.
    match run.of(Sign::StopIntent).find_map(|seen| seen.spec.asked_by())? {
        "SIGTERM" if town.is_some() => None,
        "SIGTERM" => Some(
            "nothing, if somebody stopped it: SIGTERM comes from `kill`, from a service manager or from the platform, \
             whose logs say why",
        ),
        "SIGINT" => Some(
            "nothing, if somebody pressed Ctrl-C; some platforms stop a container with SIGINT as well, and their logs \
             say so",
        ),
        _ => Some("nothing, if somebody ended it at its terminal or closed that"),
    }
}

fn summary(restarts: &[Restart], mut intervals: Vec<u64>) -> Summary {
    let (mut causes, mut agents) = (BTreeMap::new(), BTreeMap::new());
    for restart in restarts {
        *causes.entry(restart.verdict.id().to_owned()).or_default() += 1;
        for agent in &restart.agents {
            *agents.entry(agent.clone()).or_default() += 1;
        }
    }
    let mut agents: Vec<AgentCount> =
        agents.into_iter().map(|(agent, restarts)| AgentCount { agent, restarts }).collect();
    agents.sort_by(|a, b| b.restarts.cmp(&a.restarts).then_with(|| a.agent.cmp(&b.agent)));
    agents.truncate(MAX_AGENTS);
    intervals.sort_unstable();
    let share = |of: usize| intervals[(intervals.len() - 1) * of / 4];
    Summary {
        restarts: restarts.len(),
        unfollowed: restarts.iter().filter(|restart| restart.at.is_none()).count(),
        undecided: causes.get("undecided").copied().unwrap_or(0),
        towns: 0,
        runs: 0,
        causes,
        intervals: (!intervals.is_empty()).then(|| Intervals {
            median_ms: share(2),
            lower_quartile_ms: share(1),
            upper_quartile_ms: share(3),
            min_ms: share(0),
            max_ms: share(4),
        }),
        agents,
        ongoing: Vec::new(),
        input: InputCounts::default(),
        notes: Vec::new(),
    }
}
