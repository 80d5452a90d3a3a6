use hyper::Method;

use super::*;

const OLD: &str = "01900000-0000-7000-8000-000000000001";
const NEW: &str = "01900000-0000-7000-8000-000000000002";

/// A call of a run about the agent `a` of rig `r`, with a good token.
fn call(town: &mut Town, run: &str, method: Method, path: &str, body: &str) -> (u16, Value) {
    let answer = call_with(town, run, method, path, body, &[]);
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

fn call_with(
    town: &mut Town,
    run: &str,
    method: Method,
    path: &str,
    body: &str,
    more: &[(&'static str, &str)],
) -> Answer {
    let target = Target::parse("", &method, &format!("/api/towns/t{path}")).expect("a call");
    let pairs =
        [(RUN_ID, run), (AGENT_ID, "a"), (RIG_ID, "r")].into_iter().chain(more.iter().copied());
    let header = |(name, value): (&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    let headers: HeaderMap = pairs.map(header).collect();
    let body = Bytes::copy_from_slice(body.as_bytes());
    let asked =
        Asked { target: &target, standing: Standing::Current, headers: &headers, body: &body };
    answer(town, &asked)
}

fn post(town: &mut Town, path: &str, body: &str) -> (u16, Value) {
    call(town, NEW, Method::POST, path, body)
}

fn get(town: &mut Town, path: &str) -> (u16, Value) {
    call(town, NEW, Method::GET, path, "")
}

#[test]
fn an_older_run_is_fenced_and_changes_nothing() {
    let mut town = Town::default();
    let entry = r#"[{"agentId":"a","request":{"agentId":"a"},"workdir":null,"env":[]}]"#;
    assert_eq!(call(&mut town, OLD, Method::POST, "/container-registry", entry).0, 200);
    assert_eq!(get(&mut town, "/container-registry").0, 200);
    let (status, body) = call(&mut town, OLD, Method::POST, "/container-registry", "[]");
    assert_eq!((status, &body["error"]), (409, &json!("fenced")));
    assert_eq!(body["data"]["runId"], NEW);
    assert_eq!(town.agents(), ["a"]);
    let (status, body) = call(&mut town, OLD, Method::POST, "/refresh-container-token", "");
    assert_eq!(status, 200, "a refresh does not count: {body}");
}

#[test]
fn a_run_under_an_older_lease_is_fenced_whenever_it_began() {
    let mut town = Town::default();
    let mut ask = |run: &str, epoch: &str| {
        let path = "/container-ready";
        let body = "{\"nonce\":\"n\"}";
        call_with(&mut town, run, Method::POST, path, body, &[(EPOCH, epoch)]).status.as_u16()
    };
    // The clock of the second machine is late.
    assert_eq!((ask(NEW, "1"), ask(OLD, "2")), (200, 200));
    assert_eq!((ask(NEW, "1"), ask(NEW, "2"), ask(OLD, "2")), (409, 200, 409));
}

#[test]
fn a_call_without_a_run_id_is_refused() {
    let mut town = Town::default();
    let target = Target::parse("", &Method::GET, "/api/towns/t/container-registry").unwrap();
    let (headers, body) = (HeaderMap::new(), Bytes::new());
    let asked =
        Asked { target: &target, standing: Standing::Current, headers: &headers, body: &body };
    assert_eq!(answer(&mut town, &asked).status, 400);
    assert_eq!(town.problems.seen(), 1);
}

#[test]
fn an_old_token_is_good_for_nothing_and_an_expired_one_for_a_refresh() {
    let ask = |standing, path| {
        let target = Target::parse("", &Method::POST, path).unwrap();
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static(RUN_ID),
            HeaderValue::from_static(NEW),
        )]);
        let body = Bytes::from_static(b"{\"nonce\":\"n\"}");
        let asked = Asked { target: &target, standing, headers: &headers, body: &body };
        answer(&mut Town::default(), &asked).status.as_u16()
    };
    let (ready, refresh) = ("/api/towns/t/container-ready", "/api/towns/t/refresh-container-token");
    for standing in [Standing::Replaced, Standing::Unknown] {
        assert_eq!((ask(standing, ready), ask(standing, refresh)), (401, 401), "{standing:?}");
    }
    assert_eq!((ask(Standing::Expired, ready), ask(Standing::Expired, refresh)), (401, 200));
    assert_eq!((ask(Standing::Current, ready), ask(Standing::Current, refresh)), (200, 200));
}

#[test]
fn a_registry_comes_back_with_the_values_that_are_known() {
    let mut town = Town::default();
    town.know("a", "KEY", "secret");
    let entries = r#"[{"agentId":"a","request":{"agentId":"a"},"workdir":"/w","env":["KEY","OTHER"]},
        {"agentId":"b","request":{"agentId":"b"},"workdir":null,"env":["KEY"]}]"#;
    assert_eq!(post(&mut town, "/container-registry", entries).0, 200);
    let (_, body) = get(&mut town, "/container-registry");
    assert_eq!(body["data"][0]["env"], json!({"KEY": "secret"}));
    assert_eq!(body["data"][1]["env"], json!(["KEY"]));
    assert_eq!(town.registry[0]["env"], json!(["KEY", "OTHER"]), "what was posted stays");
}

