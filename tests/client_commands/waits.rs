//! Commands that take a while: waits that are over, interrupted, or nobody reads any more.

use harness::{Host, Value, wait_until};
use rustix::process::Signal;

use super::{Person, Running};

#[test]
fn a_wait_that_is_over_first_says_that_the_turn_goes_on() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    person.says(&["start", "one", "--role", "puppet"]).ok();
    let ended = person.says(&["send", "one", "wait hello", "--wait", "100ms"]);
    ended.fails(5, &["the turn of one has not ended after 100 ms; it continues, message msg-"]);
    assert!(ended.stdout.is_empty(), "{ended:?}");
    let json = person.says(&["send", "one", "hello", "--wait", "100ms", "--json"]);
    let pending: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((json.code, &pending["outcome"]), (5, &"pending".into()));
    host.release("one");
    wait_until("both turns are over", || !host.client().status("one").busy);
    host.finish();
}

#[test]
fn a_command_that_is_interrupted_says_what_goes_on() {
    let host = Host::builder().guest("puppet").guest("slow-start").start().ready();
    let (person, client) = (Person::of(&host), host.client());
    person.says(&["start", "one", "--role", "puppet"]).ok();
    let send = Running::of(person.command(&["send", "one", "wait hello", "--wait", "5m"]));
    wait_until("the turn is under way", || client.status("one").busy);
    send.interrupt();
    send.ends().fails(
        130,
        &["interrupted; the message stays in the mailbox of one, and its turn continues"],
    );
    assert!(client.status("one").busy, "it does go on");

    let stop = Running::of(person.command(&["stop", "one"]));
    wait_until("the stop has come", || client.status("one").status == "stopping");
    stop.interrupt();
    stop.ends().fails(130, &["interrupted; the host continues the stop of one"]);
    host.release("one");
    assert_eq!(client.ended("one").exit_reason.as_deref(), Some("stopped"), "it did go on");

    let words = ["start", "slow", "--role", "slow-start", "--prompt", "wait"];
    let start = Running::of(person.command(&words));
    wait_until("the start has come", || client.get("/agents/slow/status").status == 200);
    start.interrupt();
    start
        .ends()
        .fails(130, &["interrupted; the host continues the start: see bulkhead status slow"]);
    host.release("slow");
    client.reaches("slow", "running");
    host.finish();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    person.says(&["start", "one", "--role", "puppet"]).ok();
    for words in [&["status", "one"][..], &["ps", "--json"], &["events", "one", "--follow"]] {
        let mut command = Running::of(person.command(words));
        command.close();
        let ended = command.ends();
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{words:?}");
    }
    host.finish();
}

#[test]
fn who_follows_sees_every_event_once_over_two_runs_of_the_host() {
    let address = harness::free_address().to_string();
    let mut host = Host::builder().guest("puppet").args(&["--listen", &address]).start().ready();
    let person = Person::of(&host);
    let mut follow = Running::of(person.command(&["events", "one", "--follow", "--json"]));
    // It is not known yet.
    host.client().start("one", "puppet");
    let mut last = 0;
    let mut next = || -> Value {
        let event: Value = serde_json::from_str(&follow.line()).expect("JSON");
        let id = event["id"].as_u64().expect("an id");
        assert!(id > last, "{event}");
        last = id;
        event
    };
    next();
    for round in 0..3 {
        let reply = format!("round {round}");
        host.client().ask("one", &reply);
        assert_eq!(next()["data"]["reply"], reply);
    }
    host.client().stop("one").expect(200);
    assert_eq!(next()["event"], "agent.exit");
    host.signal(Signal::TERM);
    host.wait();

    let host = host.restart().ready();
    host.client().start("one", "puppet");
    host.client().ask("one", "once more");
    // Ids go on, and nothing is missing.
    assert_eq!(next()["event"], "agent.start");
    assert_eq!(next()["data"]["reply"], "once more");
    follow.interrupt();
    let ended = follow.ends();
    assert_eq!((ended.code, ended.stdout.as_str()), (130, ""), "{ended:?}");
    host.finish();
}

#[test]
fn events_that_were_dropped_are_shown() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    host.client().start("one", "puppet");
    // Each turn leaves an event with its reply; the ring has an eighth of the agent's memory at most.
    let dropped = || host.client().events("one", 0).dropped_before;
    while dropped().is_none() {
        host.client().ask("one", &"x".repeat(100_000));
    }
    let before = dropped().expect("an id");
    let text = person.says(&["events", "one"]).ok();
    let first = text.lines().next().expect("a line");
    assert_eq!(first, format!("-- events before #{before} were dropped before they could be read"));
    let mut follow = Running::of(person.command(&["events", "one", "--follow", "--json"]));
    assert_eq!(follow.line(), format!("{{\"droppedBefore\":{before}}}\n"));
    let event: Value = serde_json::from_str(&follow.line()).expect("JSON");
    assert!(event["id"].as_u64() >= Some(before), "{event}");
    drop(follow);
    host.finish();
}
