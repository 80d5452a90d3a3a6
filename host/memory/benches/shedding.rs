//! Who has to go, when memory is short: the scores of all agents.

use std::time::Duration;

use bulkhead_memory::{Candidate, Limit, LimitSource, Reading, Shedder};
use bulkhead_types::{AgentId, Incarnation};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const MIB: u64 = 1 << 20;

#[divan::bench(args = [10, 1000, 10_000])]
fn choose_one_of(bencher: Bencher<'_, '_>, agents: u64) {
    let limit = Limit { bytes: agents * 16 * MIB, source: LimitSource::Cgroup2 };
    let reading = Reading {
        limit: Some(limit),
        used_bytes: Some(limit.bytes / 100 * 95),
        ..Reading::default()
    };
    let candidates: Vec<_> = (0..agents).map(candidate).collect();
    bencher.with_inputs(|| (Shedder::default(), candidates.clone())).bench_values(
        |(mut shedder, candidates)| {
            shedder.step(
                Duration::ZERO,
                black_box(&reading),
                0,
                |_, _| false,
                |_| false,
                || candidates,
            )
        },
    );
}

fn candidate(n: u64) -> Candidate {
    Candidate {
        agent_id: AgentId::parse(&format!("agent-{n}")).expect("an id"),
        incarnation: Incarnation(1),
        used_bytes: MIB + n % 97 * 1024,
        limit_bytes: 16 * MIB,
        weight: 1.0,
        idle: n.is_multiple_of(3),
        mayor: n == 0,
    }
}
