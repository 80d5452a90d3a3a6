//! Why the run before this one ended. Pure: the caller brings what it found.
//!
//! Each cause has a rule that looks at the evidence and says *it was that*, *it was not that, because*, or
//! nothing. The first rule in the table that says yes names the cause; every *not, because* becomes a line
//! of `excluded`.
//!
//! | order | cause | because it comes before |
//! | --- | --- | --- |
//! | 1 | `clean` | all: the run itself says so, about itself, as its last word |
//! | 2 | `lease_lost` | all others: its init process ended it, and says why |
//! | 3 | `uncaught_exception` | its own word again; the abort or exit that follows is only its consequence |
//! | 4 | `native_fault` | a signal that nobody sends from outside |
//! | 5 | `oom_kill` | a stop: a kernel that ran out of memory does not wait for a drain |
//! | 6 | `init_failure` | a stop: a failed boot ends the process deliberately |
//! | 7 | `orchestrator_stop` | a new machine: platforms ask first and take the machine then |
//! | 8 | `vm_replaced` | pressure: it ended with its machine, whatever it was at |
//! | 9 | `memory_thrash` | a kill: an operator that kills a host that does not answer uses SIGKILL too |
//! | 10 | `external_sigkill` | |
//! | 11 | `unknown` | |
//!
//! Of a run that left no black box, [`judge_without_box`] says `none`, `lost` or what a parent saw.
//!
//! No single figure is proof. An exit code of 137 may be anybody's `exit(137)`; an out-of-memory kill may
//! have hit another process; a clean marker may be that of an earlier run.

mod evidence;
mod outside;
mod rules;

use bulkhead_types::previous::{
    Cause, Confidence, LastMemory, MemoryFigures, NOTHING_NAMES_A_CAUSE, PreviousRun, RunState,
};

use crate::{CleanMarker, Previous, Run};
use evidence::Evidence;
pub use outside::Outside;
use rules::{RULES, Verdict};

/// What this run observes of the end of the one before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observations {
    /// Boot id of the kernel now.
    pub boot_id: Option<String>,
    /// How the process ended, when a parent saw it.
    pub wait: Option<WaitStatus>,
    /// Its parent ended it, because the lease of the town was not renewed.
    pub lease_lost: bool,
    /// What the container's runtime says of it.
    pub outside: Option<Outside>,
    /// Memory and the kernel's counters now.
    pub memory: MemoryFigures,
}

/// How a process ended, as its parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl WaitStatus {
    /// From the standard library's; nothing when the process only stopped.
    pub fn of(status: std::process::ExitStatus) -> Option<Self> {
        use std::os::unix::process::ExitStatusExt;
        status.code().map(Self::Exited).or_else(|| status.signal().map(Self::Signaled))
    }
}

/// Why there is no black box of the run before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// There was no run, as far as anybody knows.
    NoRun,
    /// None here. What this run goes on with was shipped by one elsewhere, which recorded at its end that this is all, or not.
    Elsewhere {
        /// It did.
        ended: bool,
    },
    /// It died before it had one, or could have none.
    NeverHad,
    /// It had one, or whatever it had is gone. A sentence with what says so.
    Lost(String),
    /// There is one, and it says nothing. A sentence with why.
    Unreadable(String),
}

