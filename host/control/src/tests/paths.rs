//! Paths, methods, ids and queries.

use super::fake::Rig;
use crate::ControlLimits;

#[test]
fn probes_and_reads_answer() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.get("/health").json()["runId"], "run");
    assert_eq!(client.get("/livez").json()["status"], "ok");
    assert_eq!(client.get("/readyz").status, 200);
    assert_eq!(client.get("/agents").json()[0]["agentId"], "a1");
    assert_eq!(client.get("/agents/a2/status").json()["agentId"], "a2");
    let memory = client.get("/agents/a2/memory").json();
    assert_eq!((&memory["agentId"], &memory["usedBytes"]), (&"a2".into(), &5.into()));
    assert!(memory["fine"].is_array() && memory["coarse"].is_array(), "{memory}");
    let memory = client.get("/memory").json();
    assert_eq!((&memory["sampleMs"], &memory["usedBytes"]), (&5000.into(), &().into()));
    assert!(memory["used"]["fine"].is_array(), "{memory}");
    assert_eq!(client.get("/agents/a2/events?after=7").json()["droppedBefore"], 7);
    assert_eq!(client.get("/agents/a2/events").json()["droppedBefore"], 0);
    assert!(rig.refusals().is_empty());
}

#[test]
fn not_ready_is_503() {
    let rig = Rig::start();
    rig.backend.set_ready(false);
    let answer = rig.client().get("/readyz");
    assert_eq!((answer.status, &answer.json()["error_type"]), (503, &"not-ready".into()));
    assert!(answer.error().contains("still booting"), "{}", answer.error());
    rig.backend.set_draining();
    let answer = rig.client().get("/readyz");
    assert_eq!((answer.status, &answer.json()["error_type"]), (503, &"not-ready".into()));
    assert!(answer.error().contains("draining"), "{}", answer.error());
    assert_eq!(rig.client().get("/livez").status, 200);
    // A probe that asks too early is no event. One that asks for something else is.
    assert_eq!(rig.client().get("/readyz?strickt=1").status, 400);
    let refusals = rig.refusals();
    assert!(refusals.len() == 1 && refusals[0].starts_with("400 GET /readyz"), "{refusals:?}");
}

#[test]
fn missing_agents_are_reported_and_make_unready_only_when_asked() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.get("/readyz").json(), serde_json::json!({"status": "ready", "missing": 0}));
    assert_eq!(client.get("/readyz?strict=true").status, 200);
    rig.backend.set_missing("lost");
    let answer = client.get("/readyz");
    assert_eq!((answer.status, &answer.json()["missing"]), (200, &1.into()));
    let agent = &answer.json()["agents"][0];
    assert_eq!((&agent["agentId"], &agent["reason"]), (&"lost".into(), &"no component".into()));
    assert_eq!(client.get("/readyz?strict=false").status, 200);
    let strict = client.get("/readyz?strict=true");
    assert_eq!((strict.status, &strict.json()["error_type"]), (503, &"agents-missing".into()));
    assert!(strict.error().contains("lost"), "{}", strict.error());
    // It says no less than the 200.
    let (said, ready) = (strict.json(), client.get("/readyz").json());
    assert_eq!((&said["missing"], &said["agents"]), (&ready["missing"], &ready["agents"]));
    for form in ["strict", "strict=1"] {
        assert_eq!(client.get(&format!("/readyz?{form}")).status, 503, "{form}");
    }
    let wrong = client.get("/readyz?strict=yes");
    assert_eq!((wrong.status, &wrong.json()["issues"][0]["path"]), (400, &"strict".into()));
}

