//! What became of the run before this one: the black box that it left, the end that an init process saw, and
//! the kernel's counters, put before [`bulkhead_store::previous`].

use bulkhead_memory::Kernel;
use bulkhead_model::event::PreviousSummary;
use bulkhead_model::previous::{Cause, Confidence};
use bulkhead_model::{Event, Level, PreviousRun};
use bulkhead_store::blackbox::{CleanMarker, Found, Previous, Run};
use bulkhead_store::previous::{Surroundings, WaitStatus, judge};

use crate::init::ProcessEnd;

/// What is known of the run before.
pub struct Before {
    run: PreviousRun,
    /// There was none, as far as anybody knows.
    is_first: bool,
}

impl Before {
    /// Judges what was found of the run before. `end` is what an init process saw of the process before;
    /// its counters are then those to compare with, because they were read at once.
    pub fn judge(found: &Found, end: Option<&ProcessEnd>, kernel: &Kernel) -> Self {
        let now = Surroundings {
            boot_id: kernel.boot_id(),
            wait: end.and_then(wait_status),
            memory: end.map_or_else(|| kernel.counters(), |end| end.counters_after.clone()),
        };
        let is_of = |end: &ProcessEnd| {
            found.run().is_some_and(|previous| i64::from(previous.run.pid) == i64::from(end.pid))
        };
        let run = match (found, end) {
            (Found::Unreadable { reason, kept_as }, _) => {
                let mut run = judge(None, &now);
                let kept = kept_as.as_ref().map(|path| format!(", kept as {}", path.display()));
                let kept = kept.unwrap_or_default();
                run.evidence[0] = format!("its black box could not be read: {reason}{kept}");
                run
            }
            (_, Some(end)) if !is_of(end) => judge_without_blackbox(end, &now),
            (found, _) => judge(found.run(), &now),
        };
        let is_first = matches!(found, Found::Nothing) && end.is_none();
        Self { run, is_first }
    }

    /// For `container.cold_start`.
    pub fn summary(&self) -> PreviousSummary {
        PreviousSummary {
            run_id: self.run.previous_run_id.clone(),
            cause: self.run.cause,
            confidence: self.run.confidence,
        }
    }

    /// What is known.
    pub fn run(&self) -> &PreviousRun {
        &self.run
    }

    /// `container.previous_run`.
    pub fn into_event(self) -> Event {
        let level = match self.run.cause {
            Cause::Clean | Cause::OrchestratorStop => Level::Info,
            Cause::Unknown if self.is_first => Level::Info,
            _ => Level::Error,
        };
        Event::PreviousRun { level, run: Box::new(self.run) }
    }
}

/// A run that left no word behind.
fn nothing_but(run: Run) -> Previous {
    Previous {
        run,
        reached: Vec::new(),
        stop_intent_at: None,
        last_live: None,
        uptime: None,
        in_line: false,
        last_log_seq: None,
        clean: CleanMarker::Absent,
        records: Vec::new(),
        in_flight: Vec::new(),
        untracked: 0,
        torn: 0,
        missing: 0,
    }
}

/// Names the cause of an end of which only the parent knows.
fn judge_without_blackbox(end: &ProcessEnd, now: &Surroundings) -> PreviousRun {
    let said_nothing = nothing_but(Run {
        boot_id: now.boot_id.clone(),
        baseline: end.counters_before.clone(),
        ..Run::default()
    });
    let mut run = judge(Some(&said_nothing), now);
    (run.previous_run_id, run.last_ts) = (None, None);
    if run.cause == Cause::InitFailure {
        // What it did not say it may have reached all the same.
        (run.cause, run.confidence) = (Cause::Unknown, Confidence::Low);
        run.evidence.remove(0);
    }
    run.evidence.push("it left no black box: it died before it had one, or could have none".into());
    run
}

fn wait_status(end: &ProcessEnd) -> Option<WaitStatus> {
    end.code.map(WaitStatus::Exited).or(end.signal.map(WaitStatus::Signaled))
}

#[cfg(test)]
mod tests {
    use bulkhead_model::Timestamp;
    use bulkhead_model::previous::MemoryFigures;

    use super::*;

    fn end(code: Option<i32>, signal: Option<i32>) -> ProcessEnd {
        let counters = |oom_kills| MemoryFigures {
            oom_kills: Some(oom_kills),
            group_oom_kills: Some(oom_kills),
            ..MemoryFigures::default()
        };
        ProcessEnd {
            pid: 7,
            code,
            signal,
            counters_before: counters(1),
            counters_after: counters(1),
        }
    }

    fn cause(found: &Found, end: Option<&ProcessEnd>) -> (Cause, Level) {
        let before = Before::judge(found, end, &Kernel::here());
        let cause = before.run().cause;
        let Event::PreviousRun { level, .. } = before.into_event() else { panic!("another event") };
        (cause, level)
    }

    #[test]
    fn a_first_boot_is_no_error_and_a_lost_run_is_one() {
        assert_eq!(cause(&Found::Nothing, None), (Cause::Unknown, Level::Info));
        let broken = Found::Unreadable { reason: "no header".into(), kept_as: None };
        assert_eq!(cause(&broken, None), (Cause::Unknown, Level::Error));
        let exited = end(Some(99), None);
        assert_eq!(cause(&Found::Nothing, Some(&exited)), (Cause::Unknown, Level::Error));
    }

    #[test]
    fn an_end_without_a_black_box_is_judged_by_what_the_parent_saw() {
        let fault = end(None, Some(11));
        assert_eq!(cause(&Found::Nothing, Some(&fault)).0, Cause::NativeFault);
        let killed = end(None, Some(9));
        assert_eq!(cause(&Found::Nothing, Some(&killed)).0, Cause::Unknown);
        let mut out_of_memory = killed;
        out_of_memory.counters_after.group_oom_kills = Some(2);
        assert_eq!(cause(&Found::Nothing, Some(&out_of_memory)).0, Cause::OomKill);
    }

    #[test]
    fn the_black_box_of_another_process_is_not_taken_for_that_of_the_dead_one() {
        let run = Run { run_id: "run-1".into(), pid: 6, ..Run::default() };
        let previous = Previous { stop_intent_at: Some(Timestamp(1)), ..nothing_but(run) };
        let found = Found::Run(Box::new(previous));
        let before = Before::judge(&found, Some(&end(None, Some(11))), &Kernel::here());
        assert_eq!((before.run.cause, before.run.previous_run_id), (Cause::NativeFault, None));
        assert_eq!(cause(&found, None).0, Cause::OrchestratorStop);
    }
}
