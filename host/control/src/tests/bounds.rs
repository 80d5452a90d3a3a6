//! Every bound, and what happens at it.

use std::time::{Duration, Instant};

use super::fake::Rig;
use crate::ControlLimits;

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn a_body_above_the_bound_is_413_and_the_connection_stays_open() {
    let rig = Rig::start();
    let mut client = rig.client();
    let huge = "x".repeat(10 * 1024 * 1024);
    let answer = client.post("/agents/start", &huge);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.error(), "request body is too large, above 2097152 bytes");
    assert_eq!(client.get("/livez").status, 200);
    assert_eq!(rig.refusals().len(), 1);
}

#[test]
fn a_streamed_body_above_the_bound_is_413_too() {
    let rig = Rig::with(ControlLimits { body_bytes: 8, ..ControlLimits::default() }, None);
    let mut client = rig.client();
    client.say(
        "POST /agents/start HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let answer = client.say("8\r\n12345678\r\n1\r\n9\r\n0\r\n\r\n").hear();
    assert_eq!(answer.status, 413);
    assert_eq!(client.get("/livez").status, 200);
}

#[test]
fn a_client_that_asks_first_is_refused_before_it_sends() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.say("POST /agents/start HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n");
    let answer = client.say("content-length: 99999999\r\n\r\n").hear();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert!(client.is_hung_up());
}

#[test]
fn a_body_that_does_not_end_is_not_read_for_ever() {
    let limits = ControlLimits { body_bytes: 8, discard_bytes: 64, ..ControlLimits::default() };
    let rig = Rig::with(limits, None);
    let mut client = rig.client();
    client
        .say("POST /agents/start HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n\r\n");
    let answer = client.say("x".repeat(1000)).hear();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert!(client.is_hung_up());
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let rig = Rig::with(ControlLimits { body_read: SHORT, ..ControlLimits::default() }, None);
    let mut client = rig.client();
    client.say("POST /agents/start HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nab");
    let answer = client.hear();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(answer.error(), "request body did not arrive within 100ms");
    assert!(client.is_hung_up());
}

#[test]
fn a_body_that_is_cut_off_or_broken_harms_nobody() {
    let rig = Rig::start();
    rig.client()
        .say("POST /agents/start HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nab");
    let mut client = rig.client();
    client.say(
        "POST /agents/start HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let answer = client.say("zz\r\n").hear();
    assert_eq!(answer.status, 400);
    assert!(answer.error().starts_with("request body could not be read"), "{}", answer.error());
    assert_eq!(rig.client().get("/livez").status, 200);
}

#[test]
fn a_head_that_does_not_come_and_an_idle_connection_are_closed_without_a_line() {
    // Long enough for a loaded machine to get a request through.
    let header_read = Duration::from_millis(500);
    let rig = Rig::with(ControlLimits { header_read, ..ControlLimits::default() }, None);
    let began = Instant::now();
    let (mut silent, mut slow, mut idle) = (rig.client(), rig.client(), rig.client());
    slow.say("GET /livez HTTP/1.1\r\nho");
    assert_eq!(idle.get("/livez").status, 200);
    assert!(silent.is_hung_up() && slow.is_hung_up() && idle.is_hung_up());
    assert!(began.elapsed() >= header_read);
    assert!(rig.refusals().is_empty());
}

#[test]
fn a_head_above_the_bound_is_431_and_one_below_is_not() {
    let rig = Rig::start();
    let padding = |bytes| format!("x: {}\r\n", "y".repeat(bytes));
    assert_eq!(rig.client().ask("GET", "/livez", &padding(15 * 1024), "").status, 200);
    assert_eq!(rig.client().ask("GET", "/livez", &padding(17 * 1024), "").status, 431);
    assert_eq!(rig.client().ask("GET", "/livez", &"x: y\r\n".repeat(200), "").status, 431);
    let refusals = rig.refusals();
    assert!(refusals.len() == 2 && refusals[0].starts_with("431 - - "), "{refusals:?}");
}

#[test]
fn what_is_no_http_is_400_with_one_line() {
    let rig = Rig::start();
    let garbage: [&[u8]; 4] = [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /a\0b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ];
    for bytes in garbage {
        let mut client = rig.client();
        assert_eq!(client.say(bytes).hear().status, 400, "{bytes:?}");
        assert!(client.is_hung_up());
    }
    assert_eq!(rig.client().get("/livez").status, 200);
    let refusals = rig.refusals();
    assert!(refusals.len() == 4 && refusals[0].starts_with("400 - - "), "{refusals:?}");
}

#[test]
fn a_flood_of_refusals_writes_few_lines_and_a_count() {
    let rig = Rig::start();
    let mut client = rig.client();
    for _ in 0..200 {
        client.get("/nope");
    }
    let lines = rig.lines();
    // 50 at once, 20 a second after that, and the count of the rest.
    assert!((51..150).contains(&lines.len()), "{} lines", lines.len());
}
