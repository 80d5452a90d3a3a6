//! `bulkhead logs`: the events of all, those that are kept and those to come.

use harness::{Host, Value};

use super::{Person, Running};

#[test]
fn the_last_events_of_all_are_shown_and_followed() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    let client = host.client();
    for id in ["one", "two"] {
        client.start(id, "puppet");
        client.ask(id, &format!("hello {id}"));
    }
    let turns = person.says(&["logs", "--event", "agent.turn"]).ok();
    let whose: Vec<_> =
        turns.lines().map(|line| line.split(' ').nth(1).expect("an agent")).collect();
    assert_eq!(whose, ["one", "two"], "{turns}");
    let last = person.says(&["logs", "one", "-n", "1", "--json"]).json();
    assert_eq!((&last["agentId"], &last["data"]["reply"]), (&"one".into(), &"hello one".into()));
    assert_eq!(person.says(&["logs", "-n", "0"]).ok(), "");
    person.says(&["logs", "ghost"]).fails(3, &["ghost", "status 404"]);
    person.says(&["logs", "--event", "a&b"]).fails(2, &["agent.*"]);

    let words = ["logs", "-f", "-n", "1", "--json", "--event", "agent.*"];
    let mut follow = Running::of(person.command(&words));
    let mut next = || -> Value { serde_json::from_str(&follow.line()).expect("JSON") };
    assert_eq!(next()["data"]["reply"], "hello two");
    client.ask("one", "once more");
    let turn = next();
    assert_eq!((&turn["agentId"], &turn["data"]["reply"]), (&"one".into(), &"once more".into()));
    follow.interrupt();
    assert_eq!(follow.ends().code, 130);
    host.finish();
}

#[test]
fn who_follows_an_agent_that_is_not_there_waits_for_it() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    let mut follow = Running::of(person.command(&["logs", "one", "--follow", "--json"]));
    host.client().start("one", "puppet");
    let event: Value = serde_json::from_str(&follow.line()).expect("JSON");
    assert_eq!(event["agentId"], "one", "{event}");
    drop(follow);
    host.finish();
}
