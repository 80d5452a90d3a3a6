//! The events of an agent that works, crashes and is restarted.

use bulkhead_types::crash::{Consequence, CoreDumpRef, LastEvent};
use bulkhead_types::event::{
    AgentMessage, AgentQuarantined, AgentStuck, AgentTag, MemorySoftLimit, MessageSetAside,
    ModelBudget, RestartCancelled, RestartScheduled, StartTimings, ToolExited, ToolStarted,
    WorkNotSaved, WorkSaved, WorkspaceArrived, WorkspaceNotShipped, WorkspacePrepared,
    WorkspaceShipped,
};
use bulkhead_types::exit::Location;
use bulkhead_types::memory::MemorySample;
use bulkhead_types::restart::QuarantineReason;
use bulkhead_types::{
    AgentId, CrashRecord, Determinism, Digest, Event, Exception, ExitReason, Frame, Frames,
    HostBytes, Incarnation, Level, ModelCounts, Next, Phase, Resources, RunningTool, Sender,
    SourceFrame, StartPhase, Symbolized, Timestamp, TokenUsage, ToolEnd,
};

use super::{AT, RUN, TOWN, logs};

const CRASH: &str = "019bc0f4-5d10-7a3e-8f21-44c6b0e9d715";
const MESSAGE: &str = "019bc0f4-5c02-7e90-b1a4-0d2f8c6e3a57";

pub(super) fn all() -> Vec<Event> {
    let events = starts().into_iter().chain(turns()).chain(ends()).chain(restarts());
    let levels = [Level::Info, Level::Trace, Level::Debug, Level::Warn, Level::Error];
    events.chain(logs(log, &levels)).collect()
}

fn agent() -> AgentTag {
    let agent_id = AgentId::parse("toast").unwrap();
    AgentTag { agent_id, role: "polecat".into(), incarnation: Incarnation(2) }
}

/// A time of the same run.
fn earlier(ms: i64) -> Timestamp {
    Timestamp(AT.0 - ms)
}

fn starts() -> [Event; 4] {
    [
        Event::AgentStart {
            agent: agent(),
            component: "polecat".into(),
            timings: StartTimings {
                wait_us: 0,
                compile_us: 14,
                instantiate_us: 61,
                restore_us: 0,
                guest_start_us: 228,
            },
        },
        Event::AgentStartJoined {
            agent_id: agent().agent_id,
            role: agent().role,
            incarnation: Some(Incarnation(2)),
            running: true,
        },
        Event::AgentStartSuperseded {
            agent_id: agent().agent_id,
            role: agent().role,
            incarnation: Some(Incarnation(2)),
            by: Some("a newer start".into()),
        },
        Event::AgentStartFailed {
            agent_id: agent().agent_id,
            role: "polecat".into(),
            incarnation: Some(Incarnation(2)),
            phase: StartPhase::Component,
            error_type: "wrong-world".into(),
            error: "component \"polecat\" does not export bulkhead:agent/lifecycle@0.2.0".into(),
            action: "build the component for world bulkhead:agent/agent@0.2.0".into(),
        },
    ]
}

