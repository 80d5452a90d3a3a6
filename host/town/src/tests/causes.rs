//! What can go wrong, and what it is called.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_net::Trust;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{Answer, Server};
use super::{client, until};
use crate::{Cause, Fault};

const SOON: Duration = Duration::from_secs(20);

/// The fault of a call against a town that answers like this.
async fn fault(answer: fn() -> Answer, call_ms: u64) -> Fault {
    let server = Server::start(move |_| answer());
    let client = client(&server.url, call_ms, |_| {});
    let within = Duration::from_millis(call_ms);
    let fault = client.town.handle().registry(within).await.unwrap_err();
    assert_eq!(client.lines.count("town.call_failed"), 1, "{}", client.lines.text());
    let word = format!(r#""cause":"{}""#, fault.cause.as_str());
    assert!(client.lines.text().contains(&word), "{}", client.lines.text());
    fault
}

#[tokio::test]
async fn every_kind_of_bad_answer_has_its_name() {
    for (answer, cause) in [
        ((|| Answer::Json(404, "<html>".into())) as fn() -> Answer, Cause::Status),
        (|| Answer::Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()), Cause::NotHttp),
        (
            || Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"da".to_vec()),
            Cause::HalfClosed,
        ),
        (|| Answer::Json(200, "hello".into()), Cause::NotJson),
        (|| Answer::Json(200, r#"{"data":{"a":1}}"#.into()), Cause::NotJson),
        (|| Answer::Json(200, r#"{"success":true}"#.into()), Cause::NotJson),
        (|| Answer::Json(200, r#"{"success":false,"data":[]}"#.into()), Cause::NotJson),
        (|| Answer::Json(200, " ".repeat(33 * 1024 * 1024)), Cause::TooLarge),
    ] {
        assert_eq!(fault(answer, 20_000).await.cause, cause, "{cause:?}");
    }
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_says_where() {
    let began = std::time::Instant::now();
    let fault = fault(|| Answer::Silence, 300).await;
    assert_eq!(fault.cause, Cause::Deadline);
    assert!(fault.message.ends_with("while waiting for the answer"), "{fault}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_closed_port_is_logged_and_so_is_its_return() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let client = client(&format!("http://{address}"), 2000, |_| {});
    for _ in 0..3 {
        let fault = client.town.handle().registry(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(fault.cause, Cause::Connect);
    }
    assert_eq!(
        client.lines.names(),
        ["town.unreachable", "town.call_failed"],
        "the same is logged once"
    );
    assert!(!client.town.handle().figures().reachable);
    let listener = TcpListener::bind(address).unwrap();
    let back = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // One that hangs up with a request unread resets the connection, and its answer with it.
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        std::io::BufRead::lines(&mut reader).find(|line| line.as_ref().unwrap().is_empty());
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"data\":[]}").unwrap();
    });
    client.town.handle().registry(SOON).await.unwrap();
    back.join().unwrap();
    assert_eq!(client.lines.names()[2], "town.reachable");
    assert!(client.town.handle().figures().reachable);
}

#[tokio::test]
async fn a_name_without_an_address_is_dns() {
    // RFC 6761: `.invalid` has none, with or without a resolver.
    let client = client("http://town.invalid", 5000, |_| {});
    let fault = client.town.handle().registry(Duration::from_millis(3000)).await.unwrap_err();
    assert!(matches!(fault.cause, Cause::Dns | Cause::Deadline), "{fault}");
    assert!(fault.message.contains("resolv"), "{fault}");
}

/// A server with the certificate of the test authority, that answers one call on each connection.
fn tls_server() -> (u16, Arc<std::sync::atomic::AtomicBool>, std::thread::JoinHandle<()>) {
    let at = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let chain =
        CertificateDer::pem_file_iter(at("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(at("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let until = Arc::clone(&ended);
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if until.load(std::sync::atomic::Ordering::SeqCst) {
                return;
            }
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut head = [0; 4096];
            if std::io::Read::read(&mut tls, &mut head).is_ok_and(|bytes| bytes > 0) {
                let _ =
                    tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"data\":[]}");
            }
        }
    });
    (port, ended, thread)
}

#[tokio::test]
async fn only_a_certificate_that_is_believed_is_spoken_to() {
    let (port, ended, thread) = tls_server();
    let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ca.pem");
    let trusting = client(&format!("https://127.0.0.1:{port}"), 20_000, |config| {
        config.connector.trust = Trust::from_file(&ca).unwrap();
    });
    trusting.town.handle().registry(SOON).await.unwrap();
    let web = client(&format!("https://127.0.0.1:{port}"), 20_000, |_| {});
    let fault = web.town.handle().registry(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(fault.cause, Cause::Tls, "{fault}");
    assert!(fault.message.contains("certificate"), "{fault}");
    until("the line", || web.lines.count("town.unreachable") == 1).await;
    ended.store(true, std::sync::atomic::Ordering::SeqCst);
    let _ = std::net::TcpStream::connect(("127.0.0.1", port));
    thread.join().unwrap();
}

#[tokio::test]
async fn a_town_without_tls_is_a_tls_failure() {
    let server = Server::start(|_| Answer::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let url = server.url.replace("http:", "https:");
    let client = client(&url, 5000, |_| {});
    let fault = client.town.handle().registry(Duration::from_millis(2000)).await.unwrap_err();
    assert!(matches!(fault.cause, Cause::Tls | Cause::Deadline), "{fault}");
    assert!(fault.message.contains("TLS"), "{fault}");
}
