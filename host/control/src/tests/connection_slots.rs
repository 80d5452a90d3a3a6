//! More connections than there are slots.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::fake::Rig;
use crate::ControlLimits;

const TOKEN: &str = "authorization: Bearer hunter2\r\n";

fn rig(connections: usize) -> Rig {
    Rig::with(
        ControlLimits {
            connections,
            probe_connections: 2,
            body_pause: Duration::from_secs(30),
            ..ControlLimits::default()
        },
        Some("hunter2"),
    )
}

/// A connection on which a start with the token is under way.
fn at_work(rig: &Rig) -> Client {
    let mut client = rig.client();
    let body = r#"{"agentId":"a1","role":"gated"}"#;
    let length = body.len();
    client.say(format!(
        "POST /agents/start HTTP/1.1\r\nhost: localhost\r\n{TOKEN}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    ));
    rig.backend.await_gated_start();
    client
}

#[test]
fn those_who_hold_connections_and_show_no_token_keep_nobody_out() {
    let rig = rig(8);
    let mut known = rig.client();
    assert_eq!(known.ask("GET", "/agents", TOKEN, "").status, 200);
    // Silent, in the middle of a head, and in the middle of a body that is not wanted.
    let mut held: Vec<Client> = Vec::new();
    for kind in 0..24 {
        let mut client = rig.client();
        match kind % 3 {
            0 => {}
            1 => drop(client.say("GET /agents HTTP/1.1\r\nhost: localhost\r\n")),
            _ => drop(client.say(
                "POST /agents/start HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999\r\n\r\n{",
            )),
        }
        held.push(client);
        assert_eq!(rig.client().get("/livez").status, 200, "{kind}");
        assert_eq!(rig.client().ask("GET", "/agents", TOKEN, "").status, 200, "{kind}");
    }
    // The one that had shown the token has its slot, and the oldest of the others have not.
    assert_eq!(known.ask("GET", "/agents", TOKEN, "").status, 200);
    assert!(held[0].is_hung_up() && held[1].is_hung_up() && held[2].is_hung_up());
    assert!(rig.refusals().is_empty());
}

/// Waits for a moment, and says whether the server has not hung up.
fn is_open(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(length) => length > 0,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// A client that reconnects as soon as it is sent away, and is never silent.
#[test]
fn strangers_who_come_back_again_and_again_keep_no_probe_out() {
    let rig = rig(64);
    let (over, address) = (AtomicBool::new(false), rig.server.local_addr());
    let unwanted = "POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999\r\n\r\n{";
    std::thread::scope(|scope| {
        for _ in 0..80 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(address) else { continue };
                    let _ = stream.write_all(unwanted.as_bytes());
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
                    while !over.load(Ordering::Relaxed) && is_open(&mut stream) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        // Several newcomers may come between the connection and the request of one probe, on a busy machine.
        let is_answered = |_: &i32| (0..10).any(|_| rig.client().tries("/livez") == Some(200));
        let probes = (0..30).filter(is_answered).count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(probes, 30);
    });
}

#[test]
fn one_that_rests_is_closed_in_order_when_its_place_is_needed() {
    let rig = rig(1);
    let mut known = rig.client();
    assert_eq!(known.ask("GET", "/agents", TOKEN, "").status, 200);
    assert_eq!(rig.client().get("/livez").status, 200);
    assert!(known.is_hung_up());
}

#[test]
fn while_all_are_at_work_a_probe_is_answered_and_others_are_refused() {
    let rig = rig(2);
    let mut working = [at_work(&rig), at_work(&rig)];
    for path in ["/livez", "/health", "/readyz"] {
        let mut probe = rig.client();
        let answer = probe.get(path);
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{path}");
        assert!(probe.is_hung_up());
    }
    let mut other = rig.client();
    let answer = other.ask("GET", "/agents", TOKEN, "");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.error(), "too many connections, at most 2 are served at a time");
    assert!(other.is_hung_up());
    // What is free again is used again.
    rig.backend.open_gate();
    rig.backend.open_gate();
    assert!(working.iter_mut().all(|client| client.hear().status == 201));
    let until = Instant::now() + Duration::from_secs(10);
    while rig.client().ask("GET", "/agents", TOKEN, "").status != 200 {
        assert!(Instant::now() < until, "the slots of those that rest stay taken");
    }
}
