//! What happened so far in a run, as numbers.
//!
//! Counted from the facts themselves, in the one place that all of them pass ([`crate::Log`]), so that
//! log and metrics cannot drift apart. A fact below the log's level has no line and counts all the same.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bulkhead_types::{Event, ExitReason, Level};

/// The counts of one run. They only rise.
pub struct Counts {
    events: [AtomicU64; Event::NAMES.len()],
    exits: [AtomicU64; ExitReason::NAMES.len()],
    dropped_lines: [AtomicU64; Level::NAMES.len()],
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            events: [const { AtomicU64::new(0) }; Event::NAMES.len()],
            exits: [const { AtomicU64::new(0) }; ExitReason::NAMES.len()],
            dropped_lines: [const { AtomicU64::new(0) }; Level::NAMES.len()],
        }
    }

    /// Counts a fact. On the way of every line: no lock, nothing allocated.
    pub(crate) fn count(&self, event: &Event) {
        self.events[event.name_index()].fetch_add(1, Relaxed);
        if let Event::AgentExit { reason, .. } = event {
            self.exits[reason.name_index()].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn drop_lines(&self, level: Level, lines: usize) {
        self.dropped_lines[level.name_index()].fetch_add(lines as u64, Relaxed);
    }

    /// Facts by the name of their line: every name, also those that did not happen.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, u64)> {
        read(Event::NAMES, &self.events)
    }

    /// Ends of agents by reason: every reason, also those that did not happen.
    pub fn exits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        read(ExitReason::NAMES, &self.exits)
    }

    /// Lines that were lost, because the log's buffer was full or its output was gone.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped_lines_by_level().map(|(_, lines)| lines).sum()
    }

    /// The same by level, every level.
    pub fn dropped_lines_by_level(&self) -> impl Iterator<Item = (&'static str, u64)> {
        read(Level::NAMES, &self.dropped_lines)
    }
}

fn read<'a>(
    names: &'static [&'static str],
    counts: &'a [AtomicU64],
) -> impl Iterator<Item = (&'static str, u64)> + 'a {
    names.iter().copied().zip(counts.iter().map(|count| count.load(Relaxed)))
}

#[cfg(test)]
mod tests {
    use bulkhead_types::event::AgentTag;
    use bulkhead_types::{AgentId, Incarnation, Phase};

    use super::*;

    fn exit(reason: ExitReason) -> Event {
        let agent_id = AgentId::parse("a1").unwrap();
        Event::AgentExit {
            agent: AgentTag { agent_id, role: "mayor".into(), incarnation: Incarnation(1) },
            reason,
            phase: Phase::Idle,
            message: "m".into(),
            by: None,
            agent_uptime_ms: 0,
            turns: 0,
            cpu_us: 0,
            undelivered: 0,
            dropped_log_lines: 0,
            crash_id: None,
        }
    }

    fn happened(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<(&'static str, u64)> {
        counts.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_fact_counts_under_its_name_and_an_end_under_its_reason_too() {
        let counts = Counts::new();
        counts.count(&Event::StopIntent { by: "t".into(), reason: "t".into(), drain_ms: None });
        counts.count(&exit(ExitReason::Trap));
        counts.count(&exit(ExitReason::Trap));
        counts.count(&exit(ExitReason::EvictedMemoryPressure));
        let events = happened(counts.events());
        assert_eq!(events, [("container.stop_intent", 1), ("agent.exit", 3)]);
        let exits = happened(counts.exits());
        assert_eq!(exits, [("trap", 2), ("evicted_memory_pressure", 1)]);
    }

    #[test]
    fn what_did_not_happen_is_there_as_nothing() {
        let counts = Counts::new();
        assert_eq!(counts.events().count(), Event::NAMES.len());
        assert_eq!(counts.exits().count(), ExitReason::NAMES.len());
        assert!(happened(counts.events().chain(counts.exits())).is_empty());
        assert_eq!(counts.dropped_lines(), 0);
    }
}
