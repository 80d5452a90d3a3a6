//! What became of the runs before this one: the black boxes that they left, the list of runs beside them, the ends
//! that an init process saw, what is said from outside, and the kernel's counters, put before
//! [`bulkhead_blackbox::previous`].
//!
//! What an evidence sink says comes before all that ([`settle`]): of a run that the disk does not have, its digest there is
//! as good as a black box.
//!
//! As a rule that is one run. A boot that died before it reported anything leaves two: the one before it as well. A
//! black box is believed only when it is of the run that is meant, by its run id: init gives its child one, and the
//! list of runs in the state directory knows which was the last.

use std::path::Path;

use bulkhead_blackbox::previous::{
    Missing, Observations, Outside, WaitStatus, judge, judge_without_box,
};
use bulkhead_blackbox::runs::{KnownRun, Runs};
use bulkhead_blackbox::{Fact, Found, Geometry, Opened, Previous, Record, Run};
use bulkhead_evidence::{Fault, LeftRun};
use bulkhead_memory::Kernel;
use bulkhead_supervisor::{HostDeath, Suspect};
use bulkhead_types::event::PreviousSummary;
use bulkhead_types::previous::{Cause, Confidence, InFlight, MemoryFigures};
use bulkhead_types::{Event, Level, PreviousRun};

use crate::init::ProcessEnd;

/// All that is known of earlier runs.
pub struct Traces<'a> {
    /// The black box in place.
    pub found: &'a Found,
    /// Every black box that can be read.
    pub boxes: &'a [Previous],
    /// Which runs there were on this disk.
    pub runs: &'a Runs,
    /// Ends that an init process saw and nobody reported, oldest first.
    pub ends: &'a [ProcessEnd],
    /// How many it saw before those.
    pub forgotten: u64,
    /// What the container's runtime says of the end before its init process began.
    pub outside: Option<&'a Outside>,
    /// The state directory had a database before anything was restored, so there was a run.
    pub has_database: bool,
    /// The database was restored where there was none; and whether the run that shipped it said that this is all.
    pub restored: Option<bool>,
    /// What a reader should know of what was found outside of this disk.
    pub remark: Option<&'a Remark>,
    /// Documents at the evidence sink that are not believed, one sentence each. Somebody wrote them, so there was a run.
    pub damaged: &'a [String],
}

/// What an evidence sink has to do with a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// About this run; about the last one without.
    pub run_id: Option<String>,
    /// A sentence.
    pub text: String,
}

/// Puts what the sink says of the last run beside what the disk has. Of two that do not agree the newer run counts, by
/// its number, and the other one is a stale copy. Returns a remark about it, and whether the sink is believed.
pub fn settle(
    runs: &mut Runs,
    boxes: &mut Vec<Previous>,
    at_sink: Result<Option<&LeftRun>, &Fault>,
) -> (Option<Remark>, bool) {
    let run = match at_sink {
        Ok(Some(run)) => run,
        Ok(None) => return (None, false),
        Err(fault) => {
            let text = format!("the evidence sink is of no help: {fault}");
            return (Some(Remark { run_id: None, text }), false);
        }
    };
    let is_of = |run_id: &str| run_id == run.run_id;
    let is_whole_here = boxes.iter().any(|left| is_of(&left.run.run_id));
    let is_listed = runs.unreported().iter().any(|known| is_of(&known.run_id));
    let of_boxes = boxes.iter().map(|left| left.run.number).max().unwrap_or(0);
    let is_newer = run.epoch > runs.last_number().max(of_boxes);
    if is_whole_here || !(is_listed || is_newer) {
        return (None, false);
    }
    if !is_listed {
        runs.go_on_with(run.runs.clone(), run.forgotten_runs);
    }
    boxes.extend(run.previous.clone());
    let text = match run.previous {
        Some(_) => format!(
            "the disk has nothing of it; its digest at the evidence sink is of {}",
            run.written_at
        ),
        None => {
            format!("the evidence sink knows of it, and last heard of it at {}", run.written_at)
        }
    };
    (Some(Remark { run_id: Some(run.run_id.clone()), text }), true)
}

