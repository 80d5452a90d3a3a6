//! Streams: who gets one, what it says, how it ends.

use std::time::{Duration, Instant};

use bulkhead_feed::Delta;
use bulkhead_types::AgentId;

use super::fake::Rig;
use crate::{Backend, ControlLimits};

fn ring(rig: &Rig, agent: &str) -> std::sync::Arc<bulkhead_feed::Ring> {
    rig.backend.ring(&AgentId::parse(agent).unwrap()).unwrap()
}

#[test]
fn events_come_as_they_happen_and_a_reader_goes_on_where_it_was() {
    let rig = Rig::start();
    let agent = ring(&rig, "a");
    let first = agent.push_value("e", &1);
    let mut reader = rig.client();
    let head =
        reader.open_stream("/agents/a/events/stream", &format!("last-event-id: {first}\r\n"));
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(reader.frame(), "retry: 1000");
    let second = agent.push_value("e", &2);
    let frame = reader.frame();
    assert!(
        frame.starts_with(&format!("id: {second}\ndata: {{\"type\":\"event\",\"id\":{second},")),
        "{frame}"
    );
    agent.begin_turn("m");
    agent.say(|| Delta::Text("so".into()));
    let frame = reader.frame();
    let delta =
        r#"{"type":"delta","agentId":"a","messageId":"m","deltas":[{"kind":"text","text":"so"}]}"#;
    assert_eq!(frame, format!("event: delta\ndata: {delta}"));
}

#[test]
fn the_stream_of_all_has_filters() {
    let rig = Rig::start();
    let (a, b) = (ring(&rig, "a"), ring(&rig, "b"));
    let mut of_a = rig.client();
    of_a.open_stream("/events/stream?after=0&agent=a", "");
    let mut turns = rig.client();
    turns.open_stream("/events/stream?after=0&event=agent.turn,contain*", "");
    for ring in [&a, &b] {
        ring.push_value("agent.turn", &1);
        ring.push_value("other", &2);
    }
    let null = serde_json::value::RawValue::NULL.to_owned();
    rig.backend.feed().publish("container.drained", null);
    let names = |frame: String| {
        let json: serde_json::Value =
            serde_json::from_str(frame.split_once("data: ").unwrap().1).unwrap();
        format!("{} {}", json["agentId"].as_str().unwrap_or("-"), json["event"].as_str().unwrap())
    };
    of_a.frame();
    assert_eq!([names(of_a.frame()), names(of_a.frame())], ["a agent.turn", "a other"]);
    turns.frame();
    let seen = [names(turns.frame()), names(turns.frame()), names(turns.frame())];
    assert_eq!(seen, ["a agent.turn", "b agent.turn", "- container.drained"]);
}

#[test]
fn a_stream_that_nobody_follows_ends_with_what_is_kept() {
    let rig = Rig::start();
    let (a, b) = (ring(&rig, "a"), ring(&rig, "b"));
    for at in 0..1000 {
        a.push_value("e", &at);
        b.push_value("other", &at);
    }
    let mut client = rig.client();
    for (path, events) in [
        ("/events/stream?after=0&follow=false", 2000),
        ("/events/stream?after=0&follow=false&event=e", 1000),
        ("/events/stream?after=0&follow=false&agent=b", 1000),
        ("/agents/a/events/stream?after=0&follow=false", 1000),
        ("/events/stream?follow=false", 0),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.body.matches("\ndata: ").count(), events, "{path}");
    }
    assert_eq!(client.get("/health").status, 200, "the connection goes on");
}

