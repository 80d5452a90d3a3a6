//! No secret goes to the town but the token in its header, and none into the log.

use std::time::Duration;

use harness::{Value, json, wait_until};
use rustix::process::Signal;
use town_server::{Call, Fault, Which};

use super::beside::{TOWN, builder, check, kept, registry_is, town};

/// Values of environment variables, one that came with a start and one that the town sent.
const STARTED: &str = "vermilion-4711";
const SENT: &str = "ultramarine-4712";

#[test]
fn no_secret_is_shown_whatever_the_town_does() {
    let town = town();
    for secret in [STARTED, SENT, &town.token(TOWN)] {
        town.watch_for(secret);
    }
    kept(&town, |kept| {
        kept.list(json!({"agentId": "ann", "role": "remembers"}));
        kept.registry[0]["env"] = json!(["API_KEY"]);
        kept.know("ann", "API_KEY", SENT);
    });
    let mut host = builder(&town).toml("[log]\nlevel = \"trace\"").start().ready();
    let start =
        json!({"envVars": {"API_KEY": STARTED}, "rigId": "orchard", "ifRunning": "restart"});
    host.client().start_with("bob", "puppet", start.clone()).expect(201);
    registry_is(&town, &["ann", "bob"]);
    let mut faults = Fault::each(Duration::from_millis(50));
    faults.retain(|fault| !matches!(fault, Fault::Hang | Fault::TooLarge));
    for fault in faults {
        town.misbehave(Which::All, fault);
        let before = town.calls().len();
        for agent in ["ann", "bob"] {
            host.client().ask(agent, "hi");
        }
        host.client().start_with("bob", "puppet", start.clone()).expect(201);
        wait_until(&format!("calls meet {fault}"), || town.calls().len() > before + 3);
        town.behave(Which::All);
        // A refresh whose answer was lost leaves the host without a good token.
        let token = town.token(TOWN);
        town.watch_for(&token);
        host.client().post("/refresh-token", &json!({"token": token})).expect(200);
    }
    for path in ["/agents", "/agents/bob/status", "/health", "/metrics", "/crashes"] {
        let text = host.client().get(path).text;
        assert!(!text.contains(STARTED) && !text.contains(SENT), "{path}: {text}");
    }
    host.signal(Signal::TERM);
    host.wait();
    let said =
        host.lines().iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + &host.stderr();
    let tokens = kept(&town, |kept| kept.tokens.all().map(str::to_owned).collect::<Vec<_>>());
    for secret in tokens.iter().map(String::as_str).chain([STARTED, SENT]) {
        assert!(!said.contains(secret), "a secret stands in the log");
    }
    let entries = kept(&town, |kept| kept.registry.clone());
    for entry in &entries {
        assert_eq!(entry["env"], json!(["API_KEY"]), "{entry}");
    }
    assert!(!town.calls_of(Call::PostRegistry).is_empty());
    check(&town);
}
