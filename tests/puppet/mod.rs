//! A guest that does what the tests of the lifecycle ask.

use harness::{Host, Trial};

#[test]
fn it_does_what_it_is_asked() {
    let trial = Trial::of(&["puppet"]);
    trial.client().start("puppet", "puppet");
    assert_eq!(trial.client().ask("puppet", "hello there"), "hello there");
    assert_eq!(trial.client().ask("puppet", "count"), "2");
    let number = trial.client().status("puppet").incarnation.0;
    trial.crashes("puppet", number, "panic", "panic");
    trial.starts_again("puppet", number);
    let done = trial.client().send_wait("puppet", "done").turn();
    assert_eq!((&*done.outcome, done.reply.as_deref()), ("done", Some("done")));
    assert_eq!(trial.client().ended("puppet").exit_reason.as_deref(), Some("completed"));
    trial.finish();
}

#[test]
fn a_message_whose_turns_never_end_has_a_budget_of_cpu_time() {
    let trial = Trial::begin(Host::builder().guest("puppet").role(
        "puppet",
        "puppet",
        "message_cpu_ms = 300",
    ));
    trial.client().start("puppet", "puppet");
    // Each of these turns takes microseconds. It has a price for what it costs the host.
    let crash = trial.crashes("puppet", 1, "turns 1000000000 never", "cpu_deadline");
    let message = crash["message"].as_str().unwrap_or_default();
    assert!(message.contains("300 ms are allowed"), "{crash}");
    // A message that ends has its own budget. By their prices alone, all of these cost more than one has.
    trial.starts_again("puppet", 1);
    for _ in 0..11 {
        assert_eq!(trial.client().ask("puppet", "turns 600 over"), "over");
    }
    trial.finish();
}
