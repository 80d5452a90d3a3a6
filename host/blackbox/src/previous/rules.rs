//! One rule for each cause.

use bulkhead_types::previous::Cause;
use bulkhead_types::previous::Confidence::{self, High, Low, Medium};
use bulkhead_types::previous::RunState;

use super::WaitStatus::{Exited, Signaled};
use super::evidence::{Evidence, Killed, OomKills, SIGABRT};
use super::outside::Word;
use crate::CleanMarker;

/// Percentage of time in which every task waits for memory, from which little else happens.
const THRASH_PRESSURE: f64 = 20.0;

/// What Rust exits with after a panic of the main thread.
const PANIC_CODE: i32 = 101;

/// Exit codes of a run that came to the end of its drain, with all agents or without some.
const ENDS_AS_ASKED: [i32; 2] = [0, 3];

/// Signals that the machine raises: SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
const FAULTS: [i32; 5] = [4, SIGABRT, 7, 8, 11];

/// Signals that ask for an end: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const REQUESTS: [i32; 4] = [1, 2, 3, 15];

pub(super) enum Verdict {
    Was(Confidence, Vec<String>),
    WasNot(String),
    Silent,
}

use Verdict::{Silent, Was, WasNot};

type Rule = fn(&Evidence<'_>) -> Verdict;

/// In their order: the first that says yes is the cause.
pub(super) const RULES: &[(Cause, Rule)] = &[
    (Cause::Clean, clean),
    (Cause::LeaseLost, lease_lost),
    (Cause::UncaughtException, uncaught_exception),
    (Cause::NativeFault, native_fault),
    (Cause::OomKill, oom_kill),
    (Cause::InitFailure, init_failure),
    (Cause::OrchestratorStop, orchestrator_stop),
    (Cause::VmReplaced, vm_replaced),
    (Cause::MemoryThrash, memory_thrash),
    (Cause::ExternalSigkill, external_sigkill),
];

fn clean(evidence: &Evidence<'_>) -> Verdict {
    let run = evidence.run;
    match &run.clean {
        CleanMarker::Absent => WasNot("there is no clean marker".into()),
        CleanMarker::Damaged => WasNot("the clean marker is damaged".into()),
        CleanMarker::Of(other) if *other != run.run.run_id => {
            WasNot(format!("the clean marker is that of run {other}"))
        }
        CleanMarker::Of(_) if !run.has_reached(RunState::Draining) => {
            WasNot("the clean marker was written without a drain".into())
        }
        CleanMarker::Of(_) if contradicts_clean(evidence) => WasNot(
            "it marked itself as clean, and outside it is said to have ended otherwise".into(),
        ),
        CleanMarker::Of(_) => {
            let confidence = match evidence.wait {
                None | Some(Exited(_)) => High,
                Some(Signaled(_)) => Medium,
            };
            // A signal may come while the boot is under way.
            let after = match run.has_reached(RunState::Hydrated) {
                true => "hydration and drain",
                false => "the drain",
            };
            Was(confidence, vec![format!("it marked itself as clean after {after}")])
        }
    }
}

fn lease_lost(evidence: &Evidence<'_>) -> Verdict {
    match evidence.now.lease_lost {
        true => Was(High, vec!["its init process ended it: the lease was not renewed".into()]),
        false => Silent,
    }
}

/// A parent saw the end of the very run. Who says something from outside means the run before, and a marker that does
/// not go with it is perhaps that of an earlier one.
fn contradicts_clean(evidence: &Evidence<'_>) -> bool {
    let from_outside = evidence.now.wait.is_none();
    let ended_otherwise = match evidence.wait {
        None => false,
        Some(Exited(code)) => !ENDS_AS_ASKED.contains(&code),
        Some(Signaled(_)) => true,
    };
    from_outside && (ended_otherwise || evidence.word == Some(Word::Oom))
}

fn uncaught_exception(evidence: &Evidence<'_>) -> Verdict {
    match (evidence.panic(), evidence.wait) {
        (Some(panic), None | Some(Exited(_) | Signaled(SIGABRT))) => Was(High, vec![panic]),
        (Some(panic), Some(Signaled(_))) => Was(Medium, vec![panic]),
        (None, Some(Exited(PANIC_CODE))) => {
            Was(Medium, vec!["that code is what a panic of the main thread exits with".into()])
        }
        (None, _) => WasNot("there is no record of a panic at its end".into()),
    }
}

fn native_fault(evidence: &Evidence<'_>) -> Verdict {
    match evidence.wait {
        Some(Signaled(signal)) if FAULTS.contains(&signal) => {
            Was(High, vec![format!("signal {signal} is one that the machine raises")])
        }
        Some(Exited(code)) if FAULTS.contains(&(code - 128)) => {
            let signal = code - 128;
            Was(Medium, vec![format!("that code is what a shell makes of signal {signal}")])
        }
        Some(_) => WasNot("no signal of a fault was seen".into()),
        None => Silent,
    }
}

fn oom_kill(evidence: &Evidence<'_>) -> Verdict {
    if evidence.word == Some(Word::Oom) {
        let mut reasons = vec!["the container's runtime reports it".to_owned()];
        reasons.extend(evidence.memory_sentence());
        let also = evidence.is_near_limit() || matches!(evidence.oom_kills, OomKills::Rose(..));
        return Was(if also { High } else { Medium }, reasons);
    }
    if evidence.killed == Killed::No {
        return WasNot("SIGKILL did not end the process".into());
    }
    if evidence.same_boot == Some(false) {
        return Silent;
    }
    let near = evidence.is_near_limit();
    let (before, now) = match evidence.oom_kills {
        OomKills::Rose(before, now) => (before, now),
        OomKills::Stayed(count) => {
            return WasNot(format!("the kernel's count of out-of-memory kills stayed at {count}"));
        }
        OomKills::WentBack => return Silent,
        OomKills::Unknown
            if near && evidence.killed == Killed::Seen && evidence.stop().is_none() =>
        {
            return Was(Low, evidence.memory_sentence().into_iter().collect());
        }
        OomKills::Unknown => return Silent,
    };
    if evidence.stop().is_some() && !near {
        let reason =
            "the kernel killed something while it was asked to end, and memory was not short";
        return WasNot(reason.into());
    }
    let mut reasons =
        vec![format!("the kernel's count of out-of-memory kills went from {before} to {now}")];
    reasons.extend(evidence.memory_sentence());
    let confidence = match (evidence.killed, near) {
        (Killed::Seen, true) if evidence.same_boot.is_some() => High,
        (Killed::Seen, _) | (_, true) => Medium,
        _ => Low,
    };
    Was(confidence, reasons)
}

fn init_failure(evidence: &Evidence<'_>) -> Verdict {
    if let Some(failure) = evidence.boot_failure() {
        return Was(High, vec![failure]);
    }
    if evidence.run.has_reached(RunState::Hydrated) {
        return WasNot("its boot was through".into());
    }
    if evidence.stop().is_some() || asked_by_signal(evidence) || evidence.same_boot == Some(false) {
        return Silent;
    }
    match evidence.killed {
        // A boot that fails by itself exits, and leaves a word. It does not kill itself.
        Killed::Seen => WasNot("SIGKILL ended it in its boot".into()),
        Killed::Perhaps | Killed::Unseen => Silent,
        Killed::No => Was(High, evidence.boot_sentence().into_iter().collect()),
    }
}

fn orchestrator_stop(evidence: &Evidence<'_>) -> Verdict {
    if let Some(stop) = evidence.stop() {
        let mut reasons = vec![stop];
        reasons.extend(evidence.drain_left());
        reasons.push("it did not get to its clean marker".into());
        return Was(High, reasons);
    }
    if asked_by_signal(evidence) {
        return Was(High, vec!["that signal asks for an end".into()]);
    }
    if evidence.word == Some(Word::Stop) {
        return Was(Medium, vec!["the container's runtime reports it".into()]);
    }
    WasNot("nobody asked it to end".into())
}

fn asked_by_signal(evidence: &Evidence<'_>) -> bool {
    match evidence.wait {
        Some(Signaled(signal)) => REQUESTS.contains(&signal),
        Some(Exited(_)) | None => false,
    }
}

fn vm_replaced(evidence: &Evidence<'_>) -> Verdict {
    match evidence.same_boot {
        None => Silent,
        Some(true) => WasNot("the machine has not booted since".into()),
        Some(false) => {
            let mut reasons =
                vec!["the machine booted since, and it left no clean marker".to_owned()];
            if evidence.is_near_limit() {
                reasons.extend(evidence.memory_sentence());
            }
            Was(if evidence.is_near_limit() { Medium } else { High }, reasons)
        }
    }
}

fn memory_thrash(evidence: &Evidence<'_>) -> Verdict {
    if evidence.killed == Killed::No || matches!(evidence.oom_kills, OomKills::Rose(..)) {
        return Silent;
    }
    let Some(pressure) = evidence.pressure else { return Silent };
    let waited = format!("every task waited for memory {pressure:.0} % of the time");
    if pressure < THRASH_PRESSURE {
        return WasNot(waited);
    }
    match evidence.limit_hits {
        Some(0) => WasNot(format!("{waited}, and yet the limit was not hit")),
        Some(hits) => {
            let sure = evidence.killed == Killed::Seen
                && matches!(evidence.oom_kills, OomKills::Stayed(_));
            let reasons = vec![waited, format!("the limit was hit {hits} times at last")];
            Was(if sure { High } else { Medium }, reasons)
        }
        None => Was(Low, vec![waited]),
    }
}

fn external_sigkill(evidence: &Evidence<'_>) -> Verdict {
    match evidence.killed {
        Killed::Seen => {
            let sure = matches!(evidence.oom_kills, OomKills::Stayed(_))
                && evidence.same_boot == Some(true)
                && !evidence.is_near_limit();
            let reasons = vec!["SIGKILL came from outside, and nothing else fits".into()];
            Was(if sure { High } else { Medium }, reasons)
        }
        Killed::Perhaps => {
            let reason =
                "an exit code of 137 may be a SIGKILL that a shell saw; alone it proves nothing";
            Was(Low, vec![reason.into()])
        }
        Killed::No => WasNot("SIGKILL did not end the process".into()),
        Killed::Unseen => Silent,
    }
}
