//! What an end costs until it is decided what follows from it.

use std::time::Duration;

use bulkhead_model::restart::PastEnd;
use bulkhead_model::{
    Exit, ExitReason, Incarnation, Phase, RestartPolicy, RestartRules, RestartState, Timestamp,
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// With a history as long as the rules keep it.
#[divan::bench(args = [5, 100])]
fn restart_decision(bencher: Bencher<'_, '_>, max_restarts: u32) {
    let rules =
        RestartRules { policy: RestartPolicy::Transient, max_restarts, ..RestartRules::default() };
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "a trap");
    let end = |at_ms: i64| {
        PastEnd::new(&exit, Timestamp(at_ms), Incarnation(1), "fingerprint".into(), None)
    };
    let mut state = RestartState::default();
    for n in 0..i64::from(max_restarts) {
        state.after(&rules, end(n * 1_000_000), Duration::ZERO, 0.5);
    }
    let mut at_ms = i64::from(max_restarts) * 1_000_000;
    bencher
        .with_inputs(|| {
            at_ms += 1_000_000;
            end(at_ms)
        })
        .bench_local_values(|end| state.after(black_box(&rules), end, Duration::ZERO, 0.5));
}
