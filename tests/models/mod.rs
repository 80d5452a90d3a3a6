//! The interface `model`, seen from an agent.

mod keys;
mod wire;

use harness::{
    End, Host, HostBuilder, ModelServer, Record, Value, files, json, model_server, wait_until,
};

const KEY: &str = "sk-0123456789-hush";

fn builder(role: &str) -> HostBuilder {
    let program = files::component("models");
    Host::builder().component("models", &program).role("models", "models", role)
}

/// A host with the agent `models`, whose role may use this endpoint, which needs a key.
fn host_with(model: &ModelServer, more: &str) -> Host {
    model.accept_key(Some(KEY));
    let host = builder(&format!("models = [\"default\"]\n{more}")).model(model, KEY).start();
    host.client().start("models", "models");
    host
}

fn reply(host: &Host, order: &Value) -> Value {
    let reply = host.client().ask("models", &order.to_string());
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

#[test]
fn a_streamed_answer_is_the_whole_answer() {
    let model = model_server();
    let host = host_with(&model, "");
    let whole = reply(&host, &json!({"do": "complete", "say": "hello"}));
    assert_eq!(whole["text"], "Hello. I answer from a script.", "{whole}");
    let streamed = reply(&host, &json!({"do": "stream", "say": "hello"}));
    assert_eq!((&streamed["text"], &streamed["end"]["end"]), (&whole["text"], &json!("stop")));
    assert_eq!(model.asked(), 2);
    host.finish();
}

#[test]
fn both_dialects_bring_reasoning_and_tokens() {
    let model = model_server();
    let other = format!(
        "[models.claude]\nbase_url = {:?}\ndialect = \"anthropic\"\napi_key = {KEY:?}\n",
        model.anthropic_url().trim_end_matches("/v1")
    );
    model.accept_key(Some(KEY));
    let host =
        builder("models = [\"default\", \"claude\"]").model(&model, KEY).toml(&other).start();
    host.client().start("models", "models");
    for endpoint in ["default", "claude"] {
        let order = json!({"do": "complete", "endpoint": endpoint, "model": "usage-30-20-10-5"});
        let counted = reply(&host, &order);
        let usage = &counted["usage"];
        assert_eq!((&usage["input"], &usage["output"]), (&json!(30), &json!(20)), "{counted}");
        assert_eq!(usage["cached"], 10, "{counted}");
        let order =
            json!({"do": "complete", "endpoint": endpoint, "model": "thinks", "say": "hello"});
        let thought = reply(&host, &order);
        assert_eq!(thought["reasoning"], "The user says: hello", "{thought}");
        assert_eq!(thought["text"], "Hello. I answer from a script.", "{thought}");
    }
    host.finish();
}

#[test]
fn no_key_is_where_an_agent_can_read_it() {
    let model = model_server();
    let host = host_with(&model, "core_dump = true\nrestart = \"temporary\"");
    host.client().sync_config(json!({"model.api-key": KEY, "A_TOKEN": "seen"})).expect(200);
    let found = reply(&host, &json!({"do": "secrets"}));
    assert!(found["config"].as_object().unwrap().values().all(Value::is_null), "{found}");
    assert!(!found.to_string().contains("hush"), "{found}");
    assert_eq!(reply(&host, &json!({"do": "config", "say": "A_TOKEN"}))["value"], "seen");
    // The key of the call under way, and of the one before.
    reply(&host, &json!({"do": "complete"}));
    let order = json!({"do": "panic", "model": "stream-100-50", "take": 1});
    host.client().send("models", &order.to_string()).expect(200);
    let dump = host.wait_for_line("the dump", |line| line["event"] == "agent.core_dump");
    let name = dump["coreDump"]["id"].as_str().expect("an id");
    let bytes = std::fs::read(host.state_dir().join("cores").join(name)).expect("read the dump");
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("told to panic after"), "the dump has the guest's memory");
    assert!(!has(KEY), "the key is in the guest's memory");
    host.finish();
}

