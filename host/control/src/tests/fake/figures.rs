//! An agent, memory and counts, played.

use bulkhead_api::Stuck;

use super::*;

fn model_figures() -> EndpointFigures {
    let mut durations = [0; EndpointFigures::BUCKETS_MS.len() + 1];
    (durations[2], durations[10]) = (2, 1);
    let of_model = ModelFigures {
        outcomes: [("ok", 2), ("timeout", 1)].into(),
        tokens: TokenUsage { input: 30, cached: 31, output: 32, reasoning: 33 },
        cost_nano: Some(1_500_000_000),
    };
    EndpointFigures {
        models: [(("polecat".into(), "large".into()), of_model)].into(),
        durations,
        duration_ms: 401_500,
        calls: 3,
    }
}

fn memory() -> Snapshot {
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

/// So many in these buckets.
fn durations(buckets: &[(usize, u64)], sum_ms: u64) -> DurationFigures {
    let mut figures = DurationFigures::default();
    for (bucket, count) in buckets {
        figures.buckets[*bucket] = *count;
    }
    DurationFigures { sum: Duration::from_millis(sum_ms), ..figures }
}

fn role_metrics() -> RoleMetrics {
    RoleMetrics {
        role: "polecat".into(),
        agents: figures(AgentState::NAMES, "running", 44),
        figures: RoleFigures {
            starts: 45,
            crashes: 46,
            restarts: 47,
            cpu_throttled: Duration::from_millis(47_500),
        },
    }
}

pub(super) fn metrics(ready: bool, durable: bool) -> Metrics {
    Metrics {
        events: figures(Event::NAMES, "agent.start", 7),
        exits: figures(ExitReason::NAMES, "trap", 2),
        starts: durations(&[(0, 1), (12, 1)], 301_500),
        turns: durations(&[(2, 3)], 12),
        roles: vec![role_metrics()],
        dropped_lines: vec![("info", 1)],
        agents: figures(AgentState::NAMES, "running", 3),
        missing: vec![("backoff", 41), ("quarantined", 42), ("failed", 43)],
        stores: 4,
        tasks: 5,
        slots_used: 6,
        slots_max: 1000,
        mailbox_messages: 8,
        mailbox_bytes: 9,
        guest_memory_bytes: 65536,
        committed_bytes: 131_072,
        memory: memory(),
        agent_host_bytes: 4096,
        symbolizer: SymbolizerFigures {
            looked_up: 10,
            repeated: 11,
            dropped: 12,
            unavailable: 13,
            kept_bytes: 14,
        },
        crashes: CrashStats {
            kept: 15,
            bytes: 16,
            evicted: 17,
            written: 18,
            write_errors: 19,
            dropped: 20,
            waiting: 24,
            sink: Some(SinkStats {
                stored: 34,
                failed: 35,
                dropped: 36,
                age: Some(Duration::from_millis(1500)),
                failing: None,
            }),
        },
        core_dumps: CoreDumpFigures { kept: 21, refused: 22 },
        disk: DiskFigures { refused_by_quota: 25, refused_by_floor: 26 },
        models: vec![("main".into(), model_figures())],
        merged_usage: 27,
        tools: ToolFigures { ends: vec![("exited", 31)], running: 32, cpu_us: 33 },
        spans: SpanFigures { exported: 28, dropped: 29, failed: 30 },
        untracked_work: 23,
        untracked_messages: 24,
        durable,
        ship: Some(bulkhead_supervisor::FollowerFigures {
            segments: 37,
            bytes: 38,
            lag: Duration::from_millis(1500),
            is_first_due: false,
            failing: Some("no answer".into()),
        }),
        archives: Some(bulkhead_supervisor::ArchiveFigures {
            shipped: 39,
            bytes: 40,
            unchanged: 41,
            failed: 42,
            too_large: 43,
            arrived: 44,
            due: 45,
        }),
        previous_run: Some((Cause::OomKill, Confidence::High)),
        uptime: Duration::from_millis(1500),
        started_at: Timestamp(1750),
        ready,
        draining: false,
        version: "0",
    }
}

/// Nothing of any of these names, except one.
fn figures(names: &[&'static str], but: &'static str, count: u64) -> Vec<(&'static str, u64)> {
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
        cpu_throttled_us: 0,
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

impl super::Fake {
    pub(in crate::tests) fn set_draining(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    pub(in crate::tests) fn lose_store(&self, why: &str) {
        *self.0.store_error.lock() = Some(why.into());
    }

    /// Evidence fails as well.
    pub(in crate::tests) fn fail_to_ship(&self, why: &str, is_promised: bool) {
        *self.0.outgoing.lock() = Outgoing {
            is_promised,
            ship: Some(Stuck { for_ms: 1500, error: Some(why.into()) }),
            evidence: Some(Stuck { for_ms: 2500, error: None }),
        };
    }
}