/// Names the cause of an end of which no black box says anything. `baseline` are the kernel's counters before the
/// run, where somebody read them.
pub fn judge_without_box(
    missing: &Missing,
    baseline: MemoryFigures,
    now: &Observations,
) -> PreviousRun {
    let run = Run { boot_id: now.boot_id.clone(), baseline, ..Run::default() };
    let mut run = judge(&said_nothing(run), now);
    (run.previous_run_id, run.last_ts, run.last_state) = (None, None, None);
    let seen = now.wait.is_some() || now.outside.is_some();
    let says_little = matches!(run.cause, Cause::Unknown | Cause::InitFailure);
    match missing {
        Missing::NoRun => {
            (run.cause, run.confidence) = (Cause::None, Confidence::Medium);
            (run.evidence, run.excluded) = (Vec::new(), Vec::new());
            run.evidence.push(
                "nothing is here of an earlier run, and nobody says that there was one".into(),
            );
        }
        Missing::Elsewhere { ended } => {
            let (cause, how) = match ended {
                true => (Cause::Clean, "and recorded at its end that this was all"),
                false => (Cause::Lost, "and did not record that this was all"),
            };
            (run.cause, run.confidence, run.excluded) = (cause, Confidence::Medium, Vec::new());
            run.evidence = vec![format!(
                "nothing is here of an earlier run: the database was restored from what one elsewhere shipped, {how}"
            )];
        }
        Missing::Lost(why) if says_little || run.cause == Cause::ExternalSigkill => {
            (run.cause, run.confidence) = (Cause::Lost, Confidence::High);
            run.evidence = vec![why.clone()];
            run.evidence.extend(now.outside.as_ref().map(Outside::sentence));
            run.evidence.push(evidence::how_it_ended(now.wait));
        }
        Missing::Lost(why) | Missing::Unreadable(why) if !says_little => {
            run.evidence.push(why.clone())
        }
        Missing::NeverHad if !says_little => {
            run.evidence
                .push("it left no black box: it died before it had one, or could have none".into());
        }
        Missing::NeverHad | Missing::Lost(_) | Missing::Unreadable(_) => {
            // What it did not say it may have reached all the same.
            (run.cause, run.confidence) = (Cause::Unknown, Confidence::Low);
            run.evidence = vec![match missing {
                Missing::Unreadable(why) => why.clone(),
                _ => "it left no black box: it died before it had one, or could have none".into(),
            }];
            run.evidence.extend(now.outside.as_ref().map(Outside::sentence));
            run.evidence.push(evidence::how_it_ended(now.wait));
        }
    }
    if seen && run.cause == Cause::ExternalSigkill {
        // A stop that it was asked for would stand in what is missing.
        run.confidence = run.confidence.min(Confidence::Medium);
    }
    run
}

/// A run that left no word behind.
fn said_nothing(run: Run) -> Previous {
    Previous {
        run,
        // How far it came is not known.
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

/// Names the cause of the end of `previous`, which is what its black box says.
pub fn judge(previous: &Previous, now: &Observations) -> PreviousRun {
    let evidence = Evidence::of(previous, now);
    let mut run = PreviousRun {
        previous_run_id: None,
        cause: Cause::Unknown,
        confidence: Confidence::Low,
        evidence: Vec::new(),
        excluded: Vec::new(),
        last_state: None,
        last_seq: None,
        last_ts: None,
        last_memory: None,
        in_flight: Vec::new(),
        exit_code: match evidence.wait {
            Some(WaitStatus::Exited(code)) => Some(code),
            _ => None,
        },
        signal: match evidence.wait {
            Some(WaitStatus::Signaled(signal)) => Some(signal),
            _ => None,
        },
    };
    let mut named = false;
    for (cause, rule) in RULES {
        match rule(&evidence) {
            Verdict::Was(confidence, reasons) if !named => {
                named = true;
                (run.cause, run.confidence, run.evidence) = (*cause, confidence, reasons);
            }
            Verdict::WasNot(reason) => run.excluded.push(format!("{}: {reason}", cause.as_str())),
            Verdict::Was(..) | Verdict::Silent => {}
        }
    }
    if !named {
        run.evidence.push(NOTHING_NAMES_A_CAUSE.into());
    }
    if run.cause != Cause::InitFailure && !previous.has_reached(RunState::Hydrated) {
        run.evidence.extend(evidence.boot_sentence());
    }
    run.evidence.extend(now.outside.as_ref().map(Outside::sentence));
    run.evidence.push(evidence::how_it_ended(now.wait));
    run.evidence.extend(evidence.remarks());
    run.previous_run_id = Some(previous.run.run_id.clone());
    run.last_state = previous.state();
    run.last_seq = previous.last_log_seq;
    run.last_ts = Some(previous.last_ts());
    run.last_memory = evidence.last.map(|(ts, figures)| LastMemory { ts, figures });
    run.in_flight = previous.in_flight.clone();
    run
}

#[cfg(test)]
mod tests;
