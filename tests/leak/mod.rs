//! A leak that a sampler must see coming.

use harness::Trial;
use harness::resident::Watch;

const LIMIT_BYTES: u64 = 16 * 1024 * 1024;

fn used_bytes(trial: &Trial) -> u64 {
    trial.client().status("leak").memory.used_bytes
}

#[test]
fn a_leak_shows_in_the_status_then_in_one_soft_mark_then_ends_the_agent() {
    let trial = Trial::of(&["leak"]);
    trial.client().start("leak", "leak");

    let watch = Watch::begin(trial.host().pid());
    let before = used_bytes(&trial);
    let mut last = before;
    for round in 1..=6 {
        assert_eq!(trial.client().ask("leak", "leak 1024"), (round * 1024).to_string());
        let now = used_bytes(&trial);
        assert!(now >= last, "memory went from {last} to {now}");
        last = now;
    }
    assert!(last >= before + 6 * 1024 * 1024, "six MiB leaked, {before} to {last} seen");
    assert!(trial.host().events_named("agent.memory_soft_limit").is_empty(), "16 MiB are far");

    // The soft mark is at 80 %: 12.8 of 16 MiB.
    let mut turns_left = 16;
    while trial.host().events_of("leak", "agent.memory_soft_limit").is_empty() {
        assert!(turns_left > 0, "no soft mark before {last} bytes");
        turns_left -= 1;
        trial.client().ask("leak", "leak 512");
        last = used_bytes(&trial);
        if last > 13_421_773 {
            trial.host().wait_for_event("leak", "agent.memory_soft_limit");
        }
    }
    let crash = trial.crashes("leak", 1, "leak 16384", "memory_limit");
    assert!(crash["resources"]["memoryPeakBytes"].as_u64() >= Some(last), "{crash}");
    watch.check(LIMIT_BYTES);
    let marks = trial.host().events_of("leak", "agent.memory_soft_limit");
    assert_eq!(marks.len(), 1, "one crossing, one line");
    assert_eq!(marks[0]["level"], "warn");
    trial.starts_again("leak", 1);
    assert!(used_bytes(&trial) < last, "a new incarnation begins with little");
    trial.finish();
}
