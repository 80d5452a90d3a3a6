//! More memory than the role allows.

use harness::resident::Watch;
use harness::{Host, Trial, Value};

const LIMIT_BYTES: u64 = 16 * 1024 * 1024;

#[track_caller]
fn check(crash: &Value) {
    assert!(crash["requestedBytes"].as_u64() > Some(0), "{crash}");
    let resources = &crash["resources"];
    assert_eq!(resources["memoryLimitBytes"], LIMIT_BYTES, "{crash}");
    assert!(resources["deniedGrowths"].as_u64() >= Some(1), "{crash}");
    assert!(resources["memoryPeakBytes"].as_u64() <= Some(LIMIT_BYTES), "{crash}");
    assert_eq!(crash["deterministic"].as_str().map(str::is_empty), Some(false), "{crash}");
}

#[test]
fn growth_past_the_limit_ends_the_agent() {
    let trial = Trial::of(&["oom"]);
    let crash = trial.ends_by("oom", "oom", "memory_limit");
    check(&crash);
    assert!(crash["resources"]["memoryPeakBytes"].as_u64() > Some(LIMIT_BYTES / 2), "{crash}");
    assert!(!crash["frames"].as_array().unwrap().is_empty(), "no backtrace of the growth: {crash}");
    trial.finish();
}

#[test]
fn the_host_grows_by_no_more_than_the_limit_while_it_tries() {
    let trial = Trial::of(&["oom"]);
    // What the host needs to compile it is not the agent's.
    trial.client().start("oom", "oom");
    for incarnation in 1..=3 {
        let watch = Watch::begin(trial.host().pid());
        trial.crashes("oom", incarnation, "oom", "memory_limit");
        watch.check(LIMIT_BYTES);
        trial.starts_again("oom", incarnation);
    }
    trial.finish();
}

#[test]
fn one_huge_allocation_ends_it_as_well() {
    let trial = Trial::of(&["oom"]);
    let crash = trial.ends_by("oom", "oom 1024", "memory_limit");
    check(&crash);
    assert!(crash["requestedBytes"].as_u64() > Some(512 * 1024 * 1024), "{crash}");
    trial.finish();
}

#[test]
fn an_allocation_that_fits_is_given() {
    let trial = Trial::of(&["oom"]);
    trial.client().start("oom", "oom");
    assert_eq!(trial.client().ask("oom", "oom 4"), (4 * 1024 * 1024).to_string());
    let memory = trial.client().status("oom").memory;
    assert!(memory.used_bytes > 4 * 1024 * 1024, "{memory:?}");
    assert_eq!(memory.limit_bytes, LIMIT_BYTES, "{memory:?}");
    trial.finish();
}

#[test]
fn a_guest_that_sees_the_denial_and_aborts_has_met_the_memory_limit() {
    let builder = Host::builder().guest("oom").role(
        "oom-deny",
        "oom",
        "memory_limit_mb = 16\non_memory_limit = \"deny\"",
    );
    let trial = Trial::begin(builder);
    let crash = trial.ends_by("oom-deny", "oom", "memory_limit");
    check(&crash);
    let log = crash["lastLogLines"].to_string();
    assert!(log.contains("memory allocation of"), "{crash}");
    trial.finish();
}

#[test]
fn the_request_may_lower_the_limit() {
    let trial = Trial::of(&["oom"]);
    let body = harness::json!({"memoryLimitMb": 8});
    trial.client().start_with("small", "oom", body).expect(201);
    let crash = trial.crashes("small", 1, "oom 10", "memory_limit");
    assert_eq!(crash["resources"]["memoryLimitBytes"], LIMIT_BYTES / 2, "{crash}");
    trial.finish();
}
