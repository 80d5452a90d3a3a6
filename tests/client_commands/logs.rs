//! `bulkhead logs`: the events of all, those that are kept and those to come.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use harness::{Host, Value, wait_for};

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

#[test]
fn who_follows_waits_for_a_host_that_still_boots() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    listener.set_nonblocking(true).expect("set a flag");
    let person = Person::at(&format!("http://{}", listener.local_addr().expect("an address")));
    // Of one connection after the other: the path that is asked, and an answer.
    let answer = |kind: &str, body: &str| {
        let (mut connection, _) = wait_for("a connection", || listener.accept());
        let mut asked = BufReader::new(connection.try_clone().expect("the connection")).lines();
        let first = asked.next().expect("a request").expect("a request");
        while asked.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        write!(connection, "HTTP/1.1 {kind}\r\nconnection: close\r\n\r\n{body}").expect("answer");
        first
    };
    let early = "503 Service Unavailable\r\ncontent-type: application/json";
    let body = r#"{"error":"not back yet","error_type":"not-back-yet","status":503}"#;
    let stream = "200 OK\r\ncontent-type: text/event-stream";
    let event = |id: u64| {
        let data = format!(
            r#"{{"type":"event","id":{id},"agentId":"one","event":"e","data":{id},"timestamp":"2026-01-15T09:30:00.000Z"}}"#
        );
        format!("id: {id}\nevent: event\ndata: {data}\n\n")
    };

    let words = ["logs", "one", "--follow", "-n", "1", "--json"];
    let mut follow = Running::of(person.command(&words));
    answer(early, body);
    answer(stream, &(event(1) + &event(2)));
    answer(early, body);
    assert!(answer(stream, &event(3)).contains("/agents/one/events/stream"));
    for id in [2, 3] {
        let event: Value = serde_json::from_str(&follow.line()).expect("JSON");
        assert_eq!(event["id"], id, "{event}");
    }
    follow.interrupt();
    follow.ends().fails(130, &["not back yet", "waiting for it for up to 60 s", "answers again"]);

    let once = Running::of(person.command(&["logs", "one"]));
    answer(early, body);
    once.ends().fails(3, &["not back yet"]);
}

#[test]
fn who_watches_agents_waits_for_a_host_that_went_down() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    listener.set_nonblocking(true).expect("set a flag");
    let person = Person::at(&format!("http://{}", listener.local_addr().expect("an address")));
    let answer = |list: &str| {
        let (mut connection, _) = wait_for("a connection", || listener.accept());
        let mut asked = BufReader::new(connection.try_clone().expect("the connection")).lines();
        while asked.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        // One that went down answers nothing.
        if !list.is_empty() {
            let kind = "200 OK\r\ncontent-type: application/json\r\nconnection: close";
            write!(connection, "HTTP/1.1 {kind}\r\n\r\n{list}").expect("answer");
        }
    };
    let mut watch = Running::of(person.command(&["ps", "--watch=100ms"]));
    answer("[]");
    assert_eq!(watch.line().trim(), "no agents");
    answer("");
    answer("");
    answer("[]");
    assert_eq!(watch.line().trim(), "");
    assert_eq!(watch.line().trim(), "no agents");
    watch.interrupt();
    watch.ends().fails(130, &["waiting for it for up to 60 s", "answers again"]);

    let never = Running::of(person.command(&["ps", "--watch"]));
    answer("");
    let ended = never.ends();
    assert_eq!((ended.code, ended.stderr.contains("waiting for it")), (1, false), "{ended:?}");
}
