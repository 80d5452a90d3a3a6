//! What an end costs until it is known which cause it has and decided what follows from it.

use std::time::Duration;

use bulkhead_types::restart::PastEnd;
use bulkhead_types::{
    Exit, ExitReason, Frame, Frames, Incarnation, Phase, RestartPolicy, RestartRules, RestartState,
    Timestamp,
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Of a panic with as many frames as a small guest has.
#[divan::bench]
fn fingerprint(bencher: Bencher<'_, '_>) {
    let mut exit = Exit::new(ExitReason::Panic, Phase::Handle, "no rig named docs");
    exit.frames = frames();
    bencher.bench(|| black_box(&exit).fingerprint());
}

/// The frames of a crash as text: those of a fault that is new, and those of one that was seen before.
#[divan::bench(args = [false, true])]
fn frames_as_json(bencher: Bencher<'_, '_>, seen_before: bool) {
    let known = frames();
    let to_json = |frames: &Frames| serde_json::to_string(frames).expect("it is JSON");
    to_json(&known);
    bencher
        .with_inputs(|| if seen_before { known.clone() } else { frames() })
        .bench_values(|frames| to_json(black_box(&frames)));
}

fn frames() -> Frames {
    let frame = |index: u32| Frame {
        index: index as usize,
        function: Some(format!("polecat::rigs::find::{{closure#{index}}}")),
        module: Some("polecat.wasm".into()),
        function_index: 400 + index,
        module_offset: Some(918_402 + u64::from(index)),
        file: Some("guest/polecat/src/rigs.rs".into()),
        line: Some(48),
        column: Some(9),
        in_app: true,
    };
    (0..20).map(frame).collect()
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
