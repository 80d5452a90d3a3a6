//! The host died of something that an agent can do: who was at work then is a suspect.
//!
//! ```text
//!   death of the host ── native_fault, oom_kill, memory_thrash ──▶ in flight: a crash record, one strike each
//!        │ any other cause                                              │ the second in a row
//!        ▼                                                              ▼
//!   counts against nobody                                          quarantine, whatever its policy
//! ```
//!
//! Suspects are restarted one at a time, after all others: the host dies again only while the one that kills it is at
//! work, and the innocent are not in flight then. A turn that a suspect comes through, or a healthy period, clears it.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_agent::Container;
use bulkhead_log::{RunContext, now};
use bulkhead_store::database::{AgentRow, Change, Wanted};
use bulkhead_tasks::containment::contain;
use bulkhead_types::crash::CrashRecord;
use bulkhead_types::event::{AgentQuarantined, AgentTag};
use bulkhead_types::previous::Cause;
use bulkhead_types::restart::{PastEnd, Quarantine};
use bulkhead_types::time::millis;
use bulkhead_types::{
    Consequence, Determinism, Event, Exit, ExitReason, Incarnation, Phase, Resources, RestartRules,
};
use uuid::Uuid;

use crate::SupervisorConfig;
use crate::catalog::Catalog;
use crate::earlier::{Earlier, HostDeath, Suspect};
use crate::order;

impl HostDeath {
    /// Whether a death of this cause can be an agent's doing. A kill, a stop, another machine never count.
    pub fn counts(cause: Cause) -> bool {
        match cause {
            Cause::NativeFault | Cause::OomKill | Cause::MemoryThrash => true,
            Cause::Clean
            | Cause::UncaughtException
            | Cause::OrchestratorStop
            | Cause::VmReplaced
            | Cause::InitFailure
            | Cause::LeaseLost
            | Cause::ExternalSigkill
            | Cause::None
            | Cause::Lost
            | Cause::Unknown => false,
        }
    }
}

/// An end that a death of the host was for one agent.
pub(crate) struct Blamed {
    pub record: Arc<CrashRecord>,
    quarantine: Option<Quarantine>,
    attempts_in_window: u32,
}

/// Counts deaths of the host against who was at work, and writes that down before anything is started.
pub(crate) fn count(
    earlier: &mut Earlier,
    config: &SupervisorConfig,
    container: &Container,
) -> Vec<Blamed> {
    let Earlier { agents, deaths, .. } = earlier;
    let blamed = contain(|| blame(agents, deaths, &config.catalog)).unwrap_or_default();
    for record in blamed.iter().map(|it| &it.record) {
        container.crashes.put(Arc::clone(record));
        let Some(row) = agents.iter().find(|row| row.id == record.agent_id) else { continue };
        let (incarnation, restarts) = (row.incarnation, Arc::clone(&row.restarts));
        let change = Change::Ended { incarnation, restarts, wanted: Wanted::Running };
        // At once, and nobody waits for it: the next death may be near.
        drop(container.database.change(&row.id, change));
    }
    blamed
}

/// Counts each death against the agents that were at work, in their rows, and returns their ends. An end that is
/// counted already is not counted again: the boot that counted it may have died before it reported it.
pub(crate) fn blame(rows: &mut [AgentRow], deaths: &[HostDeath], catalog: &Catalog) -> Vec<Blamed> {
    let mut blamed = Vec::new();
    for death in deaths {
        for suspect in &death.suspects {
            let row = rows.iter_mut().find(|row| row.id.as_str() == suspect.work.agent_id);
            let row = row.filter(|row| is_open(row, suspect.work.incarnation));
            blamed.extend(row.and_then(|row| strike(row, death, suspect, catalog)));
        }
    }
    blamed
}

/// Whether the incarnation was wanted, and nothing is known of its end.
fn is_open(row: &AgentRow, incarnation: u64) -> bool {
    row.wanted == Wanted::Running
        && row.restarts.quarantine.is_none()
        && row.incarnation.0 >= incarnation
        && row.restarts.ends.iter().all(|end| end.incarnation.0 != incarnation)
}