#[test]
fn a_store_that_cannot_be_written_is_reported_and_makes_unready_only_when_asked() {
    let rig = Rig::with(ControlLimits::default(), Some("hunter2"));
    let token = "authorization: Bearer hunter2\r\n";
    rig.backend.lose_store("the disk is read-only");
    let mut client = rig.client();
    let answer = client.ask("GET", "/readyz", token, "");
    let expected = serde_json::json!({
        "status": "ready", "missing": 0, "store": "lost", "storeError": "the disk is read-only"
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    let strict = client.ask("GET", "/readyz?strict=true", token, "");
    assert_eq!((strict.status, &strict.json()["error_type"]), (503, &"not-durable".into()));
    assert!(strict.error().contains("the disk is read-only"), "{}", strict.error());
    // Probes learn that it is so, and not where.
    let mut probe = rig.probe();
    let expected = serde_json::json!({"status": "ready", "missing": 0, "store": "lost"});
    assert_eq!(probe.get("/readyz").json(), expected);
    let strict = probe.get("/readyz?strict=true");
    assert_eq!(strict.status, 503);
    assert!(!strict.error().contains("read-only"), "{}", strict.error());
}

#[test]
fn what_is_not_shipped_is_reported_and_makes_unready_where_it_is_promised() {
    let rig = Rig::with(ControlLimits::default(), Some("hunter2"));
    let token = "authorization: Bearer hunter2\r\n";
    rig.backend.fail_to_ship("no such bucket", false);
    let mut client = rig.client();
    let answer = client.ask("GET", "/readyz?strict=true", token, "");
    let expected = serde_json::json!({
        "status": "ready", "missing": 0,
        "ship": {"forMs": 1500, "error": "no such bucket"}, "evidence": {"forMs": 2500}
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    rig.backend.fail_to_ship("no such bucket", true);
    assert_eq!(client.ask("GET", "/readyz", token, "").status, 200);
    let strict = client.ask("GET", "/readyz?strict=true", token, "");
    assert_eq!((strict.status, &strict.json()["error_type"]), (503, &"not-durable".into()));
    assert!(strict.error().contains("is not shipped: no such bucket"), "{}", strict.error());
    let mut probe = rig.probe();
    assert_eq!(probe.get("/readyz").json()["ship"], serde_json::json!({"forMs": 1500}));
    let strict = probe.get("/readyz?strict=true");
    assert!(strict.status == 503 && !strict.error().contains("bucket"), "{}", strict.error());
}

#[test]
fn a_parameter_that_a_route_does_not_know_is_refused_by_its_name() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (method, path, hint) in [
        ("GET", "/readyz?strickt=1", "strict"),
        ("GET", "/agents?limt=1", "limit"),
        ("GET", "/agents/a1/events?from=1", ""),
        ("GET", "/agents/a1/status?verbose", ""),
        ("GET", "/agents/a1/memory?x", ""),
        ("GET", "/memory?x", ""),
        ("GET", "/metrics?x", ""),
        ("GET", "/crashes?agnet=a1", "agent"),
        ("GET", "/crashes/c1?x", ""),
        ("GET", "/agents/a1/crashes?agent=a2", ""),
        ("POST", "/agents/a1/message?wiat=1", "wait"),
        ("POST", "/agents/a1/stop?force=1", ""),
        ("POST", "/agents/start?force=true", ""),
        ("POST", "/agents/a1/nudge?x", ""),
        ("PATCH", "/agents/a1/model?x", ""),
        ("PUT", "/agents/a1/system-prompt?x", ""),
        ("POST", "/dashboard-context?x", ""),
        ("POST", "/sync-config?x", ""),
        ("POST", "/refresh-token?x", ""),
    ] {
        let answer = client.ask(method, path, "", "");
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid query"), "{path}");
        let said = answer.json()["issues"][0]["message"].as_str().unwrap().to_owned();
        let hinted =
            if hint.is_empty() { String::new() } else { format!("; did you mean {hint}?") };
        assert_eq!(said, format!("is not known here{hinted}"), "{path}");
    }
    assert!(rig.backend.changes().is_empty());
    // Probes of all kinds of platforms.
    assert_eq!(client.get("/livez?verbose").status, 200);
    assert_eq!(client.get("/health?t=1").status, 200);
}

#[test]
fn a_long_list_comes_in_pages() {
    let rig = Rig::start();
    let mut client = rig.client();
    let mut page = |path: &str| {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let agents = answer.json().as_array().unwrap().clone();
        let ids: Vec<_> =
            agents.iter().map(|one| one["agentId"].as_str().unwrap().to_owned()).collect();
        (ids.join(" "), answer.header("link").map(str::to_owned))
    };
    assert_eq!(page("/agents"), ("a1 a2 a3".into(), None));
    let next = "</agents?after=a2&limit=2>; rel=\"next\"".to_owned();
    assert_eq!(page("/agents?limit=2"), ("a1 a2".into(), Some(next)));
    assert_eq!(page("/agents?after=a2&limit=2"), ("a3".into(), None));
    assert_eq!(page("/agents?limit=3"), ("a1 a2 a3".into(), None));
    assert_eq!(page("/agents?after=a1"), ("a2 a3".into(), None));
    for wrong in ["limit=0", "limit=x", "limit=10001", "after=a/b"] {
        assert_eq!(client.get(&format!("/agents?{wrong}")).status, 400, "{wrong}");
    }
}

#[test]
fn an_unknown_path_is_named_and_written_down_once() {
    let rig = Rig::start();
    let mut client = rig.client();
    for path in ["/nope?secret=1", "/agents/", "/agents/a/b/c", "/"] {
        let answer = client.get(path);
        let named = path.split('?').next().unwrap();
        assert_eq!((answer.status, answer.error()), (404, format!("no such path: {named}")));
        assert_eq!(answer.json()["status"], 404);
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let refusals = rig.refusals();
    assert_eq!(refusals.len(), 4);
    assert_eq!(refusals[0], "404 GET /nope no such path: /nope");
}

#[test]
fn the_refusal_of_a_wrong_method_names_the_right_one() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (method, path, allow) in [
        ("DELETE", "/agents", "GET,HEAD"),
        ("GET", "/agents/start", "POST"),
        ("PUT", "/agents/a/message", "POST"),
    ] {
        let answer = client.ask(method, path, "", "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{path}");
        assert!(answer.error().contains(method) && answer.error().contains(path));
    }
    assert_eq!(rig.refusals().len(), 3);
}

#[test]
fn a_path_that_holds_no_agent_id_is_refused_with_the_rule() {
    let rig = Rig::start();
    let mut client = rig.client();
    let long = "a".repeat(10_000);
    for (id, rule) in [
        ("", "is empty"),
        ("a%2Fb", "'/' at byte 1"),
        ("a%00", "'\\0' at byte 1"),
        ("..", "'.' at byte 0"),
        ("%FF", "not UTF-8"),
        ("a%", "'%' at byte 1"),
        (long.as_str(), "10000 bytes, at most 128"),
    ] {
        for (method, verb) in
            [("GET", "status"), ("GET", "events"), ("POST", "stop"), ("POST", "message")]
        {
            let answer = client.ask(method, &format!("/agents/{id}/{verb}"), "", "{}");
            assert_eq!(answer.status, 400, "{verb} {id:.20}");
            assert!(answer.error().contains(rule), "{}", answer.error());
            assert_eq!(answer.json()["issues"][0]["path"], "agentId");
        }
    }
    for line in rig.refusals() {
        assert!(line.len() < 600, "{line}");
    }
}

#[test]
fn a_path_that_is_no_text_is_refused_by_its_parameter() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (path, param) in [("/crashes/%FF", "crashId"), ("/crashes/a%C3", "crashId")] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid path"), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["issues"][0]["path"], param);
    }
    let answer = client.get("/v1/models/%FF");
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &"model".into()));
    for path in ["/console/crashes/%FF", "/console/agents/%FF", "/console/assets/%FF"] {
        let answer = client.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains("id=\"problem\""), "{path}: {}", answer.body);
    }
}