fn turns() -> [Event; 16] {
    let turn = |outcome, error: Option<&str>| Event::AgentTurn {
        agent: agent(),
        message_id: MESSAGE.into(),
        outcome,
        error: error.map(str::to_owned),
        cpu_us: 8_400,
        wall_ms: 2_310,
    };
    [
        Event::AgentMessage(AgentMessage {
            agent: agent(),
            message_id: MESSAGE.into(),
            sender: Sender::Agent(AgentId::parse("mayor").unwrap()),
            bytes: 184,
            attempt: 1,
        }),
        Event::MessageSetAside(MessageSetAside {
            agent: agent(),
            message_id: MESSAGE.into(),
            sender: Sender::Agent(AgentId::parse("mayor").unwrap()),
            attempts: 2,
            crash_ids: vec!["019bc0f4-5b11-7c02-8e1f-6a3c8e02b1a4".into(), CRASH.into()],
        }),
        turn(Some(Next::Idle), None),
        turn(None, Some("the model answered 503 three times")),
        Event::SecretUsed {
            agent: agent(),
            secret: "github".into(),
            destination: "api.github.com:443".into(),
        },
        Event::WorkspacePrepared(WorkspacePrepared {
            agent: agent(),
            rig: "docs".into(),
            branch: "bulkhead/toast".into(),
            head: "1c7a9e0b5d2f4a68c3e1b7d9f0a2c4e6b8d0f1a3".into(),
            reused: false,
            duration_ms: 2_140,
        }),
        Event::WorkspaceArrived(WorkspaceArrived {
            agent_id: agent().agent_id,
            bytes: 1_204_118,
            entries: 73,
            duration_ms: 118,
            kept_as: Some("/var/lib/bulkhead/workspaces/.older/toast".into()),
        }),
        Event::WorkspaceShipped(WorkspaceShipped {
            agent_id: agent().agent_id,
            bytes: 1_310_720,
            packed_bytes: 402_113,
            entries: 81,
            skipped: 1,
            duration_ms: 164,
        }),
        Event::WorkspaceNotShipped(WorkspaceNotShipped {
            agent_id: agent().agent_id,
            code: "too-large".into(),
            message: "the workspace has 81264640 bytes in 412 entries, and 67108864 bytes (ship.workspace_mb) in 65536 entries \
                      are shipped"
                .into(),
            bytes: Some(81_264_640),
            limit_bytes: Some(67_108_864),
        }),
        Event::WorkSaved(WorkSaved {
            agent: agent(),
            rig: "docs".into(),
            branch: "bulkhead/toast".into(),
            commit: "9e0b5d2f4a68c3e1b7d9f0a2c4e6b8d0f1a31c7a".into(),
            duration_ms: 910,
        }),
        Event::WorkNotSaved(WorkNotSaved {
            agent: agent(),
            rig: "docs".into(),
            branch: "bulkhead/toast".into(),
            code: "rejected".into(),
            message: "the push to bulkhead/toast was rejected: [rejected] (fetch first)".into(),
            duration_ms: 1_310,
        }),
        Event::AgentUnhandledRejection {
            agent: agent(),
            message: "TypeError: fetch of the plan failed".into(),
            exceptions: vec![Exception {
                kind: "TypeError".into(),
                message: "fetch of the plan failed".into(),
                frames: vec![SourceFrame {
                    function: Some("plan".into()),
                    file: "agent.js".into(),
                    line: 41,
                    column: Some(11),
                }],
            }],
            dropped: 0,
        },
        Event::ToolStarted(ToolStarted {
            agent: agent(),
            tool: 41,
            program: "cargo".into(),
            arguments: vec!["test".into(), "--quiet".into()],
        }),
        Event::ToolExited(ToolExited {
            agent: agent(),
            tool: 41,
            program: "cargo".into(),
            end: ToolEnd::MemoryLimit,
            code: None,
            signal: None,
            wall_ms: 8_412,
            cpu_ms: 14_730,
            peak_memory_bytes: 536_870_912,
            output_bytes: 18_230,
        }),
        Event::MemorySoftLimit(MemorySoftLimit {
            agent: agent(),
            used_bytes: 53_739_520,
            host_bytes: 1_310_720,
            soft_bytes: 53_687_091,
            limit_bytes: 67_108_864,
        }),
        Event::AgentCpuThrottled { agent: agent(), cpu_max_percent: 10, cpu_us: 412_800 },
    ]
}

fn log(level: Level) -> Event {
    let fields = [("guest.branch".to_owned(), "polecat/toast".to_owned())].into();
    let message = "pushed the branch".into();
    Event::AgentLog { agent: agent(), level, stream: "log", dropped: 0, message, fields }
}

fn ends() -> [Event; 4] {
    [
        Event::AgentExit {
            agent: agent(),
            reason: ExitReason::Panic,
            phase: Phase::Handle,
            message: "the guest panicked: no rig named \"docs\"".into(),
            by: None,
            agent_uptime_ms: 184_200,
            turns: 17,
            cpu_us: 142_800,
            undelivered: 0,
            dropped_log_lines: 0,
            crash_id: Some(CRASH.into()),
        },
        Event::AgentCrash(std::sync::Arc::new(crash())),
        Event::CrashSymbolized {
            agent: agent(),
            crash_id: CRASH.into(),
            symbolized: Symbolized::Done,
            frames: frames(true),
            unavailable: None,
        },
        Event::CoreDumpKept { agent: agent(), crash_id: CRASH.into(), core_dump: core_dump() },
    ]
}

