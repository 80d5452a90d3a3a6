//! The memory of the container.

use bulkhead_types::event::{MemoryPressure, MemoryUsageFailed, WorkspaceRemoved, WorkspacesFull};
use bulkhead_types::memory::{LargeAgent, MemorySources, MemoryTrend, MemoryUsage, Psi, mebibytes};
use bulkhead_types::{AgentId, Digest, Event, Incarnation};

const LIMIT: u64 = 512 * 1024 * 1024;

pub(super) fn all() -> [Event; 6] {
    let psi = Psi { some_avg10: 1.35, full_avg10: 0.4 };
    let usage = MemoryUsage {
        rss_mb: Some(148.2),
        heap_used_mb: Some(21.7),
        heap_total_mb: Some(38.4),
        external_mb: 86.5,
        agents: 14,
        active_agents: 12,
        limit_mb: Some(mebibytes(LIMIT)),
        used_mb: Some(131.9),
        available_mb: Some(380.1),
        psi: Some(psi),
        oom_kills: Some(0),
        group_oom_kills: Some(0),
        limit_hits: Some(0),
        trend: Some(trend(1_048_576, 0.93, 22_812_000)),
        largest: vec![largest()],
    };
    [
        Event::MemoryUsage(Box::new(usage)),
        Event::MemoryPressure(MemoryPressure {
            state: "high",
            source: "used",
            psi: Some(psi),
            used_bytes: Some(488_636_416),
            limit_bytes: Some(LIMIT),
            largest: vec![largest()],
            action: "none",
        }),
        Event::MemoryUsageFailed(MemoryUsageFailed {
            source: "/sys/fs/cgroup/memory.stat".into(),
            error: "it does not say anon".into(),
        }),
        Event::WorkspaceRemoved(WorkspaceRemoved {
            agent_id: AgentId::parse("toast").unwrap(),
            why: "pushed",
            bytes: 54_312_960,
            entries: 2_140,
            left: None,
        }),
        Event::RoleUpgrade {
            role: "polecat".into(),
            component: "polecat".into(),
            code_sha256: Some(Digest([0xab; 32])),
            phase: "failed",
            agents: 12,
            upgraded: 0,
            problem: Some("agent toast failed with it: panicked at src/lib.rs:7:5: no plan".into()),
        },
        Event::WorkspacesFull(WorkspacesFull {
            excess_bytes: 212_992_000,
            max_bytes: 1_073_741_824,
        }),
    ]
}

pub(super) fn sources() -> MemorySources {
    MemorySources {
        limit: Some("cgroup2".into()),
        limit_bytes: Some(LIMIT),
        pressure: Some("/sys/fs/cgroup/memory.pressure".into()),
        pressure_watch: Some("trigger".into()),
        heap: Some("jemalloc".into()),
    }
}

fn largest() -> LargeAgent {
    LargeAgent {
        agent_id: AgentId::parse("toast").unwrap(),
        role: "polecat".into(),
        incarnation: Incarnation(2),
        used_bytes: 41_943_040,
        limit_bytes: 67_108_864,
        trend: Some(trend(1_572_864, 0.99, 960_000)),
    }
}

fn trend(bytes_per_minute: i64, fit: f64, time_left_ms: u64) -> MemoryTrend {
    let (samples, over_ms, time_left_ms) = (120, 595_000, Some(time_left_ms));
    MemoryTrend { bytes_per_minute, fit, samples, over_ms, grows: true, time_left_ms }
}