#[test]
fn what_a_role_may_not_use_is_denied_and_nothing_is_sent() {
    let (model, other) = (model_server(), model_server());
    let more = format!(
        "[models.narrow]\nbase_url = {:?}\nmodel = \"small\"\nmodels = [\"small\"]\n[models.other]\nbase_url = {:?}\n",
        other.base_url(),
        other.base_url()
    );
    let host = builder("models = [\"default\", \"narrow\"]")
        .role("poor", "models", "")
        .model(&model, "")
        .toml(&more)
        .start();
    host.client().start("models", "models");
    host.client().start("poor", "poor");
    for (order, says) in [
        (json!({"do": "complete", "endpoint": "other"}), "not \"other\""),
        (json!({"do": "stream", "endpoint": "nonsense"}), "not \"nonsense\""),
        (json!({"do": "complete", "endpoint": "narrow", "model": "large"}), "\"large\""),
    ] {
        let denied = reply(&host, &order);
        assert_eq!(denied["error"], "denied", "{denied}");
        assert!(denied["message"].as_str().unwrap().contains(says), "{denied}");
    }
    let denied = host.client().ask("poor", "complete hello");
    assert!(denied.contains("denied") && denied.contains("may use no model"), "{denied}");
    assert_eq!((model.asked(), other.asked()), (0, 0));
    assert_eq!(reply(&host, &json!({"do": "complete", "endpoint": "narrow"}))["finish"], "stop");
    host.finish();
}

#[test]
fn every_request_that_breaks_a_rule_is_invalid_and_nothing_is_sent() {
    let model = model_server();
    let host = host_with(&model, "");
    let answers = reply(&host, &json!({"do": "invalid"}));
    let answers = answers.as_object().expect("an object");
    assert!(answers.len() > 10, "{answers:?}");
    let error = |name: &str| if name == "endpoint-unknown" { "denied" } else { "invalid" };
    let taken: Vec<_> = answers.iter().filter(|(name, it)| it["error"] != error(name)).collect();
    assert!(taken.is_empty(), "{taken:#?}");
    assert_eq!(model.asked(), 0);
    host.finish();
}

#[test]
fn a_tool_call_takes_memory_of_the_agent_before_it_is_whole() {
    let model = model_server();
    let long = format!(
        "[models.long]\nbase_url = {:?}\nmax_answer_kb = 1048576\n",
        model.oddity_url("long-call")
    );
    let host = builder("models = [\"long\"]\nmemory_limit_mb = 16").toml(&long).start();
    host.client().start("models", "models");
    let refused = reply(&host, &json!({"do": "complete"}));
    assert_eq!(refused["error"], "bad-answer", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("does not fit into the agent's memory"), "{message}");
    host.finish();
}

#[test]
fn an_answer_that_is_cancelled_or_dropped_ends_at_the_server() {
    let model = model_server();
    let silent =
        format!("[models.silent]\nbase_url = {:?}\napi_key = {KEY:?}\n", model.oddity_url("stall"));
    model.accept_key(Some(KEY));
    let role = "models = [\"default\", \"silent\"]";
    let host = builder(role).model(&model, KEY).toml(&silent).start();
    host.client().start("models", "models");
    let cancelled = reply(&host, &json!({"do": "cancel", "model": "stream-10000-100", "take": 2}));
    assert_eq!(cancelled["after"][0]["error"], "cancelled", "{cancelled}");
    reply(&host, &json!({"do": "stream", "model": "stream-10000-100", "take": 2}));
    // Also where nothing more comes by itself, and the agent keeps its handle.
    reply(&host, &json!({"do": "open", "endpoint": "silent"}));
    reply(&host, &json!({"do": "next"}));
    reply(&host, &json!({"do": "stop"}));
    wait_until("the server sees all ends", || {
        let ended = |request: &Record| request.end == End::HungUp;
        model.requests().iter().filter(|request| ended(request)).count() == 3
    });
    host.finish();
}

#[test]
fn a_fifth_answer_under_way_is_refused_and_an_ended_one_makes_room() {
    let model = model_server();
    let host = host_with(&model, "");
    let opened = reply(&host, &json!({"do": "open", "count": 5, "model": "stream-1000-100"}));
    let opened = opened["open"].as_array().unwrap();
    assert!(opened[..4].iter().all(Value::is_u64), "{opened:?}");
    assert_eq!(opened[4]["error"], "unavailable", "{opened:?}");
    assert!(opened[4]["message"].as_str().unwrap().contains("under way"), "{opened:?}");
    reply(&host, &json!({"do": "stop", "number": 0}));
    wait_until("there is room again", || {
        reply(&host, &json!({"do": "open", "model": "stream-1-0"}))["open"][0].is_u64()
    });
    host.finish();
}

