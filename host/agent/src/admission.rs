//! Memory for one more agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bulkhead_memory::{Memory, Shortage};
use bulkhead_types::StartPhase;

use crate::refusal::{StartError, StartFailure};

/// Agents that a refusal names.
const NAMED: usize = 3;

/// What all agents may take together, in bytes.
#[derive(Default)]
pub(crate) struct Committed(Arc<AtomicU64>);

/// The part of one start, for as long as it or a restart of it is there.
pub(crate) struct Commitment {
    committed: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Commitment {
    fn drop(&mut self) {
        self.committed.fetch_sub(self.bytes, Relaxed);
    }
}

impl Committed {
    /// In bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds `bytes` when `admits` the sum of the others, without `replaced`. One step: of two that ask at once
    /// each sees what the other one has, and not what it only asks for.
    pub(crate) fn commit<E>(
        &self,
        bytes: u64,
        replaced: u64,
        admits: impl Fn(u64) -> Result<(), E>,
    ) -> Result<Commitment, E> {
        let mut before = self.bytes();
        loop {
            admits(before.saturating_sub(replaced))?;
            match self.0.compare_exchange_weak(before, before + bytes, Relaxed, Relaxed) {
                Ok(_) => return Ok(Commitment { committed: Arc::clone(&self.0), bytes }),
                Err(now) => before = now,
            }
        }
    }
}

/// The refusal of a start for want of memory. Names the agents that hold most of it.
pub(crate) fn short_of(memory: &Memory, shortage: &Shortage) -> StartError {
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let figures = match *shortage {
        Shortage::Committed { committed_bytes, asked_bytes, budget_bytes } => format!(
            "its limit of {} MiB does not fit: {} of {} MiB are committed to others",
            mib(asked_bytes),
            mib(committed_bytes),
            mib(budget_bytes)
        ),
        Shortage::Used { used_bytes, limit_bytes } => format!(
            "memory is short, and agents are ended for it: {} of {} MiB are used",
            mib(used_bytes),
            mib(limit_bytes)
        ),
    };
    let largest = memory.largest(NAMED).into_iter();
    let largest: Vec<_> =
        largest.map(|agent| format!("{} {} MiB", agent.agent_id, mib(agent.used_bytes))).collect();
    let text = match largest.is_empty() {
        true => figures,
        false => format!("{figures}; most is held by {}", largest.join(", ")),
    };
    StartError::new(StartPhase::Admission, StartFailure::Memory, text)
}

#[cfg(test)]
mod tests;