#[test]
fn what_was_dropped_is_a_gap() {
    let rig = Rig::start();
    let agent = ring(&rig, "a");
    let first = agent.push_value("e", &0);
    let mut last = first;
    for at in 0..3000 {
        last = agent.push_value("e", &at);
    }
    let mut reader = rig.client();
    reader.open_stream(&format!("/agents/a/events/stream?after={first}"), "");
    reader.frame();
    // 2000 are kept. What is gone is said as far as the reader is: in one gap or in several, which touch.
    let (mut gone_to, mut gaps) = (first, 0);
    let oldest = loop {
        let frame = reader.frame();
        let Some(gap) = frame.strip_prefix("event: gap\ndata: ") else { break frame };
        let gap: serde_json::Value = serde_json::from_str(gap).unwrap();
        assert_eq!((&gap["of"], &gap["after"]), (&"events".into(), &gone_to.into()), "{gap}");
        gone_to = gap["upto"].as_u64().unwrap();
        gaps += 1;
    };
    assert_eq!(gone_to, last - 2000);
    assert!(oldest.starts_with(&format!("id: {}\n", gone_to + 1)), "{oldest}");
    // Turns go first: more at once than is kept for those who read slowly.
    for _ in 0..1999 {
        reader.frame();
    }
    agent.begin_turn("m");
    // More than is kept and than the kernel holds for both ends of a connection.
    for _ in 0..1000 {
        agent.say(|| Delta::Text("x".repeat(32 * 1024)));
    }
    // What goes out before anything was dropped is no gap.
    loop {
        let frame = reader.frame();
        if frame == "event: gap\ndata: {\"type\":\"gap\",\"of\":\"deltas\"}" {
            gaps += 1;
            break;
        }
        assert!(frame.starts_with("event: delta\n"), "{frame:.80}");
    }
    assert!(reader.frame().starts_with("event: delta\n"));
    let metrics = rig.client().get("/metrics").body;
    let counted = metrics.lines().find_map(|line| line.strip_prefix("bulkhead_stream_gaps_total "));
    assert!(counted.is_some_and(|counted| counted.parse::<u64>().unwrap() >= gaps), "{metrics}");
}

#[test]
fn what_a_stream_is_asked_for_is_checked() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (path, at) in [
        ("/events/stream?after=x", "after"),
        ("/events/stream?agent=no/id", "agent"),
        ("/events/stream?deltas=perhaps", "deltas"),
        ("/events/stream?follow=perhaps", "follow"),
        ("/events/stream?since=1", "since"),
        ("/agents/a/events/stream?agent=b", "agent"),
    ] {
        let answer = client.get(path);
        assert_eq!(
            (answer.status, answer.json()["issues"][0]["path"].as_str()),
            (400, Some(at)),
            "{path}"
        );
    }
    let answer = client.ask("GET", "/events/stream", "last-event-id: seven\r\n", "");
    assert_eq!(answer.json()["issues"][0]["path"], "Last-Event-ID");
    assert_eq!(client.get("/agents/ghost/events/stream").status, 404);
    assert_eq!(client.post("/events/stream", "").status, 405);
    let answer = client.get("/ws");
    assert_eq!((answer.status, &answer.json()["error_type"]), (426, &"no-upgrade".into()));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
}

#[test]
fn there_are_so_many_places_and_the_rest_of_the_api_needs_none() {
    let limits = ControlLimits { streams: 2, connections: 4, ..ControlLimits::default() };
    let rig = Rig::with(limits, None);
    let mut readers = [rig.client(), rig.client()];
    for reader in &mut readers {
        reader.open_stream("/events/stream", "");
    }
    let mut client = rig.client();
    let answer = client.get("/events/stream");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(answer.error().contains("at most 2"), "{}", answer.error());
    let metrics = client.get("/metrics").body;
    assert!(metrics.contains("\nbulkhead_streams 2\n"), "{metrics}");
    drop(readers);
    let until = Instant::now() + Duration::from_secs(10);
    // A client that is gone is seen when something is written.
    while !client.get("/metrics").body.contains("\nbulkhead_streams 0\n") {
        ring(&rig, "a").push_value("e", &1);
        assert!(Instant::now() < until, "places are not given back");
        std::thread::yield_now();
    }
}