#[test]
fn a_key_that_is_revoked_in_mid_stream_harms_no_call_under_way_and_the_next_has_the_new_one() {
    const FRESH: &str = "sk-fresh-hush";
    let model = model_server();
    let host = host_with(&model, "");
    reply(&host, &json!({"do": "open", "model": "stream-20-100"}));
    let first = reply(&host, &json!({"do": "next"}));
    assert!(first["textBytes"].as_u64().unwrap() > 0, "{first}");
    model.accept_key(Some(FRESH));
    let rejected = reply(&host, &json!({"do": "complete"}));
    assert_eq!((&rejected["error"], &rejected["status"]), (&json!("rejected"), &json!(401)));
    assert!(!rejected.to_string().contains("hush"), "{rejected}");
    host.client().sync_config(json!({"model.api-key": FRESH})).expect(200);
    assert_eq!(reply(&host, &json!({"do": "complete"}))["finish"], "stop");
    let rest = reply(&host, &json!({"do": "next", "take": 1000}));
    assert_eq!(rest["end"]["end"], "stop", "{rest}");
    host.finish();
}

#[test]
fn a_model_that_takes_longer_than_a_host_call_may_is_waited_for() {
    let model = model_server();
    let host = host_with(&model, "host_call_ms = 100");
    let answer = reply(&host, &json!({"do": "complete", "model": "slow-600", "say": "hello"}));
    assert_eq!(answer["text"], "Hello. I answer from a script.", "{answer}");
    host.finish();
}

#[test]
fn a_model_that_takes_longer_than_the_turn_fails_the_call_and_not_the_agent() {
    let model = model_server();
    let host = host_with(&model, "wall_ms = 1500");
    let late = reply(&host, &json!({"do": "complete", "model": "slow-20000"}));
    assert_eq!(late["error"], "timeout", "{late}");
    let late = reply(&host, &json!({"do": "complete", "model": "slow-20000", "timeoutMs": 50}));
    assert_eq!(late["error"], "timeout", "{late}");
    assert_eq!(host.client().status("models").incarnation.0, 1);
    host.finish();
}

#[test]
fn ten_megabytes_of_arguments_are_a_limit_of_the_agent_and_of_nobody_else() {
    let model = model_server();
    let host = host_with(&model, "memory_limit_mb = 16\nrestart = \"temporary\"");
    host.client().start("other", "models");
    host.client().send("models", &json!({"do": "arguments", "bytes": 10 << 20}).to_string());
    let exit = host.wait_for_line("its end", |line| line["event"] == "agent.exit");
    assert_eq!((&exit["agentId"], &exit["reason"]), (&json!("models"), &json!("memory_limit")));
    let small = json!({"do": "arguments", "bytes": 100_000}).to_string();
    let reply = host.client().ask("other", &small);
    assert!(reply.contains("\"finish\":\"stop\""), "{reply}");
    host.finish();
}

#[test]
fn an_endpoint_of_the_agents_own_has_its_own_key_and_no_other_has_it() {
    const OWN: &str = "sk-own-hush";
    let (configured, own) = (model_server(), model_server());
    configured.accept_key(Some(KEY));
    own.accept_key(Some(OWN));
    let role = format!("models = [\"default\"]\nhttp_allow = [\"{}\"]", own.address());
    let host = builder(&role).model(&configured, KEY).start();
    let values = json!({"model.base-url": own.base_url(), "model.name": "mine"});
    host.client().start_with("models", "models", json!({"envVars": values})).expect(201);
    // Named or not, the first endpoint is the agent's own, and the configured key stays at home.
    for order in [json!({"do": "complete"}), json!({"do": "complete", "endpoint": "default"})] {
        assert_eq!(reply(&host, &order)["status"], 401);
    }
    assert_eq!((own.requests().len(), configured.requests().len()), (2, 0));
    assert!(own.requests().iter().all(|request| request.header("authorization").is_none()));
    host.client().sync_config(json!({"model.api-key": OWN})).expect(200);
    for order in [json!({"do": "complete"}), json!({"do": "complete", "endpoint": "default"})] {
        assert_eq!(reply(&host, &order)["finish"], "stop");
    }
    assert_eq!(
        (own.requests().last().unwrap().body["model"].as_str(), configured.asked()),
        (Some("mine"), 0)
    );
    // Elsewhere than its role may go it does not.
    host.client().sync_config(json!({"model.base-url": configured.base_url()})).expect(200);
    let denied = reply(&host, &json!({"do": "complete"}));
    assert_eq!(denied["error"], "denied", "{denied}");
    assert!(denied["message"].as_str().unwrap().contains("http_allow"), "{denied}");
    assert_eq!(configured.asked(), 0);
    host.finish();
}