#[test]
fn a_query_that_is_no_number_is_refused_by_its_key() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (method, path, key) in [
        ("GET", "/agents/a/events?after=-1", "after"),
        ("GET", "/agents/a/events?after=18446744073709551615", "after"),
        ("POST", "/agents/a/message?wait=abc", "wait"),
        ("POST", "/agents/a/message?wait=600001", "wait"),
    ] {
        let answer = client.ask(method, path, "", r#"{"prompt":"x"}"#);
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid query"), "{path}");
        assert_eq!(answer.json()["issues"][0]["path"], key);
    }
}

#[test]
fn an_unknown_agent_is_404() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (method, verb) in
        [("GET", "status"), ("GET", "memory"), ("POST", "stop"), ("POST", "message")]
    {
        let path = format!("/agents/ghost/{verb}");
        let answer = client.ask(method, &path, "", r#"{"prompt":"x"}"#);
        assert_eq!((answer.status, answer.error().as_str()), (404, "no such agent: ghost"));
    }
    assert_eq!(rig.refusals().len(), 4);
}

#[test]
fn no_call_about_an_agent_is_answered_before_boot_has_restored_it() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (method, verb, body) in [
        ("GET", "status", ""),
        ("GET", "memory", ""),
        ("POST", "message", r#"{"prompt":"x"}"#),
        ("POST", "nudge", r#"{"message":"x"}"#),
        ("PATCH", "model", r#"{"model":"m"}"#),
        ("PUT", "system-prompt", r#"{"systemPrompt":"s"}"#),
    ] {
        let answer = client.ask(method, &format!("/agents/late/{verb}"), "", body);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{verb}");
        assert_eq!(answer.json()["error_type"], "not-back-yet", "{verb}");
    }
    assert!(rig.backend.changes().is_empty());
}
