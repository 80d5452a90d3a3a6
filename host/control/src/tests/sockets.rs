//! `GET /ws`: the frames of a stream, one message each.

use std::time::Duration;

use bulkhead_feed::Delta;
use bulkhead_types::AgentId;
use serde_json::{Value, json};

use super::client::Client;
use super::fake::Rig;
use crate::{Backend, ControlLimits};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A WebSocket, as far as the tests need one (RFC 6455).
struct Socket(Client);

impl Socket {
    fn open(rig: &Rig, query: &str, headers: &str) -> Self {
        let mut client = rig.client();
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let head = client.open_stream(&format!("/ws{query}"), &format!("{upgrade}{headers}"));
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Self(client)
    }

    /// The next message, with its kind.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read(&mut head);
        let [kind, length] = head;
        assert_eq!(kind & 0xf0, 0x80, "whole, and nothing else");
        let length = match length {
            126 => {
                let mut length = [0; 2];
                self.0.read(&mut length);
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.0.read(&mut length);
                u64::from_be_bytes(length) as usize
            }
            length => usize::from(length),
        };
        let mut message = vec![0; length];
        self.0.read(&mut message);
        (kind & 0xf, message)
    }

    /// The next frame of the stream.
    fn frame(&mut self) -> Value {
        let (kind, message) = self.hear();
        assert_eq!(kind, TEXT, "{message:?}");
        serde_json::from_slice(&message).unwrap()
    }

    /// Says something, whole or not: `length` is what it claims to have.
    fn say(&mut self, kind: u8, length: usize, message: &[u8]) {
        let mut frame = vec![0x80 | kind];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        // A mask that changes nothing.
        frame.extend([0; 4]);
        frame.extend(message);
        self.0.say(frame);
    }
}

fn ring(rig: &Rig, agent: &str) -> std::sync::Arc<bulkhead_feed::Ring> {
    rig.backend.ring(&AgentId::parse(agent).unwrap()).unwrap()
}

fn ids(frames: &[Value]) -> Vec<u64> {
    frames.iter().map(|frame| frame["id"].as_u64().unwrap()).collect()
}

#[test]
fn events_come_in_order_and_a_reader_goes_on_where_it_was() {
    let rig = Rig::start();
    let (a, b) = (ring(&rig, "a"), ring(&rig, "b"));
    let first = a.push_value("e", &0);
    let mut socket = Socket::open(&rig, &format!("?after={first}"), "");
    let mut pushed = Vec::new();
    for at in 1..100 {
        pushed.push([&a, &b][at % 2].push_value("e", &at));
    }
    let frames: Vec<_> = (1..100).map(|_| socket.frame()).collect();
    assert_eq!(ids(&frames), pushed);
    assert!(pushed.is_sorted());
    let (id, at) = (pushed[0], &frames[0]["timestamp"]);
    let expected = json!({"type": "event", "id": id, "agentId": "b", "event": "e", "data": 1, "timestamp": at});
    assert_eq!(frames[0], expected);
    drop(socket);
    // Of a browser's script, and of a client that has headers: exactly what is missing.
    let after = pushed[49];
    for (query, header) in [
        (format!("?after={after}"), String::new()),
        (String::new(), format!("last-event-id: {after}\r\n")),
        (format!("?after={after}&agent=a,b&event=e"), String::new()),
    ] {
        let mut again = Socket::open(&rig, &query, &header);
        let frames: Vec<_> = (0..49).map(|_| again.frame()).collect();
        assert_eq!(ids(&frames), pushed[50..], "{query}");
    }
    // Without a word, the next one; and turns when they are asked for.
    let mut next = Socket::open(&rig, "?deltas=true&agent=a", "");
    b.push_value("e", &"of another");
    let id = a.push_value("e", &"next");
    assert_eq!(next.frame()["id"], id);
    a.begin_turn("m");
    a.say(|| Delta::Text("so".into()));
    let delta = json!({"type": "delta", "agentId": "a", "messageId": "m", "deltas": [{"kind": "text", "text": "so"}]});
    assert_eq!(next.frame(), delta);
}