/// One strike against one agent. `None`: nobody can say what it was started with.
fn strike(
    row: &mut AgentRow,
    death: &HostDeath,
    suspect: &Suspect,
    catalog: &Catalog,
) -> Option<Blamed> {
    let (request, _) = order::read(row.order.as_deref()?).ok()?;
    let (name, rig_id, town_id) =
        (request.name.clone(), request.rig_id.clone(), request.town_id.clone());
    let role: Arc<str> = request.role.as_str().into();
    let resolved = catalog.resolve(request).ok();
    let rules = resolved.as_ref().map_or_else(RestartRules::default, |it| it.spec.restart.clone());
    let component =
        resolved.as_ref().map_or_else(|| "".into(), |it| Arc::clone(&it.spec.component));
    let memory_limit_bytes = resolved.as_ref().map_or(0, |it| it.spec.limits.memory_bytes);
    let work = &suspect.work;
    let others = death.suspects.len().saturating_sub(1);
    let (phase, cause) = (phase(&work.phase), death.cause.as_str());
    let message = format!(
        "the host died of {cause} while this agent was in its {}; {others} others were at work",
        work.phase
    );
    let mut exit = Exit::new(ExitReason::HostDeath, phase, message);
    let (crash_id, fingerprint) = (Uuid::now_v7().to_string(), exit.fingerprint());
    let number = Incarnation(work.incarnation);
    let began = suspect.began.unwrap_or(work.since);
    let lived = suspect.began.map_or(Duration::ZERO, |began| death.at.since(began));
    let at = death.at;
    let end = PastEnd::new(&exit, at, number, fingerprint.clone(), Some(crash_id.clone()));
    let mut restarts = (*row.restarts).clone();
    let quarantine = restarts.after_host_death(&rules, end, lived);
    let attempts_in_window = restarts.attempts_in_window(&rules, at, None);
    row.restarts = Arc::new(restarts);
    if quarantine.is_some() {
        exit.deterministic = Determinism::True;
    }
    let consequence = match &quarantine {
        Some(quarantine) => Consequence::Quarantined {
            why: quarantine.why,
            message: quarantine.message.clone(),
            attempts_in_window,
        },
        None => Consequence::Restart { restart_at: now(), backoff_ms: 0, attempts_in_window },
    };
    let agent = AgentTag { agent_id: row.id.clone(), role, incarnation: number };
    let record = CrashRecord {
        name,
        rig_id,
        town_id,
        run_id: death.run_id.clone(),
        component,
        started_at: began,
        agent_uptime_ms: millis(at.since(began)),
        message_id: work.message_id.clone(),
        resources: Resources { memory_limit_bytes, ..Resources::default() },
        consequence,
        ..CrashRecord::new(crash_id, agent, &exit, at)
    };
    Some(Blamed { record: Arc::new(record), quarantine, attempts_in_window })
}

/// The phase with this word. What comes before there is an instance counts as making one.
fn phase(word: &str) -> Phase {
    const ALL: [Phase; 9] = [
        Phase::Workspace,
        Phase::Instantiate,
        Phase::Restore,
        Phase::Start,
        Phase::Handle,
        Phase::Snapshot,
        Phase::Shutdown,
        Phase::Run,
        Phase::Idle,
    ];
    ALL.into_iter().find(|phase| phase.as_str() == word).unwrap_or(Phase::Instantiate)
}

