//! The names of the lines.

use super::Event;
use crate::names::names;

names! {
    /// What the line's field `event` says.
    Event::name {
        ColdStart => "container.cold_start",
        PreviousRun => "container.previous_run",
        CapacityLimited => "container.capacity_limited",
        ComponentLoaded => "container.component_loaded",
        CacheEntryRejected => "container.cache_entry_rejected",
        UnhandledRejection => "container.unhandled_rejection",
        UncaughtException => "container.uncaught_exception",
        StopIntent => "container.stop_intent",
        Draining => "container.draining",
        Drained => "container.drained",
        Stopped => "container.stopped",
        RequestRefused => "container.request_refused",
        HostLog => "container.log",
        AgentStart => "agent.start",
        AgentStartJoined => "agent.start_joined",
        AgentStartSuperseded => "agent.start_superseded",
        AgentStartFailed => "agent.start_failed",
        AgentExit => "agent.exit",
        AgentCrash => "agent.crash",
        CrashSymbolized => "agent.crash_symbolized",
        CoreDumpKept => "agent.core_dump",
        RestartScheduled => "agent.restart_scheduled",
        RestartCancelled => "agent.restart_cancelled",
        AgentQuarantined => "agent.quarantined",
        MemorySoftLimit => "agent.memory_soft_limit",
        AgentLog => "agent.log",
        AgentMessage => "agent.message",
        AgentTurn => "agent.turn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AgentTag, PreviousSummary, StartTimings};
    use crate::{
        AgentId, Cause, Confidence, ExitReason, Incarnation, Level, Phase, PreviousRun, Sender,
        StartPhase,
    };

    fn agent() -> AgentTag {
        let agent_id = AgentId::parse("a1").unwrap();
        AgentTag { agent_id, role: "mayor".into(), incarnation: Incarnation(1) }
    }

    fn text() -> String {
        "text".to_owned()
    }

    fn previous_run() -> PreviousRun {
        PreviousRun {
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
            exit_code: None,
            signal: None,
        }
    }

    fn of_the_container() -> Vec<Event> {
        vec![
            Event::ColdStart {
                version: "0",
                boot_id: None,
                pid: 1,
                init: false,
                restart_seq: 0,
                previous_run: PreviousSummary {
                    cause: Cause::Unknown,
                    confidence: Confidence::Low,
                },
                listen: text(),
                max_agents: 0,
                allocator: "pooling",
                components: Vec::new(),
                roles: Vec::new(),
                boot_agents: 0,
            },
            Event::PreviousRun { level: Level::Info, run: Box::new(previous_run()) },
            Event::CapacityLimited { requested: 2, granted: 1, reason: text() },
            Event::ComponentLoaded {
                component: "echo".into(),
                sha256: text(),
                bytes: 0,
                source: "cache",
                duration_ms: 0,
            },
            Event::CacheEntryRejected { path: text(), reason: text() },
            Event::UnhandledRejection {
                task: text(),
                name: "panic",
                message: text(),
                stack: None,
                active_agents: 0,
                fingerprint: text(),
                repeated: 0,
            },
            Event::UncaughtException {
                name: "panic",
                message: text(),
                stack: None,
                active_agents: 0,
            },
            Event::StopIntent { by: text(), reason: text() },
            Event::Stopped { stopped: 0, killed: 0, duration_ms: 0, dropped_lines: 0 },
            Event::RequestRefused {
                method: text(),
                path: text(),
                status: 404,
                error: text(),
                suppressed: 0,
            },
            Event::HostLog {
                level: Level::Info,
                target: text(),
                message: text(),
                fields: Default::default(),
            },
        ]
    }

    /// All but `agent.crash`, whose record is large.
    fn of_an_agent() -> Vec<Event> {
        let component = "echo".into();
        let timings = StartTimings::default();
        vec![
            Event::AgentStart { agent: agent(), component, timings },
            Event::AgentStartJoined { agent: agent() },
            Event::AgentStartSuperseded { agent: agent(), by: None },
            Event::AgentStartFailed {
                agent_id: agent().agent_id,
                role: text(),
                incarnation: None,
                phase: StartPhase::Admission,
                error_type: text(),
                error: text(),
                action: text(),
            },
            Event::AgentExit {
                agent: agent(),
                reason: ExitReason::Stopped,
                phase: Phase::Idle,
                message: text(),
                by: None,
                agent_uptime_ms: 0,
                turns: 0,
                cpu_us: 0,
                undelivered: 0,
                dropped_log_lines: 0,
                crash_id: None,
            },
            Event::MemorySoftLimit { agent: agent(), used_bytes: 0, limit_bytes: 0 },
            Event::AgentLog {
                agent: agent(),
                level: Level::Info,
                stream: "log",
                message: text(),
                fields: Default::default(),
                dropped: 0,
            },
            Event::AgentMessage {
                agent: agent(),
                message_id: text(),
                sender: Sender::Operator,
                bytes: 0,
            },
            Event::AgentTurn {
                agent: agent(),
                message_id: text(),
                outcome: None,
                error: None,
                cpu_us: 0,
                wall_ms: 0,
            },
        ]
    }

    #[test]
    fn a_name_is_what_the_line_says() {
        for event in of_the_container().into_iter().chain(of_an_agent()) {
            let line = serde_json::to_value(&event).unwrap();
            assert_eq!(line["event"], event.name());
            assert_eq!(Event::NAMES[event.name_index()], event.name());
        }
    }

    #[test]
    fn no_name_stands_for_two_events() {
        let mut names = Event::NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Event::NAMES.len());
    }
}