#[test]
fn a_ticket_opens_one_stream_and_nothing_else() {
    let rig = Rig::with(ControlLimits::default(), Some("hunter2"));
    let mut client = rig.client();
    assert_eq!(client.post("/tickets", "").status, 401);
    let bearer = "authorization: Bearer hunter2\r\n";
    let answer = client.ask("POST", "/tickets", bearer, "");
    assert_eq!(answer.status, 201);
    let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
    assert_eq!(client.get(&format!("/agents?ticket={ticket}")).status, 401);
    let stream = format!("/events/stream?ticket={ticket}");
    let mut reader = rig.client();
    assert!(reader.open_stream(&stream, "").starts_with("HTTP/1.1 200"));
    let used = client.get(&stream);
    assert_eq!(used.status, 401);
    assert!(used.error().contains("each opens one stream"), "{}", used.error());
    assert_eq!(client.get("/events/stream?ticket=").status, 401);
}

#[test]
fn a_message_can_be_a_stream_that_ends_with_its_turn() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (prompt, kind, word) in
        [("say hi", "turn", "\"outcome\":\"idle\""), ("fail", "error", "\"error\":")]
    {
        let accept = "accept: application/json;q=0.5, text/event-stream\r\n";
        let body = format!("{{\"prompt\":\"{prompt}\"}}");
        let answer = client.ask("POST", "/agents/a/message", accept, &body);
        assert_eq!(answer.status, 200);
        let last = answer.body.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with(&format!("event: {kind}\n")) && last.contains(word), "{last}");
    }
    let accept = "accept: text/event-stream\r\n";
    let answer = client.ask("POST", "/agents/ghost/message", accept, "{\"prompt\":\"x\"}");
    assert_eq!(answer.status, 404, "what is refused is no stream");
    assert_eq!(client.get("/health").status, 200, "the connection goes on");
}

#[test]
fn an_older_client_reads_a_stream_without_chunks_and_a_head_has_none() {
    let rig = Rig::start();
    let mut head = rig.client();
    head.say("HEAD /events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(head.all().ends_with("\r\n\r\n"), "no body");
    let mut old = rig.client();
    old.say("GET /events/stream HTTP/1.0\r\nhost: localhost\r\n\r\n");
    let mut one = [0];
    old.read(&mut one);
    ring(&rig, "a").push_value("e", &1);
    assert_eq!(rig.server.shutdown(Duration::from_secs(10)), 0);
    let answer = old.all();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("TTP/1.1 200 OK\r\n") && !head.contains("chunked"), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\ndate: "), "{head}");
    assert!(body.starts_with("retry: 1000\n\nid: ") && body.ends_with("}\n\n"), "{body}");
}

#[test]
fn who_takes_nothing_loses_its_place() {
    let write_stall = Duration::from_millis(200);
    let rig = Rig::with(ControlLimits { write_stall, ..ControlLimits::default() }, None);
    let agent = ring(&rig, "a");
    let mut deaf = rig.client();
    deaf.open_stream("/agents/a/events/stream", "");
    agent.begin_turn("m");
    let until = Instant::now() + Duration::from_secs(60);
    while !rig.client().get("/metrics").body.contains("\nbulkhead_streams 0\n") {
        assert!(Instant::now() < until, "the place is not given back");
        // More than the kernel holds for both ends of a connection, sooner or later.
        for _ in 0..100 {
            agent.say(|| Delta::Text("x".repeat(32 * 1024)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_says_more_than_its_request_gets_all_that_was_sent() {
    let rig = Rig::start();
    let agent = ring(&rig, "a");
    let mut talks = rig.client();
    talks.open_stream("/agents/a/events/stream", "");
    assert_eq!(talks.frame(), "retry: 1000");
    talks.say("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let event = agent.push_value("e", &1);
    assert!(talks.frame().starts_with(&format!("id: {event}\n")));
    assert_eq!(rig.server.shutdown(Duration::from_secs(10)), 0);
    // An end, and no reset.
    assert_eq!((talks.rest(), talks.all()), (String::new(), String::new()));
}

#[test]
fn streams_end_when_the_server_does() {
    let rig = Rig::start();
    let mut reader = rig.client();
    reader.open_stream("/events/stream", "");
    reader.frame();
    assert_eq!(rig.server.shutdown(Duration::from_secs(10)), 0, "nothing is interrupted");
    assert_eq!(reader.rest(), "");
}
