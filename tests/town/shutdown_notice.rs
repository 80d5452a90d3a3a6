//! SIGTERM: the town is notified within ten seconds, and a town that does not listen holds nothing up.

use std::time::{Duration, Instant};

use harness::{Host, json, wait_until};
use rustix::process::Signal;
use town_server::{Call, Fault, TownServer, Which};

use super::beside::{builder, check, kept, registry_is, sealed, town};

/// How long the town may take to hear of it.
const NOTIFIED_MS: u64 = 10_000;

/// How long the end of idle agents may take beside a town that does not answer: the shutdown notice, the last round of
/// what was not sent yet, and what a busy machine adds.
const END: Duration = Duration::from_secs(25);

fn with_agents(town: &TownServer) -> Host {
    let host = builder(town).start().ready();
    host.client().start("ann", "remembers");
    host.client().start("bob", "echo");
    registry_is(town, &["ann", "bob"]);
    host.client().ask("ann", "hi");
    host
}

/// Ends a host beside a town that does this from now on.
fn ends_beside(misbehave: impl FnOnce(&TownServer), hears: bool) {
    let town = town();
    let host = with_agents(&town);
    misbehave(&town);
    let (began, signalled_ms) = (Instant::now(), town.now_ms());
    host.signal(Signal::TERM);
    host.ends_with(0);
    let took = began.elapsed();
    assert!(took < END, "the end took {took:?}");
    let notices = town.calls_of(Call::ContainerEviction);
    assert_eq!(!notices.is_empty(), hears, "{notices:?}");
    for notice in notices {
        assert!(notice.at_ms < signalled_ms + NOTIFIED_MS, "it was sent late: {notice:?}");
    }
    check(&town);
}

#[test]
fn a_town_that_listens_hears_at_once() {
    ends_beside(|_| {}, true);
}

#[test]
fn a_town_that_hangs_holds_nothing_up() {
    ends_beside(|town| town.misbehave(Which::All, Fault::Hang), true);
}

#[test]
fn a_town_that_is_slow_holds_nothing_up() {
    let slow = Fault::Slow(Duration::from_secs(5));
    ends_beside(|town| town.misbehave(Which::All, slow), true);
}

#[test]
fn a_town_that_is_down_holds_nothing_up() {
    ends_beside(TownServer::go_down, false);
}

#[test]
fn a_town_that_fails_holds_nothing_up() {
    ends_beside(|town| town.misbehave(Which::All, Fault::Status(503)), true);
}

#[test]
fn what_agents_remember_is_there_after_the_end() {
    let town = town();
    let host = with_agents(&town);
    host.client().start("puppet", "puppet");
    let start = json!({"rigId": "orchard"});
    host.client().start_with("cyd", "remembers", start).expect(201);
    for _ in 0..3 {
        host.client().ask("cyd", "hi");
    }
    host.signal(Signal::TERM);
    host.ends_with(0);
    let bytes = |agent: &str| kept(&town, |kept| kept.snapshots[agent].bytes.clone());
    assert_eq!((bytes("ann"), bytes("cyd")), (sealed(b"1").into(), sealed(b"3").into()));
    let contexts = kept(&town, |kept| kept.contexts.clone());
    assert_eq!(contexts["cyd"]["messageCount"], 3, "{contexts:?}");
    assert_eq!(contexts["ann"]["status"], "running", "{contexts:?}");
    check(&town);
}

#[test]
fn a_busy_agent_has_its_grace_although_the_town_hangs() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("busy", "puppet");
    registry_is(&town, &["busy"]);
    std::thread::scope(|scope| {
        let busy = host.occupy(scope, "busy", "work");
        town.misbehave(Which::All, Fault::Hang);
        host.signal(Signal::TERM);
        wait_until("the town is notified", || !town.calls_of(Call::ContainerEviction).is_empty());
        host.release("busy");
        assert_eq!(busy.join().expect("an answer").reply(), "work");
    });
    host.ends_with(0);
    check(&town);
}
