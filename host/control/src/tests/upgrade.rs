//! Components that arrive.

use serde_json::{Value, json};

use super::fake::Rig;

const WASM: &str = "content-type: application/wasm\r\n";

const PATH: &str = "/roles/polecat/upgrade";

#[test]
fn a_component_arrives_whole_and_without_one_the_configuration_says_it() {
    let rig = Rig::start();
    let mut client = rig.client();
    let begun = client.ask("POST", PATH, WASM, "abc");
    // SHA-256 of `abc`, by FIPS 180-2.
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((begun.status, &begun.json()["codeSha256"]), (202, &json!(sha256)));
    let begun = client.ask("POST", &format!("{PATH}?proveMs=0"), "", "");
    assert_eq!((begun.status, &begun.json()["codeSha256"]), (202, &Value::Null));
    assert_eq!(client.get("/roles/mayor/upgrade").json()["phase"], "rolling");
    assert_eq!(client.ask("DELETE", "/roles/mayor/upgrade", "", "").status, 202);
}

#[test]
fn a_component_may_be_named_by_a_reference() {
    let rig = Rig::start();
    let mut client = rig.client();
    let begun = client.ask("POST", &format!("{PATH}?reference=abc&proveMs=0"), "", "");
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((begun.status, &begun.json()["codeSha256"]), (202, &json!(sha256)));
    for (query, body, status, kind) in [
        ("reference=latest", "", 422, "invalid-reference"),
        ("reference=nowhere", "", 502, "not-fetched"),
        ("reference=abc", "abc", 400, "two-components"),
    ] {
        let headers = if body.is_empty() { "" } else { WASM };
        let refused = rig.client().ask("POST", &format!("{PATH}?{query}"), headers, body);
        assert_eq!((refused.status, &refused.json()["error_type"]), (status, &json!(kind)));
    }
}

#[test]
fn a_component_that_nobody_wants_is_refused_before_it_is_read() {
    let rig = Rig::start();
    for (path, headers, status, kind) in [
        ("/roles/ghost/upgrade", WASM, 404, json!("no-such-role")),
        ("/roles/mayor/upgrade", WASM, 409, json!("upgrade-under-way")),
        ("/roles/polecat/upgrade?proveMs=x", WASM, 400, json!("invalid-request")),
        (PATH, "content-type: application/json\r\n", 415, json!("not-wasm")),
        (PATH, "", 415, json!("not-wasm")),
    ] {
        let mut client = rig.client();
        // Nothing follows: an answer that waited for it would be late.
        client.say(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: 9\r\n\r\n"
        ));
        let refused = client.hear();
        assert_eq!((refused.status, &refused.json()["error_type"]), (status, &kind), "{path}");
        assert!(client.is_hung_up(), "what the client sends is no request: {path}");
    }
    let mut client = rig.client();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\n{WASM}content-length: 67108865\r\n\r\n"
    );
    let refused = client.say(head).hear();
    assert_eq!((refused.status, &refused.json()["error_type"]), (413, &json!("body-too-large")));
}

#[test]
fn one_component_at_a_time_arrives_and_half_of_one_is_none() {
    let rig = Rig::start();
    let mut slow = rig.client();
    slow.say(format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\n{WASM}content-length: 9\r\n\r\nhalf"
    ));
    // Until the first one is being read.
    let busy = loop {
        let answer = rig.client().ask("POST", PATH, WASM, "abc");
        if answer.status != 202 {
            break answer;
        }
    };
    assert_eq!((busy.status, &busy.json()["error_type"]), (503, &json!("busy")));
    drop(slow);
    loop {
        let answer = rig.client().ask("POST", PATH, WASM, "abc");
        if answer.status == 202 {
            break;
        }
        assert_eq!(answer.status, 503);
    }
}

#[test]
fn nobody_brings_a_component_without_the_token() {
    let rig = Rig::with(crate::ControlLimits::default(), Some("hunter2"));
    let refused = rig.client().ask("POST", PATH, WASM, "abc");
    assert_eq!(refused.status, 401);
}
