//! Who gets in.

use std::time::{Duration, Instant};

use super::fake::Rig;
use crate::ControlLimits;

fn guarded() -> Rig {
    Rig::with(ControlLimits::default(), Some("hunter2"))
}

#[test]
fn without_the_token_nothing_but_probes_answers() {
    let rig = guarded();
    let mut client = rig.client();
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(client.get(path).status, 200);
    }
    rig.backend.set_missing("lost");
    for path in ["/readyz", "/readyz?strict=true"] {
        let answer = client.get(path);
        assert!(answer.body.contains('1') && !answer.body.contains("lost"), "{}", answer.body);
    }
    for header in ["", "authorization: Bearer hunter3\r\n", "authorization: Basic hunter2\r\n"] {
        for path in ["/agents", "/metrics", "/nope", "/agents/a/pty"] {
            let answer = client.ask("GET", path, header, "");
            assert_eq!((answer.status, &answer.json()["status"]), (401, &401.into()));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"bulkhead\""));
        }
    }
    assert_eq!(client.ask("GET", "/agents", "authorization: Bearer hunter2\r\n", "").status, 200);
}

#[test]
fn the_token_is_in_no_answer_and_no_line() {
    let rig = guarded();
    let mut client = rig.client();
    let header = "authorization: Bearer hunter2\r\n";
    for (path, header) in [("/agents", ""), ("/nope", header), ("/agents/bomb/status", header)] {
        let answer = client.ask("GET", path, header, "");
        assert!(!answer.body.contains("hunter2"));
        assert!(answer.headers.iter().all(|(_, value)| !value.contains("hunter2")));
        client = rig.client();
    }
    let lines = rig.lines();
    assert!(lines.len() >= 3 && !format!("{lines:?}").contains("hunter2"));
}

#[test]
fn a_refused_body_is_read_off_so_that_the_connection_stays_open() {
    let rig = guarded();
    let mut client = rig.client();
    assert_eq!(client.post("/agents/start", &"x".repeat(3_000_000)).status, 401);
    assert_eq!(client.get("/livez").status, 200);
}

#[test]
fn a_refusal_does_not_wait_for_a_body_that_does_not_come() {
    let rig = guarded();
    for length in [9, 99_999_999] {
        let mut client = rig.client();
        let since = Instant::now();
        let answer = client
            .say(format!(
                "POST /agents/start HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
            ))
            .hear();
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
        assert!(client.is_hung_up());
        assert!(since.elapsed() < Duration::from_secs(10), "{length}");
    }
}

/// What a page of another origin can make a browser send.
const PAGES: [&str; 5] = [
    "host: localhost\r\norigin: https://evil.example\r\nsec-fetch-site: cross-site\r\n",
    "host: localhost\r\norigin: null\r\n",
    "host: localhost\r\nsec-fetch-site: same-site\r\n",
    "host: evil.example\r\n",
    "host: evil.example\r\norigin: http://evil.example\r\nsec-fetch-site: same-origin\r\n",
];

#[test]
fn a_page_of_another_origin_starts_stops_and_reads_nothing() {
    for token in [None, Some("hunter2")] {
        let rig = Rig::with(ControlLimits::default(), token);
        let mut client = rig.client();
        for page in PAGES {
            // Even with the token, which it cannot have.
            let head = format!(
                "{page}authorization: Bearer hunter2\r\ncontent-type: application/json\r\n"
            );
            for (method, path, body) in [
                ("POST", "/agents/start", r#"{"agentId":"a1","role":"polecat"}"#),
                ("POST", "/agents/a1/message", r#"{"prompt":"hi"}"#),
                ("POST", "/sync-config", r#"{"env_vars":{"K":"v"}}"#),
                ("POST", "/agents/a1/stop", ""),
                ("PATCH", "/agents/a1/model", r#"{"model":"m"}"#),
                ("POST", "/refresh-token", r#"{"token":"t"}"#),
                ("OPTIONS", "/agents/start", ""),
                ("GET", "/agents", ""),
                ("GET", "/crashes", ""),
                ("GET", "/metrics", ""),
                ("GET", "/health", ""),
                ("GET", "/nope", ""),
            ] {
                let answer = client.ask_plainly(method, path, &head, body);
                assert_eq!(answer.status, 403, "{method} {path} {page}");
                assert!(answer.body.contains("server.allowed_hosts"), "{}", answer.body);
                let allows = |(name, _): &(String, String)| name.starts_with("access-control");
                assert!(!answer.headers.iter().any(allows), "{:?}", answer.headers);
            }
        }
        assert!(rig.backend.changes().is_empty());
    }
}

#[test]
fn every_answer_keeps_to_its_own_origin() {
    let rig = Rig::start();
    let mut client = rig.client();
    for path in ["/agents", "/livez", "/metrics", "/nope"] {
        let answer = client.get(path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{path}");
    }
}
