//! One realistic example of every event, for `docs/events.md` and for tests of lines.
//!
//! An event with several levels has an example for each; the first one is shown.

mod agent;
mod durable;
mod evidence;
mod memory;
mod ship;
mod town;

use bulkhead_types::event::{ColdStart, Confinement, Drained, Draining, Stopped, ToolSandbox};
use bulkhead_types::event::{DrainPhase, DrainPhaseReport, PreviousSummary};
use bulkhead_types::previous::{LastMemory, MemoryFigures, RunState};
use bulkhead_types::{Cause, Confidence, Event, Level, PreviousRun, Timestamp};

/// When all of it happened: 2026-01-15T09:30:00.000Z.
pub(crate) const AT: Timestamp = Timestamp(1_768_469_400_000);

/// The run that it happened in.
pub(crate) const RUN: &str = "019bc0f4-2a40-7c11-9d7e-5b1f6a3c8e02";

/// The town that the run served.
pub(crate) const TOWN: &str = "riverside";

/// All examples, in the order of [`Event::NAMES`].
pub(crate) fn all() -> Vec<Event> {
    let mut all: Vec<_> = start().into_iter().chain(faults()).chain(end()).collect();
    all.extend(logs(
        host_log,
        &[Level::Warn, Level::Trace, Level::Debug, Level::Info, Level::Error],
    ));
    all.extend(logs(
        line_part,
        &[Level::Error, Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Fatal],
    ));
    all.extend(durable::all());
    all.extend(evidence::all());
    all.extend(ship::all());
    all.extend(agent::all());
    all.extend(memory::all());
    all.extend(town::all());
    all.extend(previous_runs());
    all.sort_by_key(Event::name_index);
    all
}

/// A line whose level somebody else chooses, with each of the levels that they can choose.
fn logs(log: fn(Level) -> Event, levels: &[Level]) -> impl Iterator<Item = Event> {
    levels.iter().map(move |level| log(*level))
}

/// The run before: killed by the kernel, and one that ended well.
fn previous_runs() -> [Event; 2] {
    let killed = PreviousRun {
        previous_run_id: Some("019bc0e1-7d20-7b42-8c11-2f6a9d4e0b77".into()),
        cause: Cause::OomKill,
        confidence: Confidence::High,
        evidence: vec![
            "it died of signal 9".into(),
            "the kernel's count of kills in its group rose from 0 to 1".into(),
        ],
        excluded: vec!["clean: there is no clean marker of this run".into()],
        last_state: Some(RunState::Hydrated),
        last_seq: Some(48_211),
        last_ts: Some(Timestamp(AT.0 - 2_000)),
        last_memory: Some(LastMemory {
            ts: Timestamp(AT.0 - 3_000),
            figures: MemoryFigures {
                rss_bytes: Some(528_482_304),
                limit_bytes: Some(536_870_912),
                ..MemoryFigures::default()
            },
        }),
        in_flight: Vec::new(),
        exit_code: None,
        signal: Some(9),
    };
    let clean = PreviousRun {
        cause: Cause::Clean,
        evidence: vec!["it marked itself as clean after hydration and drain".into()],
        excluded: Vec::new(),
        last_state: Some(RunState::Clean),
        last_memory: None,
        exit_code: Some(0),
        signal: None,
        ..killed.clone()
    };
    [
        Event::PreviousRun {
            level: Level::Error,
            run: Box::new(killed),
            earlier: vec![clean.clone()],
            earlier_forgotten: 2,
        },
        Event::PreviousRun {
            level: Level::Info,
            run: Box::new(clean),
            earlier: Vec::new(),
            earlier_forgotten: 0,
        },
    ]
}