impl Traces<'_> {
    /// The runs whose end has to be reported, oldest first. The last is the run right before this one.
    pub fn unreported(&self) -> Vec<KnownRun> {
        let mut runs = self.runs.unreported().to_vec();
        let in_place = self.found.run().map(|found| &found.run);
        // The list may be of an earlier version, lost, or older than a box that was synced.
        let is_without = runs.is_empty();
        let last = match (is_without, in_place) {
            (true, Some(run)) => run.number,
            _ => self.runs.last_number(),
        };
        for left in self.boxes {
            let run = &left.run;
            let is_in_place = in_place.is_some_and(|found| found.run_id == run.run_id);
            let is_meant = run.number > last || (is_without && is_in_place);
            if is_meant && runs.iter().all(|known| known.run_id != run.run_id) {
                let (run_id, number) = (run.run_id.clone(), run.number);
                runs.push(KnownRun { run_id, number, has_box: true, verdict: None });
            }
        }
        runs.sort_by_key(|run| run.number);
        // Those that left nothing died before they could. Each comes after the one that init saw before it.
        let mut place = runs.len();
        if let Some(first) = self.ends.iter().find_map(|end| place_of(&runs, end)) {
            place = first;
        }
        for end in self.ends {
            if let Some(known) = place_of(&runs, end) {
                place = known + 1;
                continue;
            }
            let before = place.checked_sub(1).map_or(last, |before| runs[before].number);
            let number = runs.get(place).map_or(before + 1, |next| next.number.min(before + 1));
            let run_id = end.run_id.clone();
            runs.insert(place, KnownRun { run_id, number, has_box: false, verdict: None });
            place += 1;
        }
        runs
    }

    /// Puts a new black box in place. Only two are kept, and boots may be killed one after the other before they are
    /// listed: so the list says first why earlier runs ended. A box that cannot be read says nothing that could be lost.
    pub fn open_box(&self, dir: &Path, run: &Run, geometry: Geometry, kernel: &Kernel) -> Opened {
        if !matches!(self.found, Found::Unreadable { .. }) {
            let verdicts = Before::judge(self, kernel).keep(self.unreported());
            // What cannot be written is reported when this run is listed.
            let _ = self.runs.clone().keep(verdicts);
        }
        bulkhead_blackbox::open(dir, run, geometry)
    }

    /// How many ends nobody can report any more, at least. The list and init may have forgotten the same ones.
    fn forgotten(&self) -> u64 {
        self.forgotten.max(self.runs.forgotten())
    }

    /// The number of the run that begins now.
    pub fn next_number(&self) -> u64 {
        let known = self.unreported().last().map_or(0, |run| run.number);
        let boxes = self.boxes.iter().map(|left| left.run.number);
        boxes.fold(known.max(self.runs.last_number()), u64::max) + 1
    }

    /// `is_last_before_init`: nobody here saw its end, and the container's runtime may have.
    fn judge(
        &self,
        run: Option<&KnownRun>,
        is_last_before_init: bool,
        kernel: &Kernel,
    ) -> PreviousRun {
        if let Some(verdict) = run.and_then(|run| run.verdict.as_ref()) {
            return PreviousRun::clone(verdict);
        }
        let is_of = |run_id: &str| run.is_some_and(|run| run.run_id == run_id);
        let end = self.ends.iter().find(|end| is_of(&end.run_id));
        let outside = self.outside.filter(|_| is_last_before_init);
        let now = Observations {
            boot_id: kernel.boot_id(),
            wait: end.and_then(wait_status),
            lease_lost: end.is_some_and(|end| end.lease_lost),
            outside: outside.cloned(),
            memory: end.map_or_else(|| kernel.counters(), |end| end.counters_after.clone()),
        };
        if let Some(own) = self.boxes.iter().find(|left| is_of(&left.run.run_id)) {
            return judge(own, &now);
        }
        let baseline = end.map_or_else(MemoryFigures::default, |end| end.counters_before.clone());
        let missing = self.missing(run);
        let mut judged = judge_without_box(&missing, baseline, &now);
        if matches!(missing, Missing::Elsewhere { .. }) {
            judged.evidence.extend(self.damaged_sentence());
        }
        PreviousRun { previous_run_id: run.map(|run| run.run_id.clone()), ..judged }
    }

    /// What agents may have to do with the end of `run`. A guess is no reason to hold one of them for guilty.
    fn death(&self, run: &PreviousRun) -> Option<HostDeath> {
        if !HostDeath::counts(run.cause) || run.confidence < Confidence::Medium {
            return None;
        }
        let run_id = run.previous_run_id.clone()?;
        let left = self.boxes.iter().find(|left| left.run.run_id == run_id)?;
        let began = |work: &InFlight| {
            let started = |record: &Record| match record.fact() {
                Some(Fact::AgentStart(start)) => {
                    let is_it = start.agent_id == work.agent_id.as_str()
                        && start.incarnation == work.incarnation;
                    is_it.then_some(record.at)
                }
                _ => None,
            };
            left.records.iter().rev().find_map(started)
        };
        let suspects = left.in_flight.iter();
        let suspects = suspects.map(|work| Suspect { began: began(work), work: work.clone() });
        Some(HostDeath {
            run_id,
            cause: run.cause,
            at: left.last_ts(),
            suspects: suspects.collect(),
        })
    }

    fn missing(&self, run: Option<&KnownRun>) -> Missing {
        let had_one = run.is_some_and(|run| run.has_box);
        let is_bare =
            matches!(self.found, Found::Nothing) && !self.runs.is_there() && !self.has_database;
        match (run, self.found) {
            (Some(run), _) if !run.has_box && !is_bare => Missing::NeverHad,
            (_, Found::Unreadable { reason, kept_as }) => {
                let kept = kept_as.as_ref().map(|path| format!(", kept as {}", path.display()));
                let kept = kept.unwrap_or_default();
                Missing::Unreadable(format!("its black box could not be read: {reason}{kept}"))
            }
            (_, Found::Run(other)) => Missing::Lost(format!(
                "its black box is missing: the one found belongs to run {}",
                other.run.run_id
            )),
            (_, Found::Nothing) if had_one => Missing::Lost("its black box is missing".into()),
            (Some(_), Found::Nothing) => Missing::Lost(
                "its init process observed the end, and the state directory has no trace of it"
                    .into(),
            ),
            (None, Found::Nothing) if self.outside.is_some() => Missing::Lost(
                "an end is reported from outside, and the state directory has no trace of a run"
                    .into(),
            ),
            (None, Found::Nothing) if !is_bare => Missing::Lost(
                "the state directory was used by earlier runs, but has no black box".into(),
            ),
            (None, Found::Nothing) if self.restored.is_some() => {
                // What cannot be read may be of a run after the one that shipped.
                let ended = self.restored == Some(true) && self.damaged.is_empty();
                Missing::Elsewhere { ended }
            }
            (None, Found::Nothing) => self.damaged_sentence().map_or(Missing::NoRun, Missing::Lost),
        }
    }

    fn damaged_sentence(&self) -> Option<String> {
        let damaged = self.damaged.join("; ");
        (!damaged.is_empty()).then(|| {
            format!("an earlier run left evidence at the sink that cannot be read: {damaged}")
        })
    }
}

