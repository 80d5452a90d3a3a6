//! A guest that ends its own process.

use harness::Trial;

#[test]
fn a_failing_exit_is_reported_with_its_status() {
    let trial = Trial::of(&["exit-code"]);
    // WASI 0.2 carries only ok and err: 3 becomes 1.
    let crash = trial.ends_by("exit-code", "exit 3", "guest_exit");
    assert_eq!(crash["status"], 1, "{crash}");
    trial.finish();
}

#[test]
fn an_exit_with_0_out_of_a_turn_is_reported_too() {
    let trial = Trial::of(&["exit-code"]);
    let crash = trial.ends_by("exit-code", "exit 0", "guest_exit");
    assert_eq!(crash["status"], 0, "{crash}");
    trial.finish();
}

#[test]
fn a_body_that_is_no_status_fails_its_turn_only() {
    let trial = Trial::of(&["exit-code"]);
    trial.client().start("exit-code", "exit-code");
    let answer = trial.client().send_wait("exit-code", "exit soon").expect_error(502, &[]);
    assert_eq!(answer.error_type.as_deref(), Some("bad-body"), "{answer:?}");
    assert_eq!(trial.client().ask("exit-code", "hi"), "hi");
    trial.finish();
}
