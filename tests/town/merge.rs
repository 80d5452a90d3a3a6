//! What the store and the town say of an agent at boot, row by row.

use harness::{HostBuilder, json, wait_until};
use town_server::{Call, Fault, Which};

use super::beside::{
    builder, check, kept, kill, killed, registry_is, runs, settle, state_of, town,
};

/// Is restarted at once, and is quarantined at the second crash.
const LOOPER: &str = "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1\n\
    restart_max = 1\nrestart_window_ms = 3600000";

fn with_loopers(builder: HostBuilder) -> HostBuilder {
    builder.role("looper", "puppet", LOOPER)
}

#[test]
fn every_row_of_the_table() {
    let town = town();
    let own = "id = \"own\"\nrole = \"echo\"";
    let mut host = with_loopers(builder(&town)).agent(own).start().ready();
    let client = host.client();
    for agent in ["kept", "changed", "taken-out", "stopped-unheard", "stopped-heard"] {
        client.start(agent, "echo");
    }
    client.start("failed", "puppet");
    client.send_wait("failed", "panic").expect(502);
    client.reaches("failed", "failed");
    for agent in ["looper-same", "looper-changed"] {
        client.start(agent, "looper");
        for _ in 0..2 {
            wait_until("it takes messages", || client.send(agent, "panic").status == 200);
        }
        client.reaches(agent, "quarantined");
    }
    client.stop("stopped-heard").expect(200);
    let known = ["changed", "kept", "own", "stopped-unheard", "taken-out"];
    let lists = |agents: &[&str]| {
        let listed = kept(&town, |kept| kept.agents());
        agents.iter().all(|agent| listed.iter().any(|listed| listed == agent))
    };
    wait_until("the town knows of them", || lists(&known) && !lists(&["stopped-heard"]));
    settle(&town, &host, ["settled-1", "settled-2"]);
    // It hears of this one, and nobody hears that it did.
    town.misbehave(Call::PostRegistry, Fault::HalfBody);
    client.start("half-heard", "echo");
    wait_until("the town knows of it", || lists(&["half-heard"]));
    // From here on it hears of nothing.
    town.go_down();
    town.behave(Which::All);
    client.stop("half-heard").expect(200);
    client.stop("stopped-unheard").expect(200);
    client.start("never-heard", "echo");
    kill(&mut host);

    kept(&town, |kept| {
        kept.list(json!({"agentId": "new", "role": "echo", "name": "Nan"}));
        kept.list(json!({"agentId": "failed", "role": "puppet"}));
        kept.list(json!({"agentId": "changed", "role": "echo", "name": "Another"}));
        kept.unlist("taken-out");
        kept.list(json!({"agentId": "stopped-heard", "role": "echo"}));
        kept.list(json!({"agentId": "looper-same", "role": "looper"}));
        kept.list(json!({"agentId": "looper-changed", "role": "looper", "name": "Another"}));
        assert!(
            kept.agents().contains(&"stopped-unheard".to_owned()),
            "it never heard of the stop"
        );
        assert!(!kept.agents().contains(&"never-heard".to_owned()));
    });
    town.come_up().expect("listen again");
    let mut second = host.restart().ready();
    let client = second.client();
    let is = |agent: &str| state_of(&second, agent).unwrap_or_else(|| "absent".to_owned());
    assert_eq!(is("new"), "running", "listed, not in the store");
    assert_eq!(client.status("new").name, "Nan");
    assert_eq!(is("failed"), "running", "listed, failed in the store");
    assert_eq!(is("kept"), "running", "listed and running");
    assert_eq!(is("changed"), "running", "listed and running");
    assert_eq!(client.status("changed").name, "Another", "the town's request wins");
    assert_ne!(is("taken-out"), "running", "the town knew it and took it out");
    assert_eq!(is("never-heard"), "running", "a start that the town never heard of");
    assert_ne!(is("stopped-unheard"), "running", "a stop that the town never heard of");
    assert_eq!(is("stopped-heard"), "running", "the town wants it again");
    assert_ne!(is("half-heard"), "running", "the same, and a start that it may have heard of");
    assert_eq!(is("looper-same"), "quarantined", "the same request");
    assert_eq!(is("looper-changed"), "running", "another request is a new chance");
    assert_eq!(is("own"), "running", "the configuration's own");
    let up = [
        "changed",
        "failed",
        "kept",
        "looper-changed",
        "never-heard",
        "new",
        "own",
        "settled-1",
        "settled-2",
        "stopped-heard",
    ];
    registry_is(&town, &up);
    settle(&town, &second, ["settled-3", "settled-4"]);

    // What was decided is in the store: a run without a town knows it.
    kill(&mut second);
    town.go_down();
    let third = second.restart().ready();
    for agent in up {
        assert!(runs(&third, agent), "{agent} does not run any more");
    }
    assert!(!runs(&third, "taken-out"), "it was marked stopped");
    assert!(!runs(&third, "stopped-unheard") && !runs(&third, "half-heard"));
    third.finish();
    check(&town);
}

#[test]
fn what_came_and_went_while_the_town_was_down_is_started_when_the_town_wants_it() {
    let town = town();
    let mut host = builder(&town).start().ready();
    settle(&town, &host, ["settled-1", "settled-2"]);
    town.go_down();
    host.client().start("come-and-gone", "echo");
    host.wait_for_line("that the town did not hear of it", |line| {
        line["event"] == "town.call_failed" && line["call"] == "registry_post"
    });
    host.client().stop("come-and-gone").expect(200);
    kill(&mut host);
    kept(&town, |kept| kept.list(json!({"agentId": "come-and-gone", "role": "echo"})));
    town.come_up().expect("listen again");
    let second = host.restart().ready();
    assert!(runs(&second, "come-and-gone"), "stopped, and the town wants it of its own will");
    second.finish();
    check(&town);
}

#[test]
fn an_agent_of_the_configuration_that_the_town_changed_is_as_the_town_says() {
    let town = town();
    let own = "id = \"own\"\nrole = \"echo\"\nname = \"Oz\"";
    let mut host = builder(&town).agent(own).start().ready();
    assert_eq!(host.client().status("own").name, "Oz");
    registry_is(&town, &["own"]);
    settle(&town, &host, ["settled-1", "settled-2"]);
    kept(&town, |kept| kept.list(json!({"agentId": "own", "role": "echo", "name": "Una"})));
    let second = killed(&mut host);
    assert_eq!(second.client().status("own").name, "Una");
    assert_eq!(second.events_of("own", "agent.start").len(), 1, "once, not twice");
    second.finish();
    check(&town);
}

#[test]
fn an_agent_that_the_town_took_out_can_be_started_again() {
    let town = town();
    let mut host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    registry_is(&town, &["ann"]);
    settle(&town, &host, ["settled-1", "settled-2"]);
    kept(&town, |kept| kept.unlist("ann"));
    let second = killed(&mut host);
    assert!(!runs(&second, "ann"));
    second.client().start("ann", "echo");
    assert_eq!(second.client().ask("ann", "hi"), "hi");
    registry_is(&town, &["ann", "settled-1", "settled-2"]);
    second.finish();
    check(&town);
}
