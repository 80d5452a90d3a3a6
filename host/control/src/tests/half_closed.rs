//! Clients that close their side behind a request, as `nc -N` does, and those that are gone.

use std::time::{Duration, Instant};

use super::client::Client;
use super::fake::Rig;
use crate::ControlLimits;

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// What clients say that would speak HTTP/2 with a server that has it.
const OFFERS_HTTP2: &str =
    "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\nhost:";

fn run_a_program(rig: &Rig) -> Client {
    run(rig, post("/agents/a/exec", r#"{"program":"hang"}"#))
}

fn run(rig: &Rig, request: String) -> Client {
    let mut client = rig.client();
    client.say(request);
    rig.backend.await_gated_start();
    client
}

#[test]
fn a_client_that_closes_its_side_gets_its_answer() {
    let rig = Rig::start();
    for (wait, prompt, status) in
        [("", "hello", 200), ("?wait=10000", "hello", 200), ("?wait=50", "hang", 202)]
    {
        let mut client = rig.client();
        let request =
            post(&format!("/agents/a/message{wait}"), &format!(r#"{{"prompt":"{prompt}"}}"#));
        let answer = client.say(request).close_its_side().hear();
        assert_eq!(answer.status, status, "{wait} {prompt}: {}", answer.body);
        assert_eq!(answer.json()["messageId"], "m1");
        assert!(client.is_hung_up());
    }
    // Also when it closes it while the answer is being made, and behind a second request.
    let mut client = rig.client();
    client.say(post("/agents/start", r#"{"agentId":"a1","role":"gated"}"#));
    rig.backend.await_gated_start();
    client.say("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").close_its_side();
    std::thread::sleep(Duration::from_millis(50));
    rig.backend.open_gate();
    assert_eq!((client.hear().status, client.hear().status), (201, 200));
    assert!(client.is_hung_up());
}

#[test]
fn a_program_ends_with_its_client_and_an_idle_connection_with_its_side() {
    let rig = Rig::start();
    let mut client = run_a_program(&rig);
    client.close_its_side();
    rig.backend.await_abandoned_start();
    assert!(client.is_hung_up());
    drop(run_a_program(&rig));
    rig.backend.await_abandoned_start();
    let mut idle = rig.client();
    assert_eq!(idle.get("/livez").status, 200);
    let since = Instant::now();
    assert!(idle.close_its_side().is_hung_up());
    assert!(since.elapsed() < Duration::from_secs(5), "it is no matter of a time that runs out");
}

#[test]
fn an_offer_of_http2_changes_nothing() {
    let rig = Rig::start();
    let program = post("/agents/a/exec", r#"{"program":"hang"}"#);
    let mut client = run(&rig, program.replace("host:", OFFERS_HTTP2));
    client.close_its_side();
    rig.backend.await_abandoned_start();
    assert!(client.is_hung_up());
    // It is answered, and so is what comes behind it.
    let mut client = rig.client();
    let request = post("/agents/a/message?wait=10000", r#"{"prompt":"hello"}"#);
    client.say(request.replace("host:", OFFERS_HTTP2));
    assert_eq!(client.hear().status, 200);
    assert_eq!(client.get("/livez").status, 200);
    client.say("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n".replace("host:", OFFERS_HTTP2));
    assert_eq!(client.close_its_side().hear().status, 200);
    assert!(client.is_hung_up());
}

#[test]
fn a_stream_ends_with_its_client_before_anything_is_written() {
    let rig = Rig::start();
    let mut reader = rig.client();
    reader.open_stream("/events/stream", "");
    assert_eq!(reader.frame(), "retry: 1000");
    drop(reader);
    let until = Instant::now() + Duration::from_secs(5);
    while !rig.client().get("/metrics").body.contains("\nbulkhead_streams 0\n") {
        assert!(Instant::now() < until, "the place is not given back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_client_that_may_be_gone_gives_its_slot_to_one_that_is_there() {
    let limits = ControlLimits { connections: 1, probe_connections: 1, ..ControlLimits::default() };
    let rig = Rig::with(limits, None);
    let mut waiting = rig.client();
    waiting.say(post("/agents/start", r#"{"agentId":"a1","role":"gated"}"#));
    rig.backend.await_gated_start();
    assert_eq!(rig.client().get("/agents").status, 503);
    waiting.close_its_side();
    let until = Instant::now() + Duration::from_secs(5);
    while rig.client().get("/agents").status != 200 {
        assert!(Instant::now() < until, "it keeps its slot");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(waiting.is_hung_up());
}
