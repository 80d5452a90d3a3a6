//! Requests that cannot be right, to a host that has other things to do.

use bulkhead_api::ErrorBody;
use harness::{Answer, Host, Trial, json};
use hyper::Method;

const MIB: usize = 1024 * 1024;

/// The lines that report a refusal: of the request, or of the start that it asked for.
const REPORTS: [&str; 2] = ["container.request_refused", "agent.start_failed"];

/// A host whose refusals are counted.
struct Court {
    trial: Trial,
}

impl Court {
    fn open() -> Self {
        let trial = Trial::begin(Host::builder());
        trial.client().start("echo", "echo");
        Self { trial }
    }

    /// A request that must be refused with this status, an error that names these things, and one log
    /// line.
    #[track_caller]
    fn refuses(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Vec<u8>>,
        status: u16,
        named: &[&str],
    ) -> Answer {
        let before = self.lines();
        let answer = self.trial.client().request(method, path, body.into());
        let refusal = answer.expect_error(status, named);
        let path = path.split('?').next().unwrap_or_default();
        let line = self.trial.host().wait_for_number(&REPORTS, before + 1);
        assert!(!line["error"].as_str().unwrap_or_default().is_empty(), "{line}");
        if line["event"] == "agent.start_failed" {
            assert_eq!(line["errorType"].as_str(), refusal.error_type.as_deref(), "{line}");
        } else {
            assert_eq!(line["status"], status, "{line}");
            let logged = line["path"].as_str().unwrap_or_default();
            assert!(!logged.is_empty() && path.starts_with(logged), "{line}");
        }
        assert_eq!(self.lines(), before + 1, "one refusal, one line");
        answer
    }

    /// `POST /agents/start` with this body, refused with 400.
    #[track_caller]
    fn refuses_start(&self, body: impl Into<Vec<u8>>, named: &[&str]) -> Answer {
        self.refuses(Method::POST, "/agents/start", body, 400, named)
    }

    #[track_caller]
    fn refuses_get(&self, path: &str, status: u16, named: &[&str]) -> Answer {
        self.refuses(Method::GET, path, "", status, named)
    }

    fn lines(&self) -> usize {
        REPORTS.iter().map(|event| self.trial.host().events_named(event).len()).sum()
    }

    /// Nothing else has changed.
    #[track_caller]
    fn close(self) {
        let agents = self.trial.client().list();
        assert_eq!(agents.len(), 2, "bystander and echo, nobody else: {agents:?}");
        for agent in &agents {
            assert_eq!(agent.status, "running", "{agent:?}");
            assert_eq!(agent.incarnation.0, 1, "{agent:?}");
        }
        assert_eq!(self.trial.client().ask("echo", "hi"), "hi");
        self.trial.finish();
    }
}

/// Paths of the issues in an answer.
fn paths(answer: &Answer) -> Vec<String> {
    let issues = answer.read::<ErrorBody>(400).issues;
    issues.into_iter().map(|issue| issue.path).collect()
}

#[test]
fn a_body_that_is_no_json() {
    let court = Court::open();
    for body in ["", "not json", "{\"agentId\":\"a\"", "{\"agentId\":\"a\",\"role\":\"echo\"} tail"]
    {
        let answer = court.refuses_start(body, &["issues"]);
        assert_eq!(paths(&answer).len(), 1, "{answer:?}");
    }
    court.refuses_start([b'{', b'"', 0xff, 0xfe, b'"', b'}'], &["issues"]);
    court.refuses_start("[".repeat(100_000), &["issues"]);
    court.refuses_start("[]", &["issues"]);
    let positions = json!([
        "a", "echo", null, null, null, null, null, null, null, null, null, null, null, null, null
    ]);
    court.refuses_start(positions.to_string(), &["issues"]);
    court.refuses_start("null", &["issues"]);
    court.close();
}