#[test]
fn what_was_dropped_is_a_gap() {
    let rig = Rig::start();
    let feed = rig.backend.feed();
    let first = feed.publish("e", serde_json::value::RawValue::NULL.to_owned());
    let long = serde_json::value::to_raw_value(&"x".repeat(64 * 1024)).unwrap();
    let mut last = first;
    for _ in 0..100 {
        last = feed.publish("e", long.clone());
    }
    let mut socket = Socket::open(&rig, &format!("?after={first}&follow=false"), "");
    let gap = socket.frame();
    assert_eq!(
        (&gap["type"], &gap["of"], &gap["after"]),
        (&json!("gap"), &json!("events"), &json!(first))
    );
    let oldest = gap["upto"].as_u64().unwrap() + 1;
    let rest: Vec<_> = (oldest..=last).map(|_| socket.frame()).collect();
    assert_eq!(ids(&rest), (oldest..=last).collect::<Vec<_>>());
    assert_eq!(socket.hear().0, CLOSE);
}

#[test]
fn a_client_that_says_much_is_closed_and_one_that_says_little_is_not() {
    let rig = Rig::start();
    let mut socket = Socket::open(&rig, "", "");
    socket.say(TEXT, 1000, &[b'x'; 1000]);
    socket.say(PING, 2, b"hi");
    assert_eq!(socket.hear(), (PONG, b"hi".to_vec()));
    let id = ring(&rig, "a").push_value("e", &1);
    assert_eq!(socket.frame()["id"], id);
    // It says how much is to come: nothing of it is waited for.
    socket.say(TEXT, 5000, b"");
    assert!(socket.0.is_hung_up());
    // In pieces that are small.
    let mut socket = Socket::open(&rig, "", "");
    for piece in 0..5 {
        // A beginning, then what goes on, without an end.
        let kind = if piece == 0 { TEXT } else { 0 };
        let [high, low] = 1000_u16.to_be_bytes();
        let mut frame = vec![kind, 0x80 | 126, high, low, 0, 0, 0, 0];
        frame.extend([b'x'; 1000]);
        socket.0.say(frame);
    }
    assert!(socket.0.is_hung_up());
}

#[test]
fn it_is_closed_by_whoever_ends_it() {
    let rig = Rig::start();
    let mut leaves = Socket::open(&rig, "", "");
    leaves.say(CLOSE, 2, &1000_u16.to_be_bytes());
    assert_eq!(leaves.hear().0, CLOSE);
    assert!(leaves.0.is_hung_up());
    let mut stays = Socket::open(&rig, "", "");
    ring(&rig, "a").push_value("e", &1);
    assert_eq!(stays.frame()["data"], 1);
    assert_eq!(rig.server.shutdown(Duration::from_secs(10)), 0, "nothing is interrupted");
    assert_eq!(stays.hear(), (CLOSE, 1001_u16.to_be_bytes().to_vec()), "away");
}

#[test]
fn where_nothing_happens_there_are_heartbeats() {
    let heartbeat = Duration::from_millis(50);
    let rig = Rig::with(ControlLimits { heartbeat, ..ControlLimits::default() }, None);
    let mut socket = Socket::open(&rig, "", "");
    assert_eq!([socket.hear(), socket.hear()], [(PING, vec![]), (PING, vec![])]);
    let mut reader = rig.client();
    reader.open_stream("/events/stream", "");
    assert_eq!(reader.frame(), "retry: 1000");
    assert_eq!([reader.frame(), reader.frame()], [": heartbeat", ": heartbeat"]);
    let id = ring(&rig, "a").push_value("e", &1);
    // After those that were under way.
    let of_socket = (0..1000).map(|_| socket.hear()).find(|(kind, _)| *kind != PING).unwrap();
    assert_eq!(of_socket.0, TEXT);
    let frame = (0..1000).map(|_| reader.frame()).find(|frame| frame != ": heartbeat").unwrap();
    assert!(frame.starts_with(&format!("id: {id}\n")), "{frame}");
}