#[test]
fn a_registry_with_values_in_it_is_refused() {
    let mut town = Town::default();
    for entries in [
        r#"[{"agentId":"a","request":{"envVars":{"K":"v"}},"env":["K"]}]"#,
        r#"[{"agentId":"a","request":{},"env":{"K":"v"}}]"#,
        r#"[{"request":{},"env":[]}]"#,
        r#"{"data":[]}"#,
        "[",
    ] {
        assert_eq!(post(&mut town, "/container-registry", entries).0, 400, "{entries}");
    }
    assert_eq!((town.registry_posts, town.problems.seen()), (0, 5));
}

#[test]
fn a_nonce_comes_with_both_heartbeats() {
    let mut town = Town { drain_nonce: Some("n".into()), ..Town::default() };
    let beat = json!({"agentId": "a", "townId": "t", "status": "running", "timestamp": "now",
        "containerInstanceId": NEW})
    .to_string();
    for path in ["/rigs/r/agents/a/heartbeat", "/container-heartbeat"] {
        let (status, body) = post(&mut town, path, &beat);
        assert_eq!((status, &body["data"]["drainNonce"]), (200, &json!("n")), "{path}");
    }
    assert_eq!(town.heartbeats["a"]["status"], "running");
    assert_eq!(post(&mut town, "/container-heartbeat", "{}").0, 400);
}

#[test]
fn headers_of_an_agents_call_say_what_its_path_says() {
    let mut town = Town::default();
    for path in
        ["/rigs/r/agents/b/completed", "/rigs/x/agents/a/completed", "/rigs/-/agents/a/completed"]
    {
        assert_eq!(post(&mut town, path, r#"{"status":"completed"}"#).0, 400, "{path}");
    }
    assert_eq!(post(&mut town, "/rigs/r/agents/a/completed", r#"{"status":"completed"}"#).0, 200);
    assert_eq!(post(&mut town, "/rigs/r/agents/a/completed", r#"{"status":"fine"}"#).0, 400);
    assert_eq!(town.completed.seen(), 1);
}

#[test]
fn a_snapshot_is_kept_with_its_time_and_refused_with_a_wrong_hash() {
    let (mut town, path) = (Town::default(), "/rigs/r/agents/a/db-snapshot");
    assert_eq!(get(&mut town, path).0, 404);
    let hash = sha256_hex(b"state");
    for (given, status) in [("00", 400), (hash.as_str(), 200)] {
        let more = [(TAKEN_AT, "17"), (SHA256, given)];
        assert_eq!(call_with(&mut town, NEW, Method::POST, path, "state", &more).status, status);
    }
    let answer = call_with(&mut town, NEW, Method::GET, path, "", &[]);
    assert_eq!(answer.body, "state");
    assert_eq!(text(&answer.headers, TAKEN_AT), Some("17"));
    assert_eq!(text(&answer.headers, SHA256), Some(hash.as_str()));
}

#[test]
fn events_come_in_bounded_arrays_or_one_by_one() {
    let (mut town, path) = (Town::default(), "/rigs/r/agent-events");
    let event = json!({"agent_id": "a", "event_type": "x", "data": {}});
    let array = |count| Value::from(vec![event.clone(); count]).to_string();
    assert_eq!(post(&mut town, path, &array(100)).0, 200);
    assert_eq!(post(&mut town, path, &array(101)).0, 413);
    let large = json!([{"agent_id": "a", "event_type": "x", "data": "x".repeat(MAX_EVENT_BYTES)}]);
    assert_eq!(post(&mut town, path, &large.to_string()).0, 413);
    assert_eq!(post(&mut town, path, "[{}]").0, 400);
    town.refuses_batches = true;
    assert_eq!(post(&mut town, path, &array(1)).0, 400);
    assert_eq!(post(&mut town, path, &event.to_string()).0, 200);
    assert_eq!((town.events.seen(), town.event_batches.seen()), (101, 2));
}

#[test]
fn a_nudge_waits_until_it_is_delivered() {
    let (mut town, path) = (Town::default(), "/rigs/r/agents/a");
    town.nudge("n", "a", "wake up");
    town.nudge("m", "b", "not yours");
    for _ in 0..2 {
        let (_, body) = get(&mut town, &format!("{path}/pending-nudges"));
        assert_eq!(body["data"].as_array().map(Vec::len), Some(1), "{body}");
        assert_eq!(body["data"][0]["message"], "wake up");
    }
    let delivered = format!("{path}/nudge-delivered");
    assert_eq!(post(&mut town, &delivered, r#"{"nudge_id":"n"}"#).0, 200);
    assert_eq!(post(&mut town, &delivered, r#"{"nudge_id":"m"}"#).0, 400);
    assert_eq!(get(&mut town, &format!("{path}/pending-nudges")).1["data"], json!([]));
    assert_eq!((town.nudges["n"].fetched, town.nudges["n"].delivered), (2, 1));
}

#[test]
fn goodbyes_are_kept() {
    let mut town = Town::default();
    let body = json!({"containerInstanceId": NEW, "reason": "SIGTERM"}).to_string();
    assert_eq!(post(&mut town, "/container-eviction", &body).0, 200);
    let body = json!({"agentId": "a", "status": "running"}).to_string();
    assert_eq!(post(&mut town, "/rigs/r/agents/a/eviction-context", &body).0, 200);
    assert_eq!(post(&mut town, "/container-ready", r#"{"nonce":"n"}"#).0, 200);
    assert_eq!((town.evictions.seen(), town.contexts.len(), town.ready.seen()), (1, 1, 1));
}
