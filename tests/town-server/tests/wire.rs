//! The server over real connections: every way of misbehaving does misbehave so.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use town_server::tokens::Standing;
use town_server::{CERTIFICATE, Call, Fault, Options, TownServer, Which};

const RUN: &str = "01900000-0000-7000-8000-000000000001";

/// For answers that come.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> TownServer {
    TownServer::start(Options::default()).expect("start a server")
}

fn connect(address: SocketAddr, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(patience)).expect("set a timeout");
    stream
}

fn request(token: &str, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} /api/towns/t{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\nx-bulkhead-run-id: {RUN}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Everything that is received until the connection ends, and how it ended.
fn exchange(stream: &mut (impl Read + Write), request: &str) -> (String, Option<ErrorKind>) {
    stream.write_all(request.as_bytes()).expect("send the request");
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).err().map(|error| error.kind());
    (String::from_utf8_lossy(&received).into_owned(), ended)
}

/// `POST container-ready`, a call that leaves a trace when it is carried out.
fn ready(server: &TownServer) -> (String, Option<ErrorKind>) {
    let request = request(&server.token("t"), "POST", "/container-ready", r#"{"nonce":"n"}"#);
    exchange(&mut connect(server.address(), PATIENCE), &request)
}

fn was_carried_out(server: &TownServer) -> bool {
    server.town("t", |town| town.ready.seen()) == 1
}

/// What such a call gets with this fault, whether it was carried out, and whether the next one is well.
fn with_fault(fault: Fault) -> (String, Option<ErrorKind>, bool) {
    let server = server();
    server.misbehave_times(Call::ContainerReady, fault, 1);
    let (answer, ended) = ready(&server);
    let carried_out = was_carried_out(&server);
    assert_eq!(server.calls()[0].fault, Some(fault));
    assert!(ready(&server).0.starts_with("HTTP/1.1 200"), "well-behaved again");
    (answer, ended, carried_out)
}

#[test]
fn a_well_behaved_server_carries_out_answers_and_writes_down() {
    let server = server();
    let (answer, ended) = ready(&server);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"data\":{},\"success\":true}"), "{answer}");
    assert_eq!((ended, was_carried_out(&server)), (None, true));
    let calls = server.calls();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((call.call, call.status, call.fault), (Call::ContainerReady, Some(200), None));
    assert_eq!((call.run_id.as_deref(), call.generation), (Some(RUN), Some(1)));
    assert_eq!((call.path.as_str(), call.body_bytes), ("/api/towns/t/container-ready", 13));
}

#[test]
fn slow_answers_late() {
    let began = Instant::now();
    let (answer, ended, carried_out) = with_fault(Fault::Slow(Duration::from_millis(300)));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!((ended, carried_out), (None, true));
}

#[test]
fn hanging_says_nothing_and_stays_connected() {
    let server = server();
    server.misbehave(Which::All, Fault::Hang);
    let request = request(&server.token("t"), "POST", "/container-ready", r#"{"nonce":"n"}"#);
    let mut stream = connect(server.address(), Duration::from_millis(300));
    let (answer, ended) = exchange(&mut stream, &request);
    assert_eq!((answer.as_str(), ended), ("", Some(ErrorKind::WouldBlock)));
    assert!(!was_carried_out(&server));
    assert_eq!(server.calls()[0].status, None);
    server.behave(Which::All);
    assert!(ready(&server).0.starts_with("HTTP/1.1 200"), "others are answered meanwhile");
}

#[test]
fn a_status_is_an_error_in_json() {
    for status in [401, 500, 503] {
        let (answer, ended, carried_out) = with_fault(Fault::Status(status));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\"success\":false"), "{answer}");
        assert_eq!((ended, carried_out), (None, false));
    }
}

#[test]
fn half_an_answer_ends_in_its_head_or_in_its_body_and_the_call_was_carried_out() {
    let (answer, ended, carried_out) = with_fault(Fault::HalfHead);
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("\r\n\r\n"), "{answer}");
    assert_eq!((ended, carried_out), (None, true));
    let (answer, ended, carried_out) = with_fault(Fault::HalfBody);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.contains("content-length: 26"), "{head}");
    assert_eq!((body.len(), ended, carried_out), (13, None, true));
}

#[test]
fn garbage_is_no_http_no_json_or_of_no_known_shape() {
    let (answer, _, carried_out) = with_fault(Fault::NotHttp);
    assert!(!answer.contains("HTTP") && answer.contains('\0'), "{answer}");
    assert!(!carried_out);
    let (answer, _, carried_out) = with_fault(Fault::NotJson);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200") && body.starts_with("<html>"), "{answer}");
    assert!(!carried_out);
    let (answer, _, carried_out) = with_fault(Fault::WrongShape);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert!(!body["success"].is_boolean() && !body["data"].is_object(), "{body}");
    assert!(!carried_out);
}

