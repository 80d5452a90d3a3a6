//! What became of calls, in numbers.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::call::Call;
use crate::fault::{Cause, Fault};

/// `ok`, and one for each cause.
const OUTCOMES: usize = 1 + Cause::ALL.len();

/// Something that may be lost for want of room or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Droppable {
    Events,
    Completions,
    Nudges,
}

impl Droppable {
    pub(crate) const ALL: [Self; 3] = [Self::Events, Self::Completions, Self::Nudges];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Completions => "completions",
            Self::Nudges => "nudges",
        }
    }
}

/// Counts over a run.
#[derive(Default)]
pub(crate) struct Counters {
    calls: [[AtomicU64; OUTCOMES]; Call::ALL.len()],
    dropped: [AtomicU64; Droppable::ALL.len()],
    /// Of them, those that were logged.
    logged: [AtomicU64; Droppable::ALL.len()],
    given_up: [AtomicU64; Call::ALL.len()],
}

impl Counters {
    pub(crate) fn count(&self, call: Call, result: Result<(), &Fault>) {
        let outcome = match result {
            Ok(()) => 0,
            Err(fault) => 1 + fault.cause as usize,
        };
        self.calls[call as usize][outcome].fetch_add(1, Relaxed);
    }

    /// Counts a loss.
    pub(crate) fn drop(&self, what: Droppable, count: u64) {
        self.dropped[what as usize].fetch_add(count, Relaxed);
    }

    /// How many losses there are that were not logged, and in all. They count as logged now.
    pub(crate) fn take_dropped(&self, what: Droppable) -> (u64, u64) {
        let total = self.dropped[what as usize].load(Relaxed);
        let logged = self.logged[what as usize].swap(total, Relaxed);
        (total.saturating_sub(logged), total)
    }

    /// A call about an agent is not tried any more.
    pub(crate) fn give_up(&self, call: Call) {
        self.given_up[call as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn given_up(&self) -> Vec<(&'static str, u64)> {
        let all = Call::ALL.iter().zip(&self.given_up);
        let all = all.map(|(call, count)| (call.name(), count.load(Relaxed)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn calls(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut calls = Vec::new();
        for (call, outcomes) in Call::ALL.iter().zip(&self.calls) {
            let names = std::iter::once("ok").chain(Cause::ALL.iter().map(|cause| cause.as_str()));
            for (at, (outcome, count)) in names.zip(outcomes).enumerate() {
                let count = count.load(Relaxed);
                if at == 0 || count > 0 {
                    calls.push((call.name(), outcome, count));
                }
            }
        }
        calls
    }

    pub(crate) fn dropped(&self) -> Vec<(&'static str, u64)> {
        let all = Droppable::ALL.iter().zip(&self.dropped);
        all.map(|(what, count)| (what.name(), count.load(Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_and_every_cause_has_its_own_place() {
        for (at, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, at);
        }
        for (at, call) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as usize, at);
        }
        let counters = Counters::default();
        counters.count(Call::Completed, Ok(()));
        counters.count(Call::Completed, Err(&Fault::fenced()));
        let calls = counters.calls();
        assert_eq!(calls.len(), Call::ALL.len() + 1);
        assert!(
            calls.contains(&("completed", "fenced", 1)) && calls.contains(&("completed", "ok", 1))
        );
        counters.drop(Droppable::Nudges, 2);
        assert_eq!(counters.take_dropped(Droppable::Nudges), (2, 2));
        counters.drop(Droppable::Nudges, 1);
        assert_eq!(counters.take_dropped(Droppable::Nudges), (1, 3));
    }
}
