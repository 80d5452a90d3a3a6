//! `X-Town-Config` of any size: it fails no call, and costs no more than its bound.

use bulkhead_types::Event;
use bulkhead_types::event::TownConfigIgnored;

use super::client::Client;
use super::fake::Rig;
use crate::ControlLimits;

const KIB: usize = 1024;
const TOKEN: &str = "authorization: Bearer token\r\n";

/// A configuration of so many bytes, as a header.
fn config(bytes: usize) -> String {
    format!("X-Town-Config: {{\"env_vars\":{{\"K\":\"{}\"}}}}\r\n", "v".repeat(bytes))
}

fn sync(bytes: usize) -> String {
    format!("sync K={}", "v".repeat(bytes))
}

/// What was logged of headers, and how many requests were refused.
fn logged(rig: Rig) -> (Vec<(String, String)>, usize) {
    let (mut ignored, mut refused) = (Vec::new(), 0);
    for line in rig.lines() {
        match line {
            Event::TownConfigIgnored(TownConfigIgnored { path, problem }) => {
                ignored.push((path, problem))
            }
            Event::RequestRefused { .. } => refused += 1,
            _ => {}
        }
    }
    (ignored, refused)
}

#[test]
fn a_header_that_is_larger_than_a_head_may_be_is_taken() {
    let rig = Rig::start();
    let mut client = rig.client();
    let sizes = [15 * KIB, 17 * KIB, 100 * KIB, 255 * KIB];
    for bytes in sizes {
        for (method, path, body) in [
            ("GET", "/health", ""),
            ("GET", "/livez", ""),
            ("PUT", "/agents/a1/system-prompt", r#"{"systemPrompt":"p"}"#),
            ("POST", "/sync-config", ""),
        ] {
            let answer = client.ask(method, path, &config(bytes), body);
            assert_eq!(answer.status, 200, "{bytes}: {method} {path}");
        }
    }
    let changes = rig.backend.changes();
    let of = |bytes: &usize| changes.iter().filter(|change| **change == sync(*bytes)).count();
    assert_eq!(sizes.iter().map(of).collect::<Vec<_>>(), [4; 4]);
    assert_eq!(logged(rig), (Vec::new(), 0));
}

#[test]
fn a_header_above_its_bound_is_ignored_and_fails_no_call() {
    let rig = Rig::start();
    let mut client = rig.client();
    for bytes in [512 * KIB, 2048 * KIB] {
        for path in ["/health", "/livez", "/readyz", "/agents"] {
            assert_eq!(client.ask("GET", path, &config(bytes), "").status, 200, "{bytes}: {path}");
        }
        let answer = client.ask("POST", "/sync-config", &config(bytes), "");
        assert_eq!((answer.status, &answer.json()["synced"]), (200, &false.into()));
    }
    // What the one before it said still holds, and the next one is taken.
    assert_eq!(client.ask("GET", "/livez", &config(1), "").status, 200);
    let changes: Vec<_> = rig.backend.changes();
    assert_eq!(changes.iter().filter(|change| change.contains('K')).count(), 1, "{changes:?}");
    let expected = (".".to_owned(), "is longer than 524288 bytes".to_owned());
    assert_eq!(logged(rig), (vec![expected], 0));
}

#[test]
fn one_that_shows_no_token_brings_nothing_and_has_the_bound_of_a_head() {
    let rig = Rig::with(ControlLimits::default(), Some("token"));
    for bytes in [100 * KIB, 2048 * KIB] {
        let mut client = rig.client();
        for path in ["/livez", "/health", "/readyz"] {
            assert_eq!(client.ask("GET", path, &config(bytes), "").status, 200, "{path}");
        }
        assert_eq!(client.ask("GET", "/agents", &config(bytes), "").status, 401);
    }
    assert!(rig.backend.changes().is_empty());
    let padded = format!("{}x: {}\r\n", config(100 * KIB), "y".repeat(17 * KIB));
    assert_eq!(rig.client().ask("GET", "/livez", &padded, "").status, 431);
    let many = config(1).repeat(200);
    assert_eq!(rig.client().ask("GET", "/livez", &many, "").status, 431);
    // Wherever the token stands.
    for header in [TOKEN.to_owned() + &config(100 * KIB), config(100 * KIB) + TOKEN] {
        assert_eq!(rig.client().ask("GET", "/livez", &header, "").status, 200);
    }
    assert_eq!(rig.backend.changes(), [sync(100 * KIB), sync(100 * KIB)]);
    assert_eq!(logged(rig), (Vec::new(), 4));
}

#[test]
fn one_that_does_not_end_is_not_read_for_ever() {
    let limits = ControlLimits { discard_bytes: 1024 * KIB, ..ControlLimits::default() };
    let rig = Rig::with(limits, None);
    assert_eq!(rig.client().ask("GET", "/livez", &config(1000 * KIB), "").status, 200);
    assert_eq!(rig.client().ask("GET", "/livez", &config(1100 * KIB), "").status, 431);
}

#[test]
fn more_of_them_than_there_is_room_for_fail_no_call() {
    let rig = Rig::start();
    let head = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{}", config(100 * KIB));
    let mut clients: Vec<Client> = (0..17).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.say(&head);
    }
    // By then, all of those were read.
    for _ in 0..10 {
        assert_eq!(rig.client().get("/livez").status, 200);
    }
    assert!(clients.iter_mut().all(|client| client.say("\r\n").hear().status == 200));
    let taken = rig.backend.changes().into_iter().filter(|change| *change == sync(100 * KIB));
    assert_eq!(taken.count(), 16);
    let expected = (".".to_owned(), "came beside too many others that are as long".to_owned());
    assert_eq!(logged(rig), (vec![expected], 0));
}

#[test]
fn heads_are_found_behind_bodies_of_every_kind() {
    let rig = Rig::start();
    let mut client = rig.client();
    let (head, large) = ("HTTP/1.1\r\nhost: localhost\r\n", config(300 * KIB));
    // What looks like a header and stands in a body is the body.
    let prompt = format!("x\r\nx-town-config: {}\r\n\r\n", "y".repeat(600 * KIB));
    let body = serde_json::json!({ "systemPrompt": prompt }).to_string().replace("\\r\\n", "\r\n");
    let json = "content-type: application/json\r\n";
    let length = body.len();
    let counted =
        format!("PUT /agents/a1/system-prompt {head}{json}content-length: {length}\r\n\r\n{body}");
    let chunked = format!(
        "PUT /agents/a1/system-prompt {head}{json}transfer-encoding: chunked\r\n\r\n\
         {length:x}\r\n{body}\r\n0\r\n\r\n"
    );
    let get = format!("GET /livez {head}{large}\r\n");
    // A line break within JSON's text is refused, by who reads it.
    assert_eq!(client.say(&counted).hear().status, 400);
    assert_eq!(client.say(&get).hear().status, 200);
    assert_eq!(client.say(&chunked).hear().status, 400);
    assert_eq!(client.say(&get).hear().status, 200);
    // All at once.
    client.say(format!("{get}{counted}{get}{get}{counted}"));
    let statuses: Vec<_> = (0..5).map(|_| client.hear().status).collect();
    assert_eq!(statuses, [200, 400, 200, 200, 400]);
    assert_eq!(rig.backend.changes().len(), 5);
}