#[test]
fn a_snapshot_of_a_wrong_shape_has_a_wrong_hash() {
    let server = server();
    server.misbehave(Call::Snapshot, Fault::WrongShape);
    let request = request(&server.token("t"), "GET", "/rigs/r/agents/a/db-snapshot", "");
    let (answer, _) = exchange(&mut connect(server.address(), PATIENCE), &request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-snapshot-sha256: 00\r\n"), "{answer}");
}

#[test]
fn a_body_that_is_too_large_does_not_end_while_it_is_read() {
    let server = server();
    server.misbehave(Which::All, Fault::TooLarge);
    let request = request(&server.token("t"), "POST", "/container-ready", r#"{"nonce":"n"}"#);
    let mut stream = connect(server.address(), PATIENCE);
    stream.write_all(request.as_bytes()).expect("send the request");
    let mut received = vec![0; 64 * 1024 * 1024];
    stream.read_exact(&mut received).expect("64 MiB and no end");
    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(!was_carried_out(&server));
}

#[test]
fn a_reset_is_one() {
    let (answer, ended, carried_out) = with_fault(Fault::Reset);
    assert_eq!((answer.as_str(), ended), ("", Some(ErrorKind::ConnectionReset)));
    assert!(!carried_out);
}

#[test]
fn a_server_that_is_down_refuses_and_cuts_and_keeps_its_port() {
    let server = server();
    let mut open = connect(server.address(), PATIENCE);
    let head = request(&server.token("t"), "GET", "/container-registry", "");
    server.misbehave(Call::Registry, Fault::Hang);
    open.write_all(head.as_bytes()).expect("send the request");
    let sent = Instant::now();
    while server.calls().is_empty() {
        assert!(sent.elapsed() < PATIENCE, "the call does not come");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    server.go_down();
    let cut = open.read(&mut [0]);
    assert!(
        cut.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |n| *n == 0)
    );
    let refused = TcpStream::connect(server.address()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let taken = TcpListener::bind(server.address()).expect_err("the port is taken");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    for _ in 0..2 {
        server.come_up().expect("listen again");
    }
    assert!(ready(&server).0.starts_with("HTTP/1.1 200"));
}

#[test]
fn a_fault_of_one_call_leaves_the_others_alone() {
    let server = server();
    server.misbehave(Call::Registry, Fault::Status(500));
    assert!(ready(&server).0.starts_with("HTTP/1.1 200"));
    server.misbehave(Which::All, Fault::Status(503));
    assert!(ready(&server).0.starts_with("HTTP/1.1 503"));
}

#[test]
fn a_refreshed_token_takes_the_place_of_the_old_one_whose_use_is_written_down() {
    let server = server();
    let old = server.token("t");
    let refresh = request(&old, "POST", "/refresh-container-token", "");
    let (answer, _) = exchange(&mut connect(server.address(), PATIENCE), &refresh);
    let new = server.token("t");
    assert!(new != old && answer.contains(&new), "{answer}");
    assert!(ready(&server).0.starts_with("HTTP/1.1 200"), "the new one is good");
    assert_eq!(server.town("t", |town| town.tokens.late_uses().len()), 0);
    let (answer, _) = exchange(&mut connect(server.address(), PATIENCE), &refresh);
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let last = server.calls().pop().expect("a call");
    assert_eq!(
        (last.standing, last.generation, last.status),
        (Standing::Replaced, Some(1), Some(401))
    );
    let late: Vec<_> = server.town("t", |town| town.tokens.late_uses());
    assert_eq!(late.iter().map(|(generation, _)| *generation).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_secret_is_found_in_a_body_and_not_in_the_authorization() {
    let server = server();
    let token = server.token("t");
    server.watch_for(&token);
    server.watch_for("\"nonce\":\"n\"");
    ready(&server);
    assert_eq!(server.leaks(), ["\"nonce\":\"n\" in body of container-ready"]);
}

#[test]
fn a_path_that_the_api_does_not_have_is_not_found() {
    let server = TownServer::start(Options { prefix: "/v1".into(), ..Options::default() }).unwrap();
    assert!(server.api_url().ends_with("/v1"));
    assert!(ready(&server).0.starts_with("HTTP/1.1 404"), "the prefix is missing");
}

#[test]
fn tls_is_spoken_with_a_certificate_that_can_be_trusted() {
    let server = TownServer::start(Options { tls: true, ..Options::default() }).unwrap();
    assert!(server.api_url().starts_with("https://127.0.0.1:"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(tls, connect(server.address(), PATIENCE));
    let ready = request(&server.token("t"), "POST", "/container-ready", r#"{"nonce":"n"}"#);
    let (answer, ended) = exchange(&mut stream, &ready);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ended, None, "TLS is closed in order");
    assert!(was_carried_out(&server));
}
