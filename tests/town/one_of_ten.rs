//! A town that misbehaves for one agent of ten: the other nine are reported, and get, everything.

use harness::{Host, Value, json, wait_until};
use town_server::{Call, Fault, TownServer};

use super::beside::{builder, check, kept, town};

/// The one for whom nothing works. Its name comes first wherever names are sorted.
const BAD: &str = "a-bad-one";

/// The other nine.
fn good() -> Vec<String> {
    (1..10).map(|number| format!("good-{number}")).collect()
}

fn start_all(host: &Host, role: &str) {
    host.client().start(BAD, role);
    for agent in good() {
        host.client().start(&agent, role);
    }
}

fn calls_for(town: &TownServer, call: Call, agent: &str) -> usize {
    town.calls_where(|record| record.call == call && record.agent.as_deref() == Some(agent)).len()
}

/// What one agent's calls can meet, with a town that answers everybody else.
fn faults() -> [Fault; 6] {
    [
        Fault::Status(500),
        Fault::Status(404),
        Fault::NotJson,
        Fault::HalfBody,
        Fault::Reset,
        Fault::Hang,
    ]
}

#[test]
fn a_town_that_misbehaves_for_one_agent_hears_of_the_ends_of_all_others() {
    for fault in faults() {
        let town = town();
        let host = builder(&town).start().ready();
        town.misbehave_for(BAD, Call::Completed, fault);
        start_all(&host, "puppet");
        host.client().send_wait(BAD, "done").expect(200);
        wait_until("its end was tried", || calls_for(&town, Call::Completed, BAD) > 0);
        for agent in good() {
            host.client().send_wait(&agent, "done").expect(200);
        }
        wait_until(&format!("the ends of the others are there beside {fault}"), || {
            let reported = kept(&town, |kept| {
                kept.completed.iter().map(|(agent, _)| agent.clone()).collect::<Vec<_>>()
            });
            good().iter().all(|agent| reported.contains(agent))
        });
        host.finish();
        check(&town);
    }
}

#[test]
fn a_town_that_misbehaves_for_one_agent_hears_the_events_of_all_others() {
    for fault in faults() {
        let town = town();
        let host = builder(&town).start().ready();
        town.misbehave_for(BAD, Call::AgentEvents, fault);
        start_all(&host, "echo");
        host.client().ask(BAD, "hi");
        wait_until("its events were tried", || calls_for(&town, Call::AgentEvents, BAD) > 0);
        for agent in good() {
            host.client().ask(&agent, "hi");
        }
        let here =
            |agent: &str| host.client().events(agent, 0)["events"].as_array().map_or(0, Vec::len);
        let there = |agent: &str| {
            kept(&town, |kept| {
                let of_agent = |event: &&Value| event["agent_id"] == agent;
                kept.events.iter().filter(of_agent).count()
            })
        };
        wait_until(&format!("the events of the others are there beside {fault}"), || {
            good().iter().all(|agent| there(agent) > 0 && there(agent) == here(agent))
        });
        host.finish();
        check(&town);
    }
}

#[test]
fn a_town_that_misbehaves_for_one_agent_has_its_nudges_for_all_others_delivered() {
    for fault in faults() {
        let town = town();
        let host = builder(&town).start().ready();
        town.misbehave_for(BAD, Call::PendingNudges, fault);
        start_all(&host, "echo");
        wait_until("it was asked for", || calls_for(&town, Call::PendingNudges, BAD) > 0);
        for agent in good() {
            kept(&town, |kept| kept.nudge(&format!("n-{agent}"), &agent, "wake up"));
            host.client().ask(&agent, "hi");
        }
        wait_until(&format!("the nudges of the others arrive beside {fault}"), || {
            let delivered =
                |agent: &String| kept(&town, |kept| kept.nudges[&format!("n-{agent}")].delivered);
            good().iter().all(|agent| delivered(agent) > 0)
        });
        host.finish();
        check(&town);
    }
}

#[test]
fn a_town_that_misbehaves_for_one_agent_is_given_up_for_it_and_that_is_counted() {
    let town = town();
    let host = builder(&town).toml("[town]\ngive_up_ms = 1000").start().ready();
    town.misbehave_for(BAD, Call::Completed, Fault::Status(500));
    start_all(&host, "puppet");
    host.client().send_wait(BAD, "done").expect(200);
    let line = host.wait_for_line("it is given up", |line| line["event"] == "town.call_given_up");
    assert_eq!((&line["call"], &line["agentId"]), (&json!("completed"), &json!(BAD)), "{line}");
    assert!(line["attempts"].as_u64().is_some_and(|attempts| attempts >= 2), "{line}");
    let metrics = host.client().get("/metrics").text;
    assert!(metrics.contains("bulkhead_town_given_up_total{call=\"completed\"} 1"), "{metrics}");
    let tried = calls_for(&town, Call::Completed, BAD);
    host.client().send_wait("good-1", "done").expect(200);
    wait_until("another end is reported", || kept(&town, |kept| kept.completed.seen()) == 1);
    assert_eq!(calls_for(&town, Call::Completed, BAD), tried, "no more of it");
    host.finish();
    check(&town);
}

#[test]
fn an_optional_call_that_is_refused_is_not_made_again_and_mints_no_token() {
    for status in [401, 403, 404] {
        let town = town();
        let host = builder(&town).start().ready();
        town.misbehave(Call::PendingNudges, Fault::Status(status));
        start_all(&host, "echo");
        let line = host.wait_for_line("it is switched off", |line| {
            line["event"] == "town.call_switched_off" && line["agentId"].is_null()
        });
        assert_eq!(
            (&line["call"], &line["status"]),
            (&json!("pending_nudges"), &json!(status)),
            "{line}"
        );
        // What was under way when it was switched off is through when heartbeats have come and gone.
        let beats = || town.calls_of(Call::ContainerHeartbeat).len();
        let settled = beats() + 10;
        wait_until("heartbeats", || beats() >= settled);
        let before = town.calls_of(Call::PendingNudges).len();
        for agent in good() {
            host.client().ask(&agent, "hi");
        }
        let settled = beats() + 5;
        wait_until("heartbeats", || beats() >= settled);
        assert_eq!(town.calls_of(Call::PendingNudges).len(), before, "after {status}");
        assert_eq!(town.calls_of(Call::RefreshToken).len(), 0, "after {status}");
        let lines = host.finish();
        let said = lines
            .iter()
            .filter(|line| line["event"] == "town.call_switched_off" && line["agentId"].is_null());
        assert_eq!(said.count(), 1);
        check(&town);
    }
}