fn start() -> [Event; 4] {
    [
        Event::ColdStart(ColdStart {
            version: "0.1.0",
            boot_id: Some("6f3b6f5e-2f0c-4b8e-9a55-0c9d3a1e7b42".into()),
            pid: 17,
            init: true,
            restart_seq: 1,
            lease_epoch: Some(3),
            previous_run: PreviousSummary {
                run_id: Some("019bc0e1-7d20-7b42-8c11-2f6a9d4e0b77".into()),
                cause: Cause::OomKill,
                confidence: Confidence::High,
            },
            listen: "0.0.0.0:8080".into(),
            probe_listen: Some("0.0.0.0:9090".into()),
            max_agents: 200,
            allocator: "pooling",
            components: vec!["mayor".into(), "polecat".into()],
            roles: vec!["mayor".into(), "polecat".into()],
            boot_agents: 1,
            drain_ms: 300_000,
            shutdown_ms: 20_000,
            security: Box::new(Confinement {
                landlock: "full",
                seccomp: "full",
                no_new_privs: true,
                debuggable: false,
            }),
            tools: Some(Box::new(ToolSandbox {
                cgroup: "v2",
                pid_namespace: true,
                mount_namespace: true,
                network_namespace: true,
                identity: "own_uid",
                landlock: "full".into(),
                seccomp: true,
            })),
            memory: Box::new(memory::sources()),
        }),
        Event::CapacityLimited {
            requested: 500,
            granted: 200,
            reason: "vm.max_map_count is 65530: at 300 mappings an agent it holds 200 agents and not 500"
                .into(),
        },
        Event::ComponentLoaded {
            component: "polecat".into(),
            sha256: "3b7a4b7f0e6c1d92a8f5c2e97d10b64f8e3a5c7b9d1f2e4a6c8b0d2f4e6a8c1b".into(),
            bytes: 1_431_655,
            source: "compiled",
            duration_ms: 512,
        },
        Event::CacheEntryRejected {
            path: "/var/lib/bulkhead/cache/3b7a4b7f0e6c1d92.cwasm".into(),
            reason: "its digest is not the one that it was written with".into(),
        },
    ]
}

fn faults() -> [Event; 3] {
    [
        Event::UnhandledRejection {
            task: "boot".into(),
            name: "panic",
            message: "index out of bounds: the len is 3 but the index is 3".into(),
            stack: Some("host/daemon/src/boot.rs:31:9".into()),
            active_agents: 12,
            fingerprint: "panic:boot:host/daemon/src/boot.rs:31:9".into(),
            repeated: 0,
        },
        Event::UncaughtException {
            name: "panic",
            message: "called `Option::unwrap()` on a `None` value".into(),
            stack: Some("at host/daemon/src/host.rs:71:9 in thread main".into()),
            active_agents: 12,
        },
        Event::RequestRefused {
            method: "POST".into(),
            path: "/agents/furiosa/message".into(),
            status: 404,
            error: "no such agent: furiosa".into(),
            suppressed: 4,
        },
    ]
}

fn end() -> [Event; 4] {
    let report = |phase, agents, stopped, duration_ms| DrainPhaseReport {
        phase,
        agents,
        stopped,
        killed: 0,
        duration_ms,
    };
    [
        Event::StopIntent {
            by: "SIGTERM".into(),
            reason: "a signal asked for it".into(),
            drain_ms: Some(300_000),
        },
        Event::Draining(Draining {
            phase: DrainPhase::Settling,
            agents: 12,
            busy: 3,
            limit_ms: 20_000,
        }),
        Event::Drained(Drained {
            phases: vec![
                report(DrainPhase::Settling, 12, 1, 1_840),
                report(DrainPhase::Stopping, 11, 11, 63),
                report(DrainPhase::Killing, 0, 0, 0),
            ],
            duration_ms: 1_903,
        }),
        Event::Stopped(Stopped { stopped: 12, killed: 0, duration_ms: 1_911, dropped_lines: 0 }),
    ]
}

fn host_log(level: Level) -> Event {
    let target = "bulkhead_runtime::loader".into();
    let fields = [("path".to_owned(), "/var/lib/bulkhead/cache".to_owned())].into();
    Event::HostLog { level, target, message: "the compile cache is read-only".into(), fields }
}

fn line_part(level: Level) -> Event {
    let text = "ok\"],\"activeTools\":[\"git\"],\"activeAgents\":12,\"consequence\":{\"decision\":\"none\"}}";
    Event::LinePart { level, of: "agent.crash", text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_an_example() {
        let examples = all();
        for name in Event::NAMES {
            let found = examples.iter().any(|event| event.name() == *name);
            assert!(found, "{name} has no example: add one in host/log/src/examples.rs");
        }
    }

    #[test]
    fn a_name_is_what_the_line_says() {
        for event in all() {
            let line = serde_json::to_value(&event).unwrap();
            assert_eq!(line["event"], event.name());
            assert_eq!(Event::NAMES[event.name_index()], event.name());
        }
    }
}
