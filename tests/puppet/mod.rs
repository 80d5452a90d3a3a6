//! A guest that does what the tests of the lifecycle tell it.

use harness::Trial;

#[test]
fn it_does_as_it_is_told() {
    let trial = Trial::of(&["puppet"]);
    trial.client().start("puppet", "puppet");
    assert_eq!(trial.client().ask("puppet", "hello there"), "hello there");
    assert_eq!(trial.client().ask("puppet", "count"), "2");
    let life = trial.client().status("puppet")["incarnation"].as_u64().unwrap_or_default();
    trial.crashes("puppet", life, "panic", "panic");
    trial.starts_again("puppet", life);
    let done = trial.client().send_wait("puppet", "done").expect(200);
    assert_eq!((&done["outcome"], &done["reply"]), (&"done".into(), &"done".into()));
    assert_eq!(trial.client().ended("puppet")["exitReason"], "completed");
    trial.finish();
}