#[test]
fn a_field_that_is_missing_or_of_a_wrong_type() {
    let court = Court::open();
    assert_eq!(paths(&court.refuses_start("{}", &[])), ["agentId", "role"]);
    assert_eq!(paths(&court.refuses_start(r#"{"agentId":"a"}"#, &[])), ["role"]);
    for (path, body) in [
        ("agentId", json!({"agentId": 7, "role": "echo"})),
        ("agentId", json!({"agentId": "", "role": "echo"})),
        ("role", json!({"agentId": "a", "role": ""})),
        ("role", json!({"agentId": "a", "role": ["echo"]})),
        ("prompt", json!({"agentId": "a", "role": "echo", "prompt": 1})),
        ("envVars.K", json!({"agentId": "a", "role": "echo", "envVars": {"K": 1}})),
        ("memoryLimitMb", json!({"agentId": "a", "role": "echo", "memoryLimitMb": 0})),
        ("memoryLimitMb", json!({"agentId": "a", "role": "echo", "memoryLimitMb": -1})),
        ("memoryLimitMb", json!({"agentId": "a", "role": "echo", "memoryLimitMb": "64"})),
        ("deadlineMs", json!({"agentId": "a", "role": "echo", "deadlineMs": 0})),
        ("ifRunning", json!({"agentId": "a", "role": "echo", "ifRunning": "explode"})),
        ("force", json!({"agentId": "a", "role": "echo", "force": "yes"})),
    ] {
        let answer = court.refuses_start(body.to_string(), &[]);
        assert_eq!(paths(&answer), [path], "{answer:?}");
    }
    court.close();
}

#[test]
fn an_agent_id_that_is_none() {
    let court = Court::open();
    let long = "a".repeat(10_000);
    for id in ["a/b", "../a", "a\u{0}b", "a b", "\u{fc}", ".a", "-a", "a\nb", "%2e", &long] {
        let body = json!({"agentId": id, "role": "echo"}).to_string();
        let answer = court.refuses_start(body, &["agent id"]);
        assert_eq!(paths(&answer), ["agentId"], "{answer:?}");
        assert!(answer.text.len() < 2000, "the answer repeats 10,000 characters");
    }
    for id in ["a%2Fb", "a%00b", "%2e%2e", "a%20b", &long] {
        court.refuses_get(&format!("/agents/{id}/status"), 400, &["agent id"]);
        let stop = format!("/agents/{id}/stop");
        court.refuses(Method::POST, &stop, "{}", 400, &["agent id"]);
        let message = format!("/agents/{id}/message");
        court.refuses(Method::POST, &message, r#"{"prompt":"hi"}"#, 400, &["agent id"]);
    }
    court.close();
}

#[test]
fn an_unknown_role_component_or_agent() {
    let court = Court::open();
    let body = json!({"agentId": "a", "role": "king"}).to_string();
    let answer: ErrorBody = court.refuses_start(body, &["king"]).read(400);
    assert_eq!(answer.error_type.as_deref(), Some("unknown-role"), "{answer:?}");
    let body = json!({"agentId": "a", "role": "echo", "component": "ekho"}).to_string();
    let answer: ErrorBody = court.refuses_start(body, &["ekho"]).read(400);
    assert_eq!(answer.error_type.as_deref(), Some("unknown-component"), "{answer:?}");
    let body = json!({"agentId": "a", "role": "echo", "memoryLimitMb": 1_000_000}).to_string();
    court.refuses_start(body, &["memoryLimitMb"]);
    court.refuses_get("/agents/nobody/status", 404, &["nobody"]);
    court.refuses(Method::POST, "/agents/nobody/stop", "{}", 404, &["nobody"]);
    let message = r#"{"prompt":"hi"}"#;
    court.refuses(Method::POST, "/agents/nobody/message", message, 404, &["nobody"]);
    assert!(court.trial.client().events("nobody", 0).events.is_empty());
    court.close();
}

#[test]
fn a_message_that_cannot_be_delivered() {
    let court = Court::open();
    let path = "/agents/echo/message";
    for body in ["", "hi", "{}", r#"{"prompt":""}"#, r#"{"prompt":["hi"]}"#, r#"["hi"]"#] {
        court.refuses(Method::POST, path, body, 400, &["issues"]);
    }
    let large = json!({"prompt": "x".repeat(MIB + 1)}).to_string();
    let answer = court.refuses(Method::POST, path, large, 400, &["1 MiB"]);
    assert_eq!(paths(&answer), ["prompt"], "{answer:?}");
    let message = r#"{"prompt":"hi"}"#;
    for wait in ["abc", "-1", "1.5", "99999999999999999999999"] {
        let path = format!("{path}?wait={wait}");
        court.refuses(Method::POST, &path, message, 400, &["wait"]);
    }
    for after in ["abc", "-1"] {
        court.refuses_get(&format!("/agents/echo/events?after={after}"), 400, &["after"]);
    }
    court.close();
}

#[test]
fn a_path_or_method_that_does_not_exist() {
    let court = Court::open();
    court.refuses_get("/", 404, &[]);
    court.refuses_get("/agents/echo/secrets", 404, &[]);
    court.refuses_get("/agents/start", 405, &[]);
    court.refuses(Method::DELETE, "/agents", "", 405, &[]);
    // Of the original container.
    court.refuses(Method::POST, "/repos/setup", "{}", 404, &[]);
    court.close();
}

/// A request as bytes, on a connection of its own.
fn raw(head: &str, body: &[u8]) -> Vec<u8> {
    let mut request = head.replace('\n', "\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

#[test]
fn a_body_of_10_mib() {
    let court = Court::open();
    let prompt = "x".repeat(10 * MIB);
    let body = json!({"agentId": "a", "role": "echo", "prompt": prompt}).to_string().into_bytes();
    court.refuses(Method::POST, "/agents/start", body.clone(), 413, &["too large"]);
    court.refuses(Method::POST, "/agents/echo/message", body.clone(), 413, &["too large"]);

    // Also to a client that does not say how much will come.
    let token = court.trial.client().token().expect("a token").to_owned();
    let head = format!(
        "POST /agents/start HTTP/1.1\nhost: localhost\nauthorization: Bearer {token}\nconnection: close\n\
         transfer-encoding: chunked\n\n"
    );
    let mut chunked = raw(&head, format!("{:x}\r\n", body.len()).as_bytes());
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let answer = court.trial.client().raw(&chunked).expect("an answer");
    answer.expect_error(413, &["too large"]);

    // And to one that says so and waits for leave.
    let head = format!(
        "POST /agents/start HTTP/1.1\nhost: localhost\nauthorization: Bearer {token}\nconnection: close\n\
         expect: 100-continue\ncontent-length: {}\n\n",
        body.len()
    );
    let answer = court.trial.client().raw(&raw(&head, b"")).expect("an answer");
    answer.expect_error(413, &["too large"]);
    court.close();
}

#[test]
fn bytes_that_are_no_http() {
    let court = Court::open();
    let refused = |request: &[u8]| match court.trial.client().raw(request) {
        // A connection that is closed without a word is an answer to noise.
        Err(_) => {}
        Ok(Answer { status, text, .. }) => {
            assert!((400..500).contains(&status), "{status}: {text}");
        }
    };
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    refused(b"GARBAGE\r\n\r\n");
    refused(b"GET /health HTTP/9.9\r\n\r\n");
    refused(&raw("GET /health HTTP/1.1\nhost: localhost\nx: ", &[b'x'; 256 * 1024]));
    let many = "x: y\n".repeat(5000);
    refused(&raw(&format!("GET /health HTTP/1.1\nhost: localhost\n{many}\n"), b""));
    let head = "POST /agents/start HTTP/1.1\nhost: localhost\ncontent-length: nonsense\n\n";
    refused(&raw(head, b"{}"));
    let long = "a".repeat(100_000);
    refused(&raw(&format!("GET /agents/{long}/status HTTP/1.1\nhost: localhost\n\n"), b""));
    court.close();
}

#[test]
fn a_secret_in_a_bad_request_is_repeated_nowhere() {
    let court = Court::open();
    let body = r#"{"agentId":"a/b","role":"echo","envVars":{"TOKEN":"hush-1"}}"#;
    let answer = court.refuses_start(body, &[]);
    assert!(!answer.text.contains("hush"), "{answer:?}");
    let lines = court.trial.host().lines();
    assert!(!lines.iter().any(|line| line.to_string().contains("hush")), "a secret was logged");
    court.close();
}