/// What became of the runs before.
pub struct Before {
    /// Oldest first, never empty.
    judged: Vec<PreviousRun>,
    deaths: Vec<HostDeath>,
    /// Ends before those, of which nothing is known any more.
    forgotten: u64,
}

impl Before {
    /// Judges what was found.
    pub fn judge(traces: &Traces<'_>, kernel: &Kernel) -> Self {
        let unreported = traces.unreported();
        let is_unseen = |run: &KnownRun| traces.ends.iter().all(|end| end.run_id != run.run_id);
        // Init has forgotten only what came after it.
        let last_before = unreported.iter().rposition(is_unseen).filter(|_| traces.forgotten == 0);
        let judge = |(index, run): (usize, &KnownRun)| {
            traces.judge(Some(run), Some(index) == last_before, kernel)
        };
        let mut judged: Vec<_> = unreported.iter().enumerate().map(judge).collect();
        if judged.is_empty() {
            judged.push(traces.judge(None, true, kernel));
        }
        if let Some(remark) = traces.remark {
            let is_it = |run: &PreviousRun| run.previous_run_id == remark.run_id;
            let last = judged.len() - 1;
            let about = judged.iter().position(is_it).filter(|_| remark.run_id.is_some());
            judged[about.unwrap_or(last)].evidence.push(remark.text.clone());
        }
        let deaths = judged.iter().filter_map(|run| traces.death(run)).collect();
        Self { judged, deaths, forgotten: traces.forgotten() }
    }

    /// Deaths of the host that agents may have caused, oldest first.
    pub fn take_deaths(&mut self) -> Vec<HostDeath> {
        std::mem::take(&mut self.deaths)
    }

    /// `runs`, which are those that were judged, with what is known now. They have to be reported until they were.
    pub fn keep(&self, mut runs: Vec<KnownRun>) -> Vec<KnownRun> {
        for (run, judged) in runs.iter_mut().zip(&self.judged) {
            run.verdict = Some(Box::new(judged.clone()));
        }
        runs
    }

    /// For `container.cold_start`.
    pub fn summary(&self) -> PreviousSummary {
        let run = self.run();
        PreviousSummary {
            run_id: run.previous_run_id.clone(),
            cause: run.cause,
            confidence: run.confidence,
        }
    }

    /// What is known of the run right before this one.
    pub fn run(&self) -> &PreviousRun {
        // There is always one.
        &self.judged[self.judged.len() - 1]
    }

    /// `container.previous_run`.
    pub fn into_event(mut self) -> Option<Event> {
        // There is always one.
        let run = Box::new(self.judged.pop()?);
        let level = match run.cause {
            Cause::Clean | Cause::OrchestratorStop | Cause::None => Level::Info,
            Cause::UncaughtException
            | Cause::OomKill
            | Cause::MemoryThrash
            | Cause::NativeFault
            | Cause::VmReplaced
            | Cause::InitFailure
            | Cause::LeaseLost
            | Cause::ExternalSigkill
            | Cause::Lost
            | Cause::Unknown => Level::Error,
        };
        Some(Event::PreviousRun {
            level,
            run,
            earlier: self.judged,
            earlier_forgotten: self.forgotten,
        })
    }
}

/// Where the run of this end is in the list.
fn place_of(runs: &[KnownRun], end: &ProcessEnd) -> Option<usize> {
    runs.iter().position(|run| run.run_id == end.run_id)
}

fn wait_status(end: &ProcessEnd) -> Option<WaitStatus> {
    end.code.map(WaitStatus::Exited).or(end.signal.map(WaitStatus::Signaled))
}

#[cfg(test)]
mod tests;