impl Blamed {
    /// The lines that report it. They are lines of this run, whose id they carry; the record that is kept has that of
    /// the run that died. The town hears only of an agent that is not restarted.
    pub fn events(self, context: &RunContext, action: &'static str) -> Vec<Event> {
        let Self { record, quarantine, attempts_in_window } = self;
        let run_id = context.run_id().to_owned();
        let town_id = context.town_id().map(str::to_owned);
        let record = Arc::new(CrashRecord { run_id, town_id, ..CrashRecord::clone(&record) });
        let agent = || AgentTag {
            agent_id: record.agent_id.clone(),
            role: Arc::clone(&record.role),
            incarnation: record.incarnation,
        };
        let mut events = vec![Event::AgentCrash(Arc::clone(&record))];
        let Some(quarantine) = quarantine else { return events };
        events.push(Event::AgentExit {
            agent: agent(),
            reason: record.reason,
            phase: record.phase,
            message: record.message.clone(),
            by: None,
            agent_uptime_ms: record.agent_uptime_ms,
            turns: 0,
            cpu_us: 0,
            undelivered: 0,
            dropped_log_lines: 0,
            crash_id: Some(record.crash_id.clone()),
        });
        events.push(Event::AgentQuarantined(AgentQuarantined {
            agent: agent(),
            why: quarantine.why,
            message: quarantine.message,
            reason: record.reason,
            attempts_in_window,
            crash_id: Some(record.crash_id.clone()),
            action,
        }));
        events
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::StartRequest;
    use bulkhead_store::database::TownKnows;
    use bulkhead_types::{AgentId, RestartState};

    use bulkhead_types::Timestamp;
    use bulkhead_types::previous::InFlight;

    use super::*;

    fn row(id: &str, incarnation: u64) -> AgentRow {
        let id = AgentId::parse(id).unwrap();
        AgentRow {
            order: Some(order::record(&StartRequest::new(id.clone(), "role"), None)),
            id,
            wanted: Wanted::Running,
            incarnation: Incarnation(incarnation),
            settings: None,
            restarts: Arc::default(),
            changed_at: Timestamp(0),
            town_knows: TownKnows::No,
        }
    }

    fn death(run_id: &str, at: i64, in_flight: &[(&str, u64)]) -> HostDeath {
        let suspect = |(agent_id, incarnation): &(&str, u64)| Suspect {
            work: InFlight {
                agent_id: (*agent_id).to_owned(),
                incarnation: *incarnation,
                phase: "handle".into(),
                message_id: Some("m1".into()),
                since: Timestamp(at - 10),
            },
            began: Some(Timestamp(at - 50)),
        };
        HostDeath {
            run_id: run_id.into(),
            cause: Cause::NativeFault,
            at: Timestamp(at),
            suspects: in_flight.iter().map(suspect).collect(),
        }
    }

    fn count(rows: &mut [AgentRow], death: HostDeath) -> Vec<(String, bool)> {
        let blamed = blame(rows, &[death], &Catalog::default());
        blamed.iter().map(|it| (it.record.agent_id.to_string(), it.quarantine.is_some())).collect()
    }

    #[test]
    fn two_deaths_in_a_row_quarantine_and_a_turn_in_between_clears() {
        let mut rows = [row("a", 9), row("b", 9), row("idle", 9)];
        let first = count(&mut rows, death("r1", 1000, &[("a", 1), ("b", 1)]));
        assert_eq!(first, [("a".to_owned(), false), ("b".to_owned(), false)]);
        let mut cleared = RestartState::clone(&rows[1].restarts);
        assert!(cleared.clear_host_deaths());
        rows[1].restarts = cleared.into();
        let second = count(&mut rows, death("r2", 2000, &[("a", 2), ("b", 2)]));
        assert_eq!(second, [("a".to_owned(), true), ("b".to_owned(), false)]);
        assert!(rows[0].restarts.quarantine.is_some() && rows[2].restarts.ends.is_empty());
        assert!(count(&mut rows, death("r3", 3000, &[("a", 3)])).is_empty(), "it was not started");
    }

    #[test]
    fn a_death_is_counted_once_and_only_against_what_was_wanted() {
        let mut rows = [row("a", 9), row("stopped", 9)];
        rows[1].wanted = Wanted::Stopped;
        let same = || death("r1", 1000, &[("a", 1), ("stopped", 1), ("unknown", 1), ("a", 10)]);
        assert_eq!(count(&mut rows, same()), [("a".to_owned(), false)]);
        assert_eq!(count(&mut rows, same()), []);
    }

    #[test]
    fn the_record_says_what_the_black_box_knew() {
        let mut rows = [row("a", 9)];
        let blamed = blame(&mut rows, &[death("r1", 1000, &[("a", 1)])], &Catalog::default());
        let record = &blamed[0].record;
        assert_eq!((record.reason, record.phase), (ExitReason::HostDeath, Phase::Handle));
        assert_eq!((&*record.run_id, record.message_id.as_deref()), ("r1", Some("m1")));
        assert_eq!((record.agent_uptime_ms, record.crashed_at), (50, Timestamp(1000)));
        assert!(record.message.contains("died of native_fault"), "{}", record.message);
        let context = RunContext::new("r2".into(), None);
        let events = blamed.into_iter().next().unwrap().events(&context, "do");
        assert!(matches!(events[..], [Event::AgentCrash(_)]), "its exit is no last one");
    }
}
