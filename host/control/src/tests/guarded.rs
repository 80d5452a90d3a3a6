//! Who gets in.

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
        let told = client.get(path);
        assert!(told.body.contains('1') && !told.body.contains("lost"), "{}", told.body);
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
fn a_refused_body_is_read_off_so_that_the_connection_lives_on() {
    let rig = guarded();
    let mut client = rig.client();
    assert_eq!(client.post("/agents/start", &"x".repeat(3_000_000)).status, 401);
    assert_eq!(client.get("/livez").status, 200);
}
