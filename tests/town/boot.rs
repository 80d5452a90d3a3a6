//! What the town lists runs after boot, and a town that cannot be asked costs no agent.

use std::time::Duration;

use harness::{Host, Value, json, wait_until};
use town_server::{Call, Fault, TownServer, Which};

use super::beside::{
    HEARTBEAT_MS, builder, check, hydration, kept, kill, killed, registry_is, runs, settle,
    state_of, town,
};

/// Readiness waits this long for a town that does not answer, and for agents.
const HYDRATION_MS: u64 = 1500;

/// What a busy machine adds.
const BUSY_MS: u64 = 2500;

#[test]
fn what_the_town_lists_runs() {
    let town = town();
    kept(&town, |kept| {
        kept.list(json!({"agentId": "ann", "role": "echo", "name": "Ann", "rigId": "orchard"}));
        kept.list(json!({"agentId": "bob", "role": "puppet", "model": "small"}));
    });
    let host = builder(&town).start().ready();
    let ann = host.client().status("ann");
    assert_eq!((&*ann.status, &*ann.name), ("running", "Ann"), "{ann:?}");
    assert_eq!(ann.rig_id.as_deref(), Some("orchard"), "{ann:?}");
    assert_eq!(host.client().status("bob").model.as_deref(), Some("small"));
    assert_eq!(host.client().ask("bob", "hi"), "hi");
    wait_until("the town heard of both", || kept(&town, |kept| kept.heartbeats.len()) == 2);
    registry_is(&town, &["ann", "bob"]);
    host.finish();
    check(&town);
}

#[test]
fn an_environment_comes_with_its_values_and_goes_without_them() {
    let town = town();
    let mut host = builder(&town).start().ready();
    let start = json!({"envVars": {"COLOUR": "vermilion", "SHAPE": "icosahedron"}});
    host.client().start_with("ann", "puppet", start).expect(201);
    registry_is(&town, &["ann"]);
    let entry = kept(&town, |kept| kept.registry[0].clone());
    assert_eq!(entry["env"], json!(["COLOUR", "SHAPE"]), "{entry}");
    assert!(!entry.to_string().contains("vermilion"), "{entry}");
    assert_eq!(entry["request"]["role"], "puppet", "{entry}");
    // Names alone: the values are those that this host has.
    let second = killed(&mut host);
    assert_eq!(second.client().ask("ann", "config COLOUR"), "vermilion");
    second.finish();
    // A host that has none gets them from the town, and what the town wants goes before.
    kept(&town, |kept| {
        kept.know("ann", "COLOUR", "ultramarine");
        kept.know("ann", "SHAPE", "sphere");
    });
    let third = builder(&town).start().ready();
    assert_eq!(third.client().ask("ann", "config COLOUR"), "ultramarine");
    assert_eq!(third.client().ask("ann", "config SHAPE"), "sphere");
    third.finish();
    check(&town);
}

#[test]
fn a_value_that_nobody_knows_is_logged_and_the_agent_runs() {
    let town = town();
    kept(&town, |kept| {
        kept.list(json!({"agentId": "ann", "role": "puppet"}));
        kept.registry[0]["env"] = json!(["LOST_NAME"]);
    });
    let host = builder(&town).start().ready();
    assert_eq!(host.client().ask("ann", "hi"), "hi");
    host.wait_for_line("that a value is missing", |line| {
        line["level"] == "warn" && line.to_string().contains("LOST_NAME")
    });
    host.finish();
    check(&town);
}

#[test]
fn an_entry_that_is_wrong_is_logged_and_costs_no_other() {
    let town = town();
    kept(&town, |kept| {
        kept.list(json!({"agentId": "ann", "role": "echo"}));
        kept.list(json!({"agentId": "no such name!", "role": "echo"}));
        kept.list(json!({"agentId": "bob", "role": "nobody"}));
        kept.list(json!({"agentId": "cyd", "role": 7}));
        kept.registry.push(json!({"agentId": "dan"}));
        kept.registry.push(json!("what?"));
    });
    let before = kept(&town, |kept| kept.registry.clone());
    let host = builder(&town).start().ready();
    wait_until("the town is notified", || kept(&town, |kept| kept.registry_posts) > 0);
    let after = kept(&town, |kept| kept.registry.clone());
    for unreadable in [1, 3, 4, 5] {
        assert!(after.contains(&before[unreadable]), "{} is gone: {after:?}", before[unreadable]);
    }
    assert_eq!(after.len(), before.len(), "{after:?}");
    assert!(runs(&host, "ann"));
    for wrong in ["bob", "cyd", "dan"] {
        assert!(!runs(&host, wrong), "{wrong} runs");
        host.wait_for_line(&format!("what is wrong with {wrong}"), |line| {
            line["level"] != "debug" && line.to_string().contains(wrong)
        });
    }
    // A start takes the row's place.
    host.client().start("cyd", "echo");
    wait_until("the town has the new row", || {
        let rows = kept(&town, |kept| kept.registry.clone());
        let role = |row: &&Value| row["agentId"] == "cyd" && row["request"]["role"] == "echo";
        rows.len() == before.len() && rows.iter().filter(role).count() == 1
    });
    host.finish();
}

