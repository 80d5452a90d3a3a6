//! Bodies and URLs of agents' requests.

use std::io::{BufReader, Write};

use harness::{Host, wait_until};

use super::servers::{self, Log, read_head};

/// A host whose agent `hog` may reach `address`.
fn host(address: &str) -> Host {
    let role = format!("memory_limit_mb = 16\nhttp_allow = [{address:?}]");
    let host = Host::builder().guest("hog").role("hog", "hog", &role).start();
    host.client().start("hog", "hog");
    host
}

#[test]
fn a_body_that_was_sent_and_answered_is_reported_so() {
    let (address, log) = servers::http("127.0.0.1:0");
    let host = host(&address.to_string());
    let mut posted = 0;
    for way in ["length", "chunked"] {
        for bytes in [40_000, 2 * 32_768, 4 * 32_768] {
            let reply = host.client().ask("hog", &format!("post 20 {address} / {bytes} {way}"));
            assert_eq!(reply, "20 of 20", "{bytes} bytes, {way}");
            posted += 20;
            let received = log.all();
            assert_eq!(received.len(), posted);
            assert!(received[posted - 20..].iter().all(|it| it.body_bytes == bytes), "{way}");
        }
    }
    host.finish();
}

#[test]
fn a_server_that_answers_before_it_has_read_everything_has_answered() {
    let address = servers::serve("127.0.0.1:0", |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        read_head(&mut reader)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
        // What is unread when it hangs up would reset the connection and its answer.
        std::io::copy(&mut reader, &mut std::io::sink()).ok().map(drop)
    });
    let host = host(&address.to_string());
    for way in ["length", "chunked"] {
        let reply = host.client().ask("hog", &format!("post 20 {address} / 200000 {way}"));
        assert_eq!(reply, "20 of 20", "{way}");
    }
    host.finish();
}

#[test]
fn a_body_that_nobody_takes_is_a_failed_request() {
    let address =
        servers::serve("127.0.0.1:0", |stream| read_head(&mut BufReader::new(stream)).map(drop));
    let host = host(&address.to_string());
    let reply = host.client().ask("hog", &format!("post 3 {address} / 20000000 chunked"));
    assert!(reply.starts_with("0 of 3, "), "{reply}");
    host.finish();
}

/// The lines of the log that say why a request was refused.
fn refusals(host: &Host) -> Vec<String> {
    let lines = host.events_of("hog", "agent.log").into_iter();
    let texts = lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned());
    texts.filter(|text| text.contains("refused")).collect()
}

#[track_caller]
fn is_refused(host: &Host, log: &Log, authority: &str, says: &str) {
    let before = log.all().len();
    let reply = host.client().ask("hog", &format!("fetch 1 {authority} /"));
    assert!(reply.starts_with("request 0 failed: "), "{authority}: {reply}");
    assert!(reply.contains("HttpRequestUriInvalid") || reply.contains("bad authority"), "{reply}");
    assert_eq!(log.all().len(), before, "{authority}");
    if !reply.contains("bad authority") {
        wait_until("the log says why", || refusals(host).iter().any(|text| text.contains(says)));
    }
}

#[test]
fn a_url_goes_where_it_says_or_nowhere() {
    let (address, log) = servers::http("127.0.0.1:0");
    let host = host(&address.to_string());
    assert_eq!(host.client().ask("hog", &format!("fetch 1 {address} ?q=1")), "4");
    let received = log.all().remove(0);
    assert_eq!(received.head[0], "GET /?q=1 HTTP/1.1");
    assert!(received.has(&format!("host: {address}")), "{received:?}");
    // Modulo 65536 it would be the port of the server.
    let beyond = 65_536 + u32::from(address.port());
    is_refused(&host, &log, &format!("127.0.0.1:{beyond}"), "between 1 and 65535");
    is_refused(&host, &log, "127.0.0.1:0", "between 1 and 65535");
    is_refused(&host, &log, &format!("user:hunter2@{address}"), "user or a password");
    assert!(!refusals(&host).concat().contains("hunter2"));
    host.finish();
}
