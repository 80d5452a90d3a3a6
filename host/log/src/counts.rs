//! What happened so far in a run, as numbers.
//!
//! Counted from the facts themselves, in the one place that all of them pass ([`crate::Log`]), so that
//! log and metrics cannot drift apart. A fact below the log's level has no line and counts all the same.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_types::event::StartTimings;
use bulkhead_types::{Cause, Confidence, Event, ExitReason, Level};

use crate::durations::{DurationFigures, Durations};
use crate::roles::{RoleFigures, Roles};

/// The counts of one run. They only rise.
pub struct Counts {
    events: [AtomicU64; Event::NAMES.len()],
    exits: [AtomicU64; ExitReason::NAMES.len()],
    dropped_lines: [AtomicU64; Level::NAMES.len()],
    roles: Roles,
    starts: Durations,
    turns: Durations,
    previous_run: OnceLock<(Cause, Confidence)>,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self {
            events: [const { AtomicU64::new(0) }; Event::NAMES.len()],
            exits: [const { AtomicU64::new(0) }; ExitReason::NAMES.len()],
            dropped_lines: [const { AtomicU64::new(0) }; Level::NAMES.len()],
            roles: Roles::default(),
            starts: Durations::new(),
            turns: Durations::new(),
            previous_run: OnceLock::new(),
        }
    }

    /// Counts a fact. On the way of every line: no lock, nothing allocated.
    pub(crate) fn count(&self, event: &Event) {
        self.events[event.name_index()].fetch_add(1, Relaxed);
        self.roles.count(event);
        match event {
            Event::AgentStart { timings, .. } => self.starts.took(whole(timings)),
            Event::PreviousRun { run, .. } => {
                let _ = self.previous_run.set((run.cause, run.confidence));
            }
            // An agent that is restarted after a death of the host has a crash and no exit, any other one both.
            Event::AgentCrash(record) if record.reason == ExitReason::HostDeath => {
                self.exit(record.reason);
            }
            Event::AgentExit { reason, .. } if *reason != ExitReason::HostDeath => {
                self.exit(*reason);
            }
            _ => {}
        }
    }

    fn exit(&self, reason: ExitReason) {
        self.exits[reason.name_index()].fetch_add(1, Relaxed);
    }

    /// A turn returned. Its line has whole milliseconds, in which most turns would be nothing.
    pub fn turn_took(&self, wall: Duration) {
        self.turns.took(wall);
    }

    /// A guest waited for so long because of the CPU bound of its role. One event stands for many waits.
    pub fn cpu_throttled(&self, role: &str, time: Duration) {
        self.roles.throttled(role, time);
    }

    /// These roles are configured.
    pub fn set_roles(&self, roles: impl IntoIterator<Item = Arc<str>>) {
        self.roles.set(roles);
    }

    /// What happened by role, every role.
    pub fn roles(&self) -> impl Iterator<Item = (&Arc<str>, RoleFigures)> {
        self.roles.figures()
    }

    /// How long starts took that got to running: until the guest's `start` had returned.
    pub fn starts(&self) -> DurationFigures {
        self.starts.figures()
    }

    /// How long turns took that returned.
    pub fn turns(&self) -> DurationFigures {
        self.turns.figures()
    }

    /// Why the run before this one ended, once that is reported.
    pub fn previous_run(&self) -> Option<(Cause, Confidence)> {
        self.previous_run.get().copied()
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

fn whole(timings: &StartTimings) -> Duration {
    let StartTimings { wait_us, compile_us, instantiate_us, restore_us, guest_start_us } = *timings;
    let parts = [wait_us, compile_us, instantiate_us, restore_us, guest_start_us];
    Duration::from_micros(parts.into_iter().fold(0, u64::saturating_add))
}

fn read<'a>(
    names: &'static [&'static str],
    counts: &'a [AtomicU64],
) -> impl Iterator<Item = (&'static str, u64)> + 'a {
    names.iter().copied().zip(counts.iter().map(|count| count.load(Relaxed)))
}

#[cfg(test)]
mod tests {
    use bulkhead_types::event::{AgentTag, RestartScheduled};
    use bulkhead_types::{AgentId, CrashRecord, Incarnation, Phase};

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

    /// The first example of a fact.
    fn example(is_it: impl Fn(&Event) -> bool) -> Event {
        crate::examples::all().into_iter().find(is_it).expect("there is an example")
    }

    #[test]
    fn an_agent_that_died_with_the_host_counts_once_whether_it_is_restarted_or_not() {
        let counts = Counts::new();
        let Event::AgentCrash(record) = example(|event| matches!(event, Event::AgentCrash(_)))
        else {
            unreachable!()
        };
        let reason = ExitReason::HostDeath;
        let crash = |reason| {
            Event::AgentCrash(CrashRecord { reason, ..CrashRecord::clone(&record) }.into())
        };
        counts.count(&crash(reason));
        counts.count(&crash(reason));
        counts.count(&exit(reason));
        counts.count(&crash(ExitReason::Trap));
        counts.count(&exit(ExitReason::Trap));
        assert_eq!(happened(counts.exits()), [("trap", 1), ("host_death", 2)]);
    }

    #[test]
    fn starts_crashes_and_restarts_count_by_the_roles_that_are_configured() {
        let counts = Counts::new();
        let start = example(|event| matches!(event, Event::AgentStart { .. }));
        counts.count(&start);
        assert_eq!(counts.roles().count(), 0, "no role is known");
        counts.set_roles(["mayor".into(), "polecat".into()]);
        for event in crate::examples::all() {
            counts.count(&event);
        }
        let of = |event: &Event| match event {
            Event::AgentStart { agent, .. }
            | Event::RestartScheduled(RestartScheduled { agent, .. }) => {
                Some(Arc::clone(&agent.role))
            }
            Event::AgentCrash(record) => Some(Arc::clone(&record.role)),
            _ => None,
        };
        let all = crate::examples::all();
        let facts = all.iter().filter_map(of).filter(|role| &**role == "polecat").count() as u64;
        let roles: Vec<_> = counts.roles().map(|(role, figures)| (&**role, figures)).collect();
        let [(mayor, _), (polecat, figures)] = roles[..] else { panic!("{roles:?}") };
        assert_eq!((mayor, polecat), ("mayor", "polecat"));
        let RoleFigures { starts, crashes, restarts, cpu_throttled } = figures;
        assert!(starts > 0 && crashes > 0 && restarts > 0, "{figures:?}");
        assert_eq!((starts + crashes + restarts, cpu_throttled), (facts, Duration::ZERO));
        let wait = Duration::from_millis(90);
        for role in ["polecat", "polecat", "nobody"] {
            counts.cpu_throttled(role, wait);
        }
        let throttled: Vec<_> = counts.roles().map(|(_, figures)| figures.cpu_throttled).collect();
        assert_eq!(throttled, [Duration::ZERO, 2 * wait]);
    }

    #[test]
    fn a_start_takes_what_its_parts_take() {
        let counts = Counts::new();
        let mut start = example(|event| matches!(event, Event::AgentStart { .. }));
        if let Event::AgentStart { timings, .. } = &mut start {
            *timings = StartTimings {
                wait_us: 1,
                compile_us: 20,
                instantiate_us: 300,
                restore_us: 4000,
                guest_start_us: 50_000,
            };
        }
        counts.count(&start);
        counts.turn_took(Duration::from_micros(7));
        assert_eq!(counts.starts().sum, Duration::from_micros(54_321));
        assert_eq!(counts.turns().sum, Duration::from_micros(7));
        assert_eq!((counts.starts().count(), counts.turns().count()), (1, 1));
    }

    #[test]
    fn the_end_of_the_run_before_is_known_when_it_is_reported() {
        let counts = Counts::new();
        assert_eq!(counts.previous_run(), None);
        for event in crate::examples::all() {
            counts.count(&event);
        }
        assert_eq!(counts.previous_run(), Some((Cause::OomKill, Confidence::High)));
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
