//! Keys that change while the host runs: each is one endpoint's, and goes nowhere else.

use super::{KEY, builder, host_with, reply};
use harness::{ModelServer, json, model_server};

const FRESH: &str = "sk-fresh-hush";

/// The authorizations that a server got.
fn got(server: &ModelServer) -> Vec<String> {
    let of =
        |request: &harness::Record| request.header("authorization").unwrap_or("none").to_owned();
    server.requests().iter().map(of).collect()
}

#[test]
fn a_key_of_the_town_is_for_one_endpoint_and_no_other_provider_gets_it() {
    let (first, foreign) = (model_server(), model_server());
    let more =
        format!("[models.foreign]\nbase_url = {:?}\napi_key = {KEY:?}\n", foreign.base_url());
    let host = builder("models = [\"default\", \"foreign\"]")
        .role("abroad", "models", "models = [\"foreign\"]")
        .model(&first, KEY)
        .toml(&more)
        .start();
    host.client().start("models", "models");
    host.client().start("abroad", "abroad");
    let ask = |agent: &str, endpoint: &str| {
        let order = json!({"do": "complete", "endpoint": endpoint}).to_string();
        let reply = host.client().ask(agent, &order);
        assert!(reply.contains("\"finish\":\"stop\""), "{reply}");
    };
    host.client().sync_config(json!({"model.api-key": FRESH})).expect(200);
    ask("models", "default");
    ask("models", "foreign");
    ask("abroad", "foreign");
    ask("abroad", "foreign");
    let (fresh, old) = (format!("Bearer {FRESH}"), format!("Bearer {KEY}"));
    assert_eq!((got(&first), got(&foreign)), (vec![fresh.clone()], vec![old.clone(); 3]));
    // Whoever meant the other one is told once.
    let told = host.events_of("abroad", "agent.log");
    let told: Vec<_> = told.iter().filter_map(|line| line["message"].as_str()).collect();
    let told: Vec<_> = told.iter().filter(|text| text.contains("model.foreign.api-key")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(!told[0].contains("hush"), "{told:?}");
    // By its name each endpoint has its own, whoever lists it first.
    let values = json!({"model.api-key": "sk-less-hush", "model.default.api-key": FRESH, "model.foreign.api-key": "sk-abroad-hush"});
    host.client().sync_config(values).expect(200);
    ask("models", "default");
    ask("models", "foreign");
    ask("abroad", "foreign");
    assert_eq!(got(&first)[1..], [fresh]);
    assert_eq!(got(&foreign)[3..], ["Bearer sk-abroad-hush", "Bearer sk-abroad-hush"]);
    // Without them the configured ones apply again.
    host.client().sync_config(json!({"model.api-key": null, "model.default.api-key": null, "model.foreign.api-key": null})).expect(200);
    ask("models", "foreign");
    ask("models", "default");
    assert_eq!((got(&first).last(), got(&foreign).last()), (Some(&old), Some(&old)));
    host.finish();
}

#[test]
fn keys_by_the_names_of_endpoints_are_hidden_from_agents() {
    let model = model_server();
    let host = host_with(&model, "");
    host.client().sync_config(json!({"model.main.api-key": FRESH})).expect(200);
    let found = reply(&host, &json!({"do": "secrets"}));
    assert!(found["config"]["model.main.api-key"].is_null(), "{found}");
    assert!(!found.to_string().contains("hush"), "{found}");
    host.finish();
}
