//! Two containers of one town, the older sending its shutdown notice late.

use std::cell::Cell;
use std::time::{Duration, Instant};

use harness::{Host, json, wait_until};
use rustix::process::Signal;
use town_server::{Call, Record, TownServer, Which};

use super::beside::{builder, check, kept, registry_is, run_id, runs, town};

/// The calls of a run so far.
fn calls_of(town: &TownServer, run: &str) -> Vec<Record> {
    town.calls_where(|record| record.run_id.as_deref() == Some(run))
}

/// Two hosts of one town, both with its agents, the second one newer.
fn two(town: &TownServer, of_the_older: &str) -> (Host, Host) {
    let older = builder(town).toml(of_the_older).start().ready();
    older.client().start("ann", "echo");
    older.client().start("bob", "echo");
    registry_is(town, &["ann", "bob"]);
    // Everything that a start has to say: of an older one whose heart beats seldom, nothing comes after it.
    for call in [Call::AgentEvents, Call::PendingNudges, Call::ContainerHeartbeat] {
        let number = if call == Call::PendingNudges { 2 } else { 1 };
        let was_notified = |record: &Record| record.call == call && record.status == Some(200);
        wait_until(&format!("{call} is through"), || {
            town.calls_where(was_notified).len() >= number
        });
    }
    let both = ["ann", "bob"];
    wait_until("the events of both are there", || {
        kept(town, |kept| {
            both.iter().all(|id| kept.events.iter().any(|event| event["agent_id"] == *id))
        })
    });
    let newer = builder(town).start().ready();
    assert!(run_id(&newer) > run_id(&older), "the text order of runs is their age");
    for agent in ["ann", "bob"] {
        assert!(runs(&newer, agent), "{agent} came from the town");
    }
    (older, newer)
}

/// What has to be true of the newer one, whatever the older one did.
fn check_newer(town: &TownServer, newer: &Host) {
    registry_is(town, &["ann", "bob"]);
    assert_eq!(kept(town, |kept| kept.newest_run.clone().map(|(_, run)| run)), Some(run_id(newer)));
    for agent in ["ann", "bob"] {
        assert_eq!(newer.client().ask(agent, "hi"), "hi");
        assert_eq!(newer.client().status(agent).incarnation.0, 1);
    }
    assert!(newer.events_named("town.fenced").is_empty());
}

#[test]
fn the_older_one_hears_of_it_once_and_is_silent_from_then_on() {
    let town = town();
    let (older, newer) = two(&town, "[town]\non_fenced = \"run\"");
    let fenced = older.wait_for_line("the fence", |line| line["event"] == "town.fenced");
    assert_eq!(fenced["level"], "error", "{fenced}");
    assert_eq!(fenced["newerRunId"], run_id(&newer), "{fenced}");
    // A refused call that was under way beside the first one is written down by now: this one comes after it.
    older.client().start("cyd", "echo");
    let calls = || calls_of(&town, &run_id(&older)).len();
    let before = Cell::new((calls(), Instant::now()));
    wait_until("it is silent for a second", || {
        if calls() != before.get().0 {
            before.set((calls(), Instant::now()));
        }
        before.get().1.elapsed() > Duration::from_secs(1)
    });
    let (before, _) = before.get();
    for agent in ["ann", "bob", "cyd"] {
        assert_eq!(older.client().ask(agent, "hi"), "hi", "its agents run on");
    }
    older.client().stop("ann").expect(200);
    older.client().start("dan", "echo");
    let lines = older.finish();
    let after = calls_of(&town, &lines[0]["runId"].to_string().replace('"', ""));
    assert_eq!(after.len(), before, "it goes on to call: {:?}", after.last());
    assert_eq!(lines.iter().filter(|line| line["event"] == "town.fenced").count(), 1);
    check_newer(&town, &newer);
    newer.finish();
    check(&town);
}

#[test]
fn a_late_shutdown_notice_changes_nothing() {
    let town = town();
    // So seldom that its shutdown notice is the first call after the newer one came.
    let (older, newer) = two(&town, "[town]\nheartbeat_ms = 600000");
    let run = run_id(&older);
    let refused =
        |record: &Record| record.run_id.as_deref() == Some(&run) && record.status == Some(409);
    assert!(town.calls_where(refused).is_empty(), "it has not heard of it");
    older.signal(Signal::TERM);
    older.wait_for_line("the fence", |line| line["event"] == "town.fenced");
    let lines = older.ends_with(0);
    assert_eq!(lines.iter().filter(|line| line["event"] == "town.fenced").count(), 1);
    let goodbyes = [Call::ContainerEviction, Call::EvictionContext, Call::PostRegistry];
    let said = town.calls_where(|record| refused(record) && goodbyes.contains(&record.call));
    assert!(!said.is_empty(), "its shutdown notice was refused");
    assert_eq!(kept(&town, |kept| (kept.evictions.seen(), kept.contexts.len())), (0, 0));
    check_newer(&town, &newer);
    newer.finish();
    check(&town);
}

#[test]
fn a_shutdown_notice_into_a_town_that_was_away_changes_nothing_either() {
    let town = town();
    let (older, newer) = two(&town, "[town]\nheartbeat_ms = 600000");
    town.misbehave(Which::All, town_server::Fault::Slow(std::time::Duration::from_millis(500)));
    older.signal(Signal::TERM);
    older.wait_for_line("the fence", |line| line["event"] == "town.fenced");
    older.ends_with(0);
    town.behave(Which::All);
    check_newer(&town, &newer);
    newer.finish();
    check(&town);
}

#[test]
fn a_shutdown_notice_of_the_newest_is_heard() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    registry_is(&town, &["ann"]);
    let run = run_id(&host);
    host.finish();
    wait_until("the shutdown notice is there", || kept(&town, |kept| kept.evictions.seen()) == 1);
    let said = kept(&town, |kept| kept.evictions.iter().next().cloned()).expect("one");
    assert_eq!(said["containerInstanceId"], json!(run), "{said}");
    assert!(said["reason"].as_str().is_some_and(|reason| reason.contains("SIGTERM")), "{said}");
    assert_eq!(kept(&town, |kept| kept.contexts["ann"]["agentId"].clone()), "ann");
    check(&town);
}

#[test]
fn the_older_one_drains_itself_unless_it_is_configured_to_run_on() {
    let town = town();
    let (older, newer) = two(&town, "");
    older.wait_for_line("the fence", |line| line["event"] == "town.fenced");
    let lines = older.ends_with(0);
    let intent = lines.iter().find(|line| line["event"] == "container.stop_intent");
    assert_eq!(intent.expect("a line")["by"], "town.fenced");
    let stopped = lines.iter().find(|line| line["event"] == "container.stopped");
    assert_eq!(stopped.expect("a line")["killed"], 0, "{stopped:?}");
    check_newer(&town, &newer);
    newer.finish();
    check(&town);
}
