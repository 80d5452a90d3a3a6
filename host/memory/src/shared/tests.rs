use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use bulkhead_types::Incarnation;
use bulkhead_types::event::{MemoryPressure, MemoryUsageFailed};

use super::*;
use crate::sampler::AgentReading;

const MIB: u64 = 1024 * 1024;

/// One agent that leaks.
struct Leaker {
    id: AgentId,
    role: Arc<str>,
    used: AtomicU64,
}

impl Leaker {
    fn reading(&self) -> AgentReading<'_> {
        let used = self.used.load(Relaxed);
        AgentReading {
            agent_id: &self.id,
            role: &self.role,
            incarnation: Incarnation(1),
            used_bytes: Some(used),
            host_bytes: 0,
            peak_bytes: used,
            limit_bytes: 64 * MIB,
        }
    }
}

impl AgentsMemory for Leaker {
    fn for_each(&self, visit: &mut dyn FnMut(&[AgentReading<'_>])) {
        self.used.fetch_add(MIB, Relaxed);
        visit(&[self.reading()]);
    }
}

/// A container of recorded files, on a clock that the test moves.
struct Rig {
    dir: tempfile::TempDir,
    memory: Memory,
    second: Arc<AtomicI64>,
    leaker: Leaker,
}

impl Rig {
    fn new(budget_bytes: Option<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let second = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&second);
        let clock = Box::new(move || {
            let second = shown.load(Relaxed);
            Now {
                since: Duration::from_secs(second.unsigned_abs()),
                at: Timestamp(1_000_000 + second * 1000),
            }
        });
        let config = MemoryConfig { budget_bytes, ..MemoryConfig::default() };
        let memory = Memory::new(Kernel::at(dir.path()), config, clock);
        let id = AgentId::parse("leaker").unwrap();
        let leaker = Leaker { id, role: "polecat".into(), used: AtomicU64::new(0) };
        Self { dir, memory, second, leaker }
    }

    fn meminfo(&self, total_kib: u64, available_kib: u64) {
        let text = format!("MemTotal: {total_kib} kB\nMemAvailable: {available_kib} kB\n");
        std::fs::write(self.dir.path().join("proc/meminfo"), text).unwrap();
    }

    fn step(&self) -> Vec<Event> {
        self.second.fetch_add(5, Relaxed);
        let events = self.memory.poll(false).events;
        self.memory.sweep(&self.leaker);
        events
    }
}

#[test]
fn a_leak_shows_everywhere_with_the_time_that_is_left() {
    let rig = Rig::new(None);
    rig.meminfo(1_000_000, 900_000);
    for _ in 0..10 {
        assert_eq!(rig.step(), []);
    }
    let view = rig.memory.agent_view(rig.leaker.reading());
    let trend = view.trend.unwrap();
    assert_eq!((trend.bytes_per_minute, trend.samples), (12 * MIB as i64, 10));
    assert_eq!(trend.time_left_ms, Some(54 * 5000));
    assert_eq!(rig.memory.largest(1)[0].trend, Some(trend));
    let Event::MemoryUsage(usage) = rig.memory.usage() else { panic!("another event") };
    assert_eq!((usage.external_mb, usage.limit_mb), (10.0, Some(976.6)));
    assert_eq!(usage.largest[0].trend, Some(trend));
    // No file said these.
    assert_eq!((usage.rss_mb, usage.psi, usage.oom_kills), (None, None, None));
}

#[test]
fn samples_have_the_time_on_the_wall() {
    let rig = Rig::new(None);
    for _ in 0..3 {
        rig.step();
    }
    rig.second.fetch_add(1, Relaxed);
    let samples = rig.memory.samples(&rig.leaker.id, 2);
    let expected = [(1_010_000, 2 * MIB), (1_015_000, 3 * MIB)];
    let found: Vec<_> = samples.iter().map(|sample| (sample.ts.0, sample.bytes)).collect();
    assert_eq!(found, expected);
    assert_eq!(rig.memory.agent_view(rig.leaker.reading()).series.fine.len(), 3);
    assert_eq!(rig.memory.samples(&AgentId::parse("nobody").unwrap(), 2), []);
}

#[test]
fn a_crossing_is_reported_once_each_way() {
    let rig = Rig::new(None);
    let states = |available_kib| -> Vec<&str> {
        rig.meminfo(1000, available_kib);
        let events = rig.step();
        let state = |event: &Event| match event {
            Event::MemoryPressure(MemoryPressure { state, used_bytes, action, .. }) => {
                assert_eq!(*used_bytes, Some((1000 - available_kib) * 1024));
                assert_eq!(*action, if *state == "high" { "shed" } else { "none" });
                *state
            }
            other => panic!("another event: {other:?}"),
        };
        events.iter().map(state).collect()
    };
    assert_eq!(states(500), [""; 0]);
    assert_eq!(states(100), ["high"]);
    assert!(rig.memory.is_high());
    assert_eq!(states(50), [""; 0]);
    assert_eq!(states(150), [""; 0]);
    assert_eq!(states(300), ["normal"]);
    assert!(!rig.memory.is_high());
    assert_eq!(rig.memory.poll(true).events.len(), 1);
    assert_eq!(rig.memory.poll(true).events.len(), 0, "it is high already");
}

#[test]
fn a_broken_source_is_reported_once() {
    let rig = Rig::new(None);
    std::fs::write(rig.dir.path().join("proc/meminfo"), "nonsense").unwrap();
    let events = rig.step();
    let [Event::MemoryUsageFailed(MemoryUsageFailed { source, error })] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(source.ends_with("/proc/meminfo"), "{source}");
    assert_eq!(error, "it does not say MemTotal:");
    assert_eq!(rig.step(), []);
}

#[test]
fn the_black_box_gets_the_kernels_limit_and_everyone_else_the_budget() {
    let rig = Rig::new(Some(100 * MIB));
    rig.meminfo(1_000_000, 900_000);
    let figures = rig.memory.poll(false).figures;
    assert_eq!(figures.limit_bytes, Some(1_024_000_000));
    let sources = rig.memory.sources();
    assert_eq!((sources.limit, sources.limit_bytes), (Some("budget".into()), Some(100 * MIB)));
    assert_eq!((sources.pressure, sources.pressure_watch), (None, None));
    assert_eq!(rig.memory.view().limit_bytes, Some(100 * MIB));
}
