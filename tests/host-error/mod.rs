//! Host functions that fail, by fault injection.

use harness::{Host, Trial};

#[test]
fn a_host_function_that_fails_is_the_hosts_fault_and_ends_one_agent() {
    let trial = Trial::of(&["host-error"]);
    let crash = trial.ends_by("host-error", "error", "host_error");
    assert!(!crash["message"].as_str().unwrap().is_empty(), "{crash}");
    trial.finish();
}

#[test]
fn a_host_function_that_panics_is_caught_at_the_boundary() {
    let trial = Trial::of(&["host-error"]);
    let crash = trial.ends_by("host-error", "panic", "host_error");
    assert!(crash["message"].as_str().unwrap().contains("panic"), "{crash}");
    trial.finish();
}

#[test]
fn without_the_option_of_its_role_nothing_is_injected() {
    let trial = Trial::begin(Host::builder().guest("host-error").role("plain", "host-error", ""));
    trial.client().start("plain", "plain");
    for body in ["panic", "error"] {
        assert_eq!(trial.client().ask("plain", body), "host returned nothing");
    }
    trial.finish();
}
