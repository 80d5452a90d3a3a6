//! Why the run before this one ended. Pure: the caller brings what it found.
//!
//! Each cause has a rule that looks at the evidence and says *it was that*, *it was not that, because*, or
//! nothing. The first rule in the table that says yes names the cause; every *not, because* becomes a line
//! of `excluded`.
//!
//! | order | cause | because it comes before |
//! | --- | --- | --- |
//! | 1 | `clean` | all: the run itself says so, about itself, as its last word |
//! | 2 | `uncaught_exception` | its own word again; the abort or exit that follows is only its consequence |
//! | 3 | `native_fault` | a signal that nobody sends from outside |
//! | 4 | `oom_kill` | a stop: a kernel that ran out of memory does not wait for a drain |
//! | 5 | `init_failure` | a stop: a failed boot ends the process deliberately |
//! | 6 | `orchestrator_stop` | a new machine: platforms ask first and take the machine then |
//! | 7 | `vm_replaced` | pressure: it ended with its machine, whatever it was at |
//! | 8 | `memory_thrash` | a kill: whoever kills a host that does not answer uses SIGKILL too |
//! | 9 | `external_sigkill` | |
//! | 10 | `unknown` | |
//!
//! No single figure is proof. An exit code of 137 may be anybody's `exit(137)`; an out-of-memory kill may
//! have hit another process; a clean marker may be that of an earlier run.

mod evidence;
mod rules;

use bulkhead_model::previous::{Cause, Confidence, LastMemory, MemoryFigures, PreviousRun};

use crate::blackbox::Previous;
use evidence::Evidence;
use rules::{RULES, Verdict};

/// What the caller found around the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Surroundings {
    /// Boot id of the kernel now.
    pub boot_id: Option<String>,
    /// How the process ended, when a parent saw it.
    pub wait: Option<WaitStatus>,
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

/// Names the cause of the end of `previous`, which is what its black box says, if there is one.
pub fn judge(previous: Option<&Previous>, now: &Surroundings) -> PreviousRun {
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
        exit_code: match now.wait {
            Some(WaitStatus::Exited(code)) => Some(code),
            _ => None,
        },
        signal: match now.wait {
            Some(WaitStatus::Signaled(signal)) => Some(signal),
            _ => None,
        },
    };
    let Some(previous) = previous else {
        run.evidence.push("there is no black box of an earlier run".into());
        run.evidence.push(evidence::how_it_ended(now.wait));
        return run;
    };
    let evidence = Evidence::of(previous, now);
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
        run.evidence.push("it ended without a word of its own, and nothing names a cause".into());
    }
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