fn restarts() -> [Event; 5] {
    [
        Event::RestartScheduled(RestartScheduled {
            agent: agent(),
            reason: ExitReason::Panic,
            restart_at: Timestamp(AT.0 + 412),
            backoff_ms: 412,
            attempts_in_window: 2,
            max_restarts: 5,
            window_ms: 300_000,
        }),
        Event::RestartCancelled(RestartCancelled { agent: agent(), by: "a stop".into() }),
        Event::ModelBudget(ModelBudget {
            agent: agent(),
            budget: "tokens_per_day",
            scope: "role",
            used: 1_612_480,
            bound: 2_000_000,
            exhausted: false,
            ends: false,
        }),
        Event::AgentStuck(AgentStuck {
            agent: agent(),
            rule: "same_tool_calls",
            count: 5,
            message: "the model called tool \"read_file\" 5 times in a row with the same arguments"
                .into(),
        }),
        Event::AgentQuarantined(AgentQuarantined {
            agent: agent(),
            why: QuarantineReason::Intensity,
            message: "it ended 6 times within 300 s, 5 are allowed; last: panic".into(),
            reason: ExitReason::Panic,
            attempts_in_window: 6,
            crash_id: Some(CRASH.into()),
            action: "look at its crashes, then start it with force or with a new spec",
        }),
    ]
}

/// Innermost first; raw, or with the file and line where the debug information has them.
fn frames(symbolized: bool) -> Frames {
    let frame = |index, function: &str, offset, file: &str, line, in_app| Frame {
        index,
        function: Some(function.into()),
        module: Some("polecat".into()),
        function_index: 412 + u32::try_from(index).unwrap(),
        module_offset: Some(offset),
        file: symbolized.then(|| file.into()),
        line: symbolized.then_some(line),
        column: symbolized.then_some(9),
        in_app,
    };
    vec![
        frame(0, "core::panicking::panic_fmt", 918_402, "core/src/panicking.rs", 75, false),
        frame(1, "polecat::rigs::find", 104_233, "guest/polecat/src/rigs.rs", 48, true),
    ]
    .into()
}

fn sample(ms_earlier: i64, bytes: u64) -> MemorySample {
    MemorySample { ts: earlier(ms_earlier), bytes }
}

fn core_dump() -> CoreDumpRef {
    CoreDumpRef { id: CRASH.into(), bytes: 1_376_256, note: None }
}

fn crash() -> CrashRecord {
    CrashRecord {
        crash_id: CRASH.into(),
        agent_id: agent().agent_id,
        role: agent().role,
        name: "Toast".into(),
        rig_id: Some("docs".into()),
        town_id: Some(TOWN.into()),
        run_id: RUN.into(),
        incarnation: Incarnation(2),
        start_attempt: 2,
        component: "polecat".into(),
        component_sha256: Some(Digest([0x3b; 32])),
        source_sha256: None,
        reason: ExitReason::Panic,
        trap: Some("unreachable".into()),
        message: "the guest panicked: no rig named \"docs\"".into(),
        location: Some(Location { file: "guest/polecat/src/rigs.rs".into(), line: 48, column: 9 }),
        exceptions: Vec::new(),
        status: None,
        code: None,
        requested_bytes: None,
        fingerprint: "c41d8e02a7f3965b".into(),
        deterministic: Determinism::Unknown,
        frames: frames(false),
        symbolized: Symbolized::Pending,
        started_at: earlier(184_200),
        crashed_at: AT,
        agent_uptime_ms: 184_200,
        phase: Phase::Handle,
        message_id: Some(MESSAGE.into()),
        host_call: None,
        resources: Resources {
            memory_bytes: 4_194_304,
            memory_peak_bytes: 6_291_456,
            memory_limit_bytes: 67_108_864,
            host_bytes: HostBytes { mailbox: 1_560, events: 12_288, ..HostBytes::default() },
            soft_limit_crossed: false,
            denied_growths: 0,
            cpu_us: 142_800,
            turns: 17,
            host_calls: 96,
            mailbox_depth: 1,
            samples: vec![sample(10_000, 6_291_456), sample(5_000, 4_194_304)],
            models: ModelCounts {
                calls: 4,
                failed: 1,
                tokens: TokenUsage { input: 20_800, cached: 16_400, output: 1_240, reasoning: 480 },
                cost_nano: 36_720_000,
            },
        },
        last_log_lines: vec!["looking for the rig \"docs\"".into()],
        last_events: vec![LastEvent {
            id: 41,
            event: "agent.turn".into(),
            timestamp: earlier(12_030),
        }],
        active_tools: vec!["git".into()],
        tools_in_flight: vec![RunningTool {
            tool: 41,
            program: "cargo".into(),
            arguments: vec!["test".into()],
            started_at: Timestamp(AT.0 - 3_000),
            memory_bytes: 268_435_456,
        }],
        active_agents: 12,
        rss_mb: Some(148.2),
        pressure: Some(0.12),
        eviction: None,
        consequence: Consequence::Restart {
            restart_at: Timestamp(AT.0 + 412),
            backoff_ms: 412,
            attempts_in_window: 2,
        },
        core_dump: None,
    }
}
