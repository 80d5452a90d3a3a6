//! Calls about agents that boot has not restored yet. None is answered as if there were no such agent.

use std::thread;
use std::time::{Duration, Instant};

use bulkhead_api::StopAnswer;
use harness::client::Client;
use harness::{Answer, Host, json};
use town_server::{Call, Fault, TownServer};

use super::beside::{builder, check, kept, kill, killed, registry_is, runs, settle, town};

/// How long the town lets the boot wait: less than a call waits for an agent.
const A_WHILE: Duration = Duration::from_millis(1500);

/// How long a call waits for an agent.
const PATIENCE: Duration = Duration::from_secs(5);

/// A host in its boot, whose agent `ann` an earlier run left and whose town wants `bob` as well. The town
/// does this to those that ask for its registry.
fn in_boot(fault: Fault) -> (TownServer, Host) {
    let town = town();
    let mut host = builder(&town).toml("[limits]\nhydration_ms = 60000").start().ready();
    host.client().start("ann", "puppet");
    registry_is(&town, &["ann"]);
    settle(&town, &host, ["ann-1", "ann-2"]);
    kill(&mut host);
    kept(&town, |kept| kept.list(json!({"agentId": "bob", "role": "puppet"})));
    town.misbehave(Call::Registry, fault);
    let host = host.restart();
    (town, host)
}

type Ask = (&'static str, fn(&Client, &str) -> Answer);

/// Every call about one agent that says when there is none, but a stop.
const CALLS: [Ask; 7] = [
    ("message", |client, id| client.send(id, "hi")),
    ("message with a wait", |client, id| client.send_wait(id, "hi")),
    ("nudge", |client, id| client.nudge(id, "n", "hi")),
    ("status", |client, id| client.get(&format!("/agents/{id}/status"))),
    ("memory", |client, id| client.get(&format!("/agents/{id}/memory"))),
    ("model", |client, id| client.set_model(id, "small")),
    ("system prompt", |client, id| client.set_system_prompt(id, "be brief")),
];

/// Asks all of that at once.
fn ask(client: &Client, id: &str) -> Vec<(&'static str, Answer)> {
    thread::scope(|scope| {
        let calls: Vec<_> = CALLS
            .map(|(name, call)| scope.spawn(move || (name, call(client, id))))
            .into_iter()
            .collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    })
}

#[test]
fn they_wait_for_an_agent_that_comes_back_and_for_one_that_the_town_wants() {
    let (town, host) = in_boot(Fault::Slow(A_WHILE));
    let client = host.client();
    assert_ne!(client.get("/readyz").status, 200, "the boot is over already");
    thread::scope(|scope| {
        for id in ["ann", "bob"] {
            scope.spawn(move || {
                for (name, answer) in ask(client, id) {
                    assert_eq!(answer.status, 200, "{name} of {id}: {}", answer.text);
                }
            });
        }
        for (name, answer) in ask(client, "ghost") {
            assert_eq!(answer.status, 404, "{name} of ghost: {}", answer.text);
        }
    });
    let host = host.ready();
    assert_eq!(host.client().ask("ann", "hi"), "hi");
    host.finish();
    check(&town);
}

#[test]
fn they_are_503_when_boot_takes_longer() {
    let (town, host) = in_boot(Fault::Hang);
    let asked = Instant::now();
    let answers = [ask(host.client(), "ann"), ask(host.client(), "ghost")].concat();
    let took = asked.elapsed();
    assert!(took >= 2 * PATIENCE && took < 4 * PATIENCE, "they took {took:?}");
    for (name, answer) in answers {
        assert_eq!(answer.retry_after, Some(1), "{name}: {}", answer.text);
        let error = answer.expect_error(503, &["not-back-yet", "bringing agents back"]);
        assert_eq!(error.status, Some(503), "{name}: {error:?}");
    }
    town.behave(Call::Registry);
    let host = host.ready();
    assert_eq!(host.client().ask("ann", "hi"), "hi");
    assert_eq!(host.client().send("ghost", "hi").status, 404);
    host.finish();
    check(&town);
}

#[test]
fn a_stop_reaches_an_agent_that_boot_brings_back() {
    let (town, host) = in_boot(Fault::Slow(A_WHILE));
    let client = host.client();
    thread::scope(|scope| {
        let stop = |id| scope.spawn(move || client.stop(id));
        let [ann, bob, ghost] = ["ann", "bob", "ghost"].map(stop);
        for stop in [ann, bob] {
            let answer = stop.join().expect("an answer");
            assert!(answer.read::<StopAnswer>(200).stopped, "{}", answer.text);
        }
        assert_eq!(ghost.join().expect("an answer").status, 404);
    });
    let mut host = host.ready();
    registry_is(&town, &["ann-1", "ann-2"]);
    assert!(!runs(&host, "ann") && !runs(&host, "bob"));
    // A stop that was answered is kept.
    let host = killed(&mut host);
    assert!(!runs(&host, "ann") && !runs(&host, "bob"));
    host.finish();
    check(&town);
}
