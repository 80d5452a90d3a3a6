//! The server's own beginning and end, and panics in between.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::RunContext;
use bulkhead_types::Event;

use super::fake::{Kept, Rig};
use crate::{ControlConfig, ControlError, ControlLimits, ControlServer, Mcp};

const GATED: &str = r#"{"agentId":"a1","role":"gated"}"#;

fn second_server_on(rig: &Rig, listen: SocketAddr) -> Result<ControlServer, ControlError> {
    let config = ControlConfig {
        listen,
        token: None,
        allow_unauthenticated: false,
        allowed_hosts: Vec::new(),
        probe_listen: None,
        mcp: Mcp::default(),
        limits: ControlLimits::default(),
    };
    let context = Arc::new(RunContext::new("run".into(), None));
    ControlServer::bind(config, rig.backend.clone(), None, Arc::new(Kept::default()), context)
}

#[test]
fn who_connects_before_it_serves_is_answered_then() {
    let rig = Rig::start();
    let mut server = second_server_on(&rig, "127.0.0.1:0".parse().unwrap()).unwrap();
    let mut early = TcpStream::connect(server.local_addr()).unwrap();
    early
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    // A time and no event: what serves nobody does nothing that comes after an answer.
    early.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let unanswered = early.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(unanswered, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{unanswered}");
    server.serve();
    early.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_server_that_never_served_ends() {
    let rig = Rig::start();
    let server = second_server_on(&rig, "127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(server.shutdown(Duration::from_secs(5)), 0);
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let rig = Rig::start();
    let taken = rig.server.local_addr();
    let error = second_server_on(&rig, taken).err().unwrap().to_string();
    assert!(error.starts_with(&format!("{taken} is in use by another process")), "{error}");
    assert!(error.contains("BULKHEAD_LISTEN"), "{error}");
}

#[test]
fn an_address_of_another_machine_is_named() {
    let rig = Rig::start();
    // TEST-NET-1. Refused for its lack of a token before it is bound.
    let error = second_server_on(&rig, "192.0.2.1:1".parse().unwrap()).err().unwrap();
    assert!(matches!(error, ControlError::Unauthenticated(_)), "{error}");
}

#[test]
fn a_panic_in_a_handler_is_a_500_and_a_line_and_nothing_else() {
    let rig = Rig::start();
    let answer = rig.client().get("/agents/bomb/status");
    assert_eq!((answer.status, &answer.json()["error_type"]), (500, &"host".into()));
    assert!(!answer.body.contains("blew up"));
    assert_eq!(rig.client().get("/agents/a/status").status, 200);
    let lines = rig.lines();
    assert_eq!(lines.len(), 2);
    assert!(matches!(&lines[0], Event::UnhandledRejection { task, message, name: "panic", .. }
            if task == "control GET /agents/bomb/status" && message == "the backend blew up"));
    assert!(matches!(&lines[1], Event::RequestRefused { status: 500, .. }));
}

#[test]
fn shutdown_lets_a_request_in_flight_finish_and_closes_idle_connections() {
    let rig = Rig::start();
    let address = rig.server.local_addr();
    let (mut busy, mut idle, mut fresh) = (rig.client(), rig.client(), rig.client());
    assert_eq!(idle.get("/livez").status, 200);
    let length = GATED.len();
    busy.say(format!(
        "POST /agents/start HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{GATED}"
    ));
    rig.backend.await_gated_start();
    let (backend, server) = (rig.backend, rig.server);
    let shutdown = std::thread::spawn(move || server.shutdown(Duration::from_secs(30)));
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    assert!(idle.is_hung_up() && fresh.is_hung_up());
    backend.open_gate();
    assert_eq!(busy.hear().status, 201);
    assert!(busy.is_hung_up());
    assert_eq!(shutdown.join().unwrap(), 0);
}

#[test]
fn shutdown_does_not_wait_longer_than_its_grace() {
    let rig = Rig::start();
    let mut busy = rig.client();
    let length = GATED.len();
    busy.say(format!(
        "POST /agents/start HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{GATED}"
    ));
    rig.backend.await_gated_start();
    let began = Instant::now();
    assert_eq!(rig.server.shutdown(Duration::from_millis(50)), 1);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(busy.is_hung_up());
}

#[test]
fn a_dropped_server_frees_its_port() {
    let rig = Rig::start();
    let address = rig.server.local_addr();
    let Rig { server, backend, .. } = rig;
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    drop(backend);
}
