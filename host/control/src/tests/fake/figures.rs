//! An agent, memory and counts, played.

use super::*;

pub(super) fn model_figures() -> EndpointFigures {
    let mut durations = [0; EndpointFigures::BUCKETS_MS.len() + 1];
    (durations[2], durations[10]) = (2, 1);
    EndpointFigures {
        outcomes: [("ok", 2), ("timeout", 1)].into(),
        tokens: TokenUsage { input: 30, cached: 31, output: 32, reasoning: 33 },
        cost_nano: Some(1_500_000_000),
        durations,
        duration_ms: 401_500,
        calls: 3,
    }
}

pub(super) fn memory() -> Snapshot {
    let reading = Reading {
        limit: Some(Limit { bytes: 1000, source: LimitSource::Cgroup2 }),
        used_bytes: Some(400),
        available_bytes: Some(600),
        psi: Some(Psi { some_avg10: 50.0, full_avg10: 25.0 }),
        oom_kills: Some(3),
        ..Reading::default()
    };
    Snapshot {
        reading: Some(reading),
        heap: Some(Heap { used_bytes: 70, total_bytes: 90 }),
        high: true,
        totals: Totals::default(),
        sweeps: 12,
        last_sweep: Duration::from_millis(1),
        longest_sweep: Duration::from_millis(2),
    }
}

/// Nothing of any of these names, except one.
pub(super) fn figures(
    names: &[&'static str],
    but: &'static str,
    count: u64,
) -> Vec<(&'static str, u64)> {
    names.iter().map(|name| (*name, if *name == but { count } else { 0 })).collect()
}

pub(super) fn view(agent_id: AgentId) -> AgentView {
    AgentView {
        name: agent_id.to_string(),
        agent_id,
        role: "polecat".into(),
        component: "echo".into(),
        town_id: None,
        rig_id: None,
        model: None,
        status: "running".into(),
        busy: false,
        incarnation: Incarnation(1),
        started_at: Timestamp(0),
        last_activity_at: Timestamp(0),
        active_tools: Vec::new(),
        running_tools: Vec::new(),
        message_count: 0,
        mailbox_depth: 0,
        nudges: 0,
        cpu_us: 0,
        memory: MemoryView::default(),
        usage: AgentUsageView::default(),
        restart: RestartView::new(
            &RestartRules::default(),
            RestartState::default(),
            None,
            Timestamp(0),
            None,
        ),
        exit_reason: None,
        exit: None,
        set_aside: None,
    }
}
