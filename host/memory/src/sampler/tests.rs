use bulkhead_types::memory::MemoryTrend;

use super::*;

const MIB: u64 = 1024 * 1024;

/// Agents as a test wants them.
#[derive(Default)]
struct Played(Vec<(AgentId, Arc<str>, Incarnation, Option<u64>)>);

impl Played {
    fn of(agents: &[(&str, u64, Option<u64>)]) -> Self {
        let role: Arc<str> = "polecat".into();
        let agent = |(id, incarnation, used): &(&str, u64, Option<u64>)| {
            (AgentId::parse(id).unwrap(), Arc::clone(&role), Incarnation(*incarnation), *used)
        };
        Self(agents.iter().map(agent).collect())
    }
}

impl AgentsMemory for Played {
    fn for_each(&self, visit: &mut dyn FnMut(&[AgentReading<'_>])) {
        for (agent_id, role, incarnation, used_bytes) in &self.0 {
            visit(&[AgentReading {
                agent_id,
                role,
                incarnation: *incarnation,
                used_bytes: *used_bytes,
                host_bytes: 10,
                peak_bytes: used_bytes.unwrap_or(0),
                limit_bytes: 64 * MIB,
            }]);
        }
    }
}

/// One sweep every 5 s.
struct Rig(Sampler, u64);

impl Rig {
    fn new() -> Self {
        Self(Sampler::new(), 0)
    }

    fn sweep(&mut self, agents: &[(&str, u64, Option<u64>)]) -> Totals {
        self.1 += 5;
        self.0.sweep(Duration::from_secs(self.1), &Reading::default(), &Played::of(agents))
    }

    fn samples(&self, id: &str) -> Option<Vec<u64>> {
        let track = self.0.track(&AgentId::parse(id).unwrap())?;
        Some(track.series.fine(&self.0.times).map(|(_, bytes)| bytes / MIB).collect())
    }

    fn trend(&self, id: &str) -> Option<MemoryTrend> {
        self.0.trend_of(self.0.track(&AgentId::parse(id).unwrap())?)
    }
}

#[test]
fn every_agent_has_its_own_samples_and_the_container_their_sum() {
    let mut rig = Rig::new();
    for n in 1..=3 {
        let agents = [("a", 1, Some(n * MIB)), ("b", 1, Some(7 * MIB)), ("c", 4, None)];
        let totals = rig.sweep(&agents);
        let used_bytes = (n + 7) * MIB;
        assert_eq!(totals, Totals { agents: 3, active_agents: 2, used_bytes, host_bytes: 20 });
    }
    assert_eq!(rig.samples("a"), Some(vec![1, 2, 3]));
    assert_eq!(rig.samples("b"), Some(vec![7, 7, 7]));
    assert_eq!(rig.samples("c"), Some(vec![]), "what is not active has no samples");
    assert_eq!(rig.samples("d"), None);
    let guests: Vec<_> = rig.0.container.guests.fine(&rig.0.times).map(|(_, b)| b / MIB).collect();
    assert_eq!(guests, [8, 9, 10]);
}

#[test]
fn an_agent_that_is_gone_is_forgotten_and_begins_again() {
    let mut rig = Rig::new();
    rig.sweep(&[("a", 1, Some(MIB)), ("b", 1, Some(2 * MIB)), ("c", 1, Some(3 * MIB))]);
    rig.sweep(&[("c", 1, Some(3 * MIB)), ("b", 1, Some(2 * MIB))]);
    assert_eq!(rig.samples("a"), None);
    rig.sweep(&[("a", 2, Some(MIB)), ("b", 1, Some(2 * MIB)), ("c", 1, Some(3 * MIB))]);
    assert_eq!(rig.samples("a"), Some(vec![1]));
    assert_eq!(rig.samples("b"), Some(vec![2, 2, 2]));
    assert_eq!(rig.samples("c"), Some(vec![3, 3, 3]), "whatever the order");
    rig.sweep(&[]);
    assert_eq!((rig.0.tracks.len(), rig.0.by_id.len()), (0, 0));
}

#[test]
fn a_sweep_in_another_order_looks_for_agents_once() {
    let mut rig = Rig::new();
    let names: Vec<_> = (0..100).map(|n| format!("agent-{n}")).collect();
    let mut agents: Vec<_> = names.iter().map(|id| (id.as_str(), 1, Some(MIB))).collect();
    rig.sweep(&agents);
    rig.sweep(&agents);
    assert_eq!(rig.0.astray, 0);
    agents.reverse();
    rig.sweep(&agents);
    assert!(rig.0.astray > 90, "{}", rig.0.astray);
    rig.sweep(&agents);
    assert_eq!(rig.0.astray, 0);
    assert_eq!(rig.samples("agent-7"), Some(vec![1; 4]));
}

#[test]
fn an_agent_that_is_shown_twice_in_one_sweep_counts_once() {
    let mut rig = Rig::new();
    let totals = rig.sweep(&[("a", 1, Some(MIB)), ("a", 1, Some(9 * MIB))]);
    assert_eq!((totals.agents, rig.samples("a")), (1, Some(vec![1])));
}

#[test]
fn a_restart_in_the_middle_begins_a_new_trend() {
    let mut rig = Rig::new();
    for n in 1..=20 {
        rig.sweep(&[("a", 1, Some(n * MIB))]);
    }
    assert_eq!(rig.trend("a").unwrap().samples, 20);
    // It crashed and rests, then its next incarnation leaks half as fast.
    rig.sweep(&[("a", 1, None)]);
    assert_eq!(rig.trend("a"), None);
    for n in 1..=9 {
        rig.sweep(&[("a", 2, Some(n * MIB / 2))]);
        assert_eq!(rig.trend("a").is_some(), n >= 8, "{n}");
    }
    let trend = rig.trend("a").unwrap();
    assert_eq!((trend.samples, trend.bytes_per_minute), (9, 6 * MIB as i64));
    assert_eq!(rig.samples("a").unwrap().len(), 29, "the series goes on over incarnations");
    // A new incarnation without a gap that a sweep saw.
    for n in 1..=8 {
        rig.sweep(&[("a", 3, Some(n * 2 * MIB))]);
    }
    assert_eq!(rig.trend("a").unwrap().bytes_per_minute, 24 * MIB as i64);
}

#[test]
fn the_largest_come_first_and_only_those_that_live() {
    let mut rig = Rig::new();
    rig.sweep(&[
        ("a", 1, Some(3 * MIB)),
        ("b", 1, None),
        ("c", 1, Some(9 * MIB)),
        ("d", 1, Some(MIB)),
        ("e", 1, Some(9 * MIB)),
    ]);
    let ids = |count| -> Vec<String> {
        rig.0.largest(count).iter().map(|agent| agent.agent_id.to_string()).collect()
    };
    assert_eq!(ids(3), ["c", "e", "a"]);
    assert_eq!(ids(10), ["c", "e", "a", "d"]);
    assert_eq!(ids(0), [""; 0]);
    assert_eq!(rig.0.largest(1)[0].used_bytes, 9 * MIB);
}

#[test]
fn an_agent_takes_little_space() {
    let mut rig = Rig::new();
    rig.sweep(&[("a", 1, Some(MIB))]);
    let entry = size_of::<Track>() + size_of::<(AgentId, usize)>() + 1;
    let space = |rig: &Rig| entry + rig.0.tracks[0].series.heap_bytes();
    assert!(space(&rig) <= 400, "{} bytes at first", space(&rig));
    for _ in 0..20_000 {
        rig.sweep(&[("a", 1, Some(MIB))]);
    }
    assert!(space(&rig) <= 1536, "{} bytes in the end", space(&rig));
}

#[test]
fn what_the_kernel_says_of_the_container_has_a_trend() {
    let mut sampler = Sampler::new();
    for n in 0..10 {
        let reading = Reading { used_bytes: Some(n * MIB), ..Reading::default() };
        sampler.sweep(Duration::from_secs(5 * n), &reading, &Played::default());
    }
    let trend = sampler.trend(Some(21 * MIB)).unwrap();
    assert_eq!((trend.bytes_per_minute, trend.time_left_ms), (12 * MIB as i64, Some(60_000)));
}