/// A host whose agent `here` the town knew, and the town that meanwhile wants `ghost` instead.
fn changed_its_mind() -> (TownServer, Host) {
    let town = town();
    let limits = format!("[limits]\nhydration_ms = {HYDRATION_MS}");
    let mut host = builder(&town).toml(&limits).start().ready();
    host.client().start("here", "echo");
    registry_is(&town, &["here"]);
    settle(&town, &host, ["here-1", "here-2"]);
    registry_is(&town, &["here", "here-1", "here-2"]);
    kill(&mut host);
    kept(&town, |kept| {
        kept.unlist("here");
        kept.list(json!({"agentId": "ghost", "role": "echo"}));
    });
    (town, host)
}

/// The store alone decides, in time; and when the town is back, it is notified, and changes nothing.
fn comes_up_alone(misbehave: impl FnOnce(&TownServer)) {
    let (town, mut host) = changed_its_mind();
    misbehave(&town);
    let second = host.restart().ready();
    let report = hydration(&second);
    let took = report["durationMs"].as_u64().expect("a time");
    assert!(took <= HYDRATION_MS + BUSY_MS, "readiness took {took} ms: {report}");
    // Readiness waits for so long at most.
    second.client().reaches("here", "running");
    assert_eq!(state_of(&second, "ghost"), None);
    second.wait_for_line("that the town was not asked", |line| {
        ["town.call_failed", "town.unreachable"].iter().any(|event| line["event"] == *event)
    });
    town.come_up().expect("listen again");
    town.behave(Which::All);
    // What it lists and nobody here knows of is not taken from it.
    registry_is(&town, &["ghost", "here", "here-1", "here-2"]);
    // As long as anything late could take.
    let beats = town.calls_of(Call::ContainerHeartbeat).len();
    wait_until("the town is notified for a while", || {
        town.calls_of(Call::ContainerHeartbeat).len() > beats + 5
    });
    assert!(runs(&second, "here"), "nothing is stopped by a late answer");
    assert_eq!(state_of(&second, "ghost"), None, "nothing is started by a late answer");
    assert_eq!(second.events_named("agent.start").len(), 3);
    second.finish();
    check(&town);
}

#[test]
fn a_town_that_is_down_at_boot() {
    comes_up_alone(TownServer::go_down);
}

/// One test for each way to misbehave while a host boots.
macro_rules! at_boot {
    ($($name:ident: $which:expr, $fault:expr;)*) => {$(
        #[test]
        fn $name() {
            comes_up_alone(|town| town.misbehave($which, $fault));
        }
    )*};
}

at_boot! {
    a_town_that_hangs_at_boot: Which::All, Fault::Hang;
    a_town_that_is_slow_at_boot: Which::All, Fault::Slow(Duration::from_secs(20));
    a_registry_that_hangs_at_boot: Call::Registry, Fault::Hang;
    a_town_that_refuses_every_token_at_boot: Which::All, Fault::Status(401);
    a_town_that_fails_at_boot: Which::All, Fault::Status(500);
    a_town_that_is_overloaded_at_boot: Call::Registry, Fault::Status(503);
    a_town_that_closes_in_the_head_at_boot: Which::All, Fault::HalfHead;
    a_town_that_closes_in_the_body_at_boot: Call::Registry, Fault::HalfBody;
    a_town_that_speaks_no_http_at_boot: Which::All, Fault::NotHttp;
    a_sign_in_page_at_boot: Which::All, Fault::NotJson;
    a_registry_of_another_shape_at_boot: Which::All, Fault::WrongShape;
    a_registry_without_an_end_at_boot: Call::Registry, Fault::TooLarge;
    a_town_that_resets_at_boot: Which::All, Fault::Reset;
}

#[test]
fn a_town_that_is_a_little_slow_is_waited_for() {
    let (town, mut host) = changed_its_mind();
    town.misbehave(Call::Registry, Fault::Slow(Duration::from_millis(HEARTBEAT_MS)));
    let second = host.restart().ready();
    assert!(runs(&second, "ghost"));
    assert!(!runs(&second, "here"));
    second.finish();
    check(&town);
}

#[test]
fn one_bad_answer_is_asked_for_again() {
    for fault in [Fault::Status(503), Fault::Reset, Fault::HalfBody, Fault::Status(401)] {
        let (town, mut host) = changed_its_mind();
        town.misbehave_times(Call::Registry, fault, 1);
        let second = host.restart().ready();
        assert!(runs(&second, "ghost"), "after {fault}");
        second.finish();
        check(&town);
    }
}
