//! Snapshots: the newest wins, a broken one is logged and not used.

use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_api::town_snapshot;
use harness::{Host, json, wait_until};
use town_server::town::Snapshot;
use town_server::{Call, Fault, TownServer};

use super::beside::{builder, check, kept, kill, registry_is, town};

/// An echo's snapshot is the number of its messages. This is what the town has of `ann`.
fn count(town: &TownServer) -> Option<String> {
    let bytes = kept(town, |kept| kept.snapshots.get("ann").map(|kept| kept.bytes.clone()))?;
    let bytes = town_snapshot::open(&bytes, false).expect("an upload of ours");
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// One of ours that says neither when it was taken nor what its hash is.
fn bare(text: &str) -> Snapshot {
    Snapshot::bare(town_snapshot::seal(text.as_bytes()))
}

/// One more message. Returns what the agent remembers then, as reported to the town.
fn next_count(town: &TownServer, host: &Host) -> String {
    kept(town, |kept| kept.snapshots.remove("ann"));
    // An upload of before may still come: the run before may have died before it heard that the town has it.
    let asked = now_ms();
    let taken = || kept(town, |kept| kept.snapshots.get("ann")?.taken_at_ms);
    assert_eq!(host.client().ask("ann", "hi"), "hi");
    wait_until("the town has a snapshot", || taken().is_some_and(|taken| taken >= asked));
    count(town).expect("there is one")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("some millennia are left")
}

/// A host that was killed and whose `ann` remembers two messages.
fn two_messages(town: &TownServer) -> Host {
    let mut host = builder(town).start().ready();
    host.client().start("ann", "remembers");
    assert_eq!(next_count(town, &host), "1");
    assert_eq!(next_count(town, &host), "2");
    registry_is(town, &["ann"]);
    kill(&mut host);
    host
}

/// What `ann` remembers after one more message in the next run, beside a town that has this of it.
fn after(snapshot: Option<Snapshot>) -> (String, Host, TownServer) {
    let town = town();
    let mut host = two_messages(&town);
    kept(&town, |kept| match snapshot {
        Some(snapshot) => drop(kept.snapshots.insert("ann".into(), snapshot)),
        None => drop(kept.snapshots.remove("ann")),
    });
    let second = host.restart().ready();
    let count = next_count(&town, &second);
    check(&town);
    (count, second, town)
}

#[test]
fn a_snapshot_goes_to_the_town_and_comes_to_another_host() {
    let town = town();
    let host = two_messages(&town);
    let kept_of_it = kept(&town, |kept| kept.snapshots["ann"].clone());
    let taken_at = kept_of_it.taken_at_ms.expect("a time");
    assert!(now_ms().abs_diff(taken_at) < 3_600_000, "taken at {taken_at}");
    drop(host);
    // Nothing of the first one is left but what the town has.
    let other = builder(&town).start().ready();
    assert_eq!(next_count(&town, &other), "3");
    other.finish();
    check(&town);
}

#[test]
fn a_newer_one_of_the_town_wins() {
    let (count, host, _town) = after(Some(Snapshot::new("41", now_ms() + 60_000)));
    assert_eq!(count, "42");
    host.finish();
}

#[test]
fn what_follows_from_a_snapshot_of_the_future_is_newer_than_it() {
    let (count, mut host, town) = after(Some(Snapshot::new("41", now_ms() + 3_600_000)));
    assert_eq!(count, "42");
    // The town has not heard of what comes now.
    kept(&town, |kept| {
        kept.snapshots.insert("ann".into(), Snapshot::new("41", now_ms() + 3_600_000))
    });
    town.misbehave(Call::PostSnapshot, Fault::Status(503));
    host.client().stop("ann").expect(200);
    host.client().start("ann", "remembers");
    host.client().ask("ann", "hi");
    host.client().stop("ann").expect(200);
    kill(&mut host);
    town.behave(Call::PostSnapshot);
    let next = host.restart().ready();
    next.client().start("ann", "remembers");
    assert_eq!(next_count(&town, &next), "44");
    next.finish();
}

#[test]
fn an_older_one_of_the_town_does_not() {
    let (count, host, _town) = after(Some(Snapshot::new("41", 1000)));
    assert_eq!(count, "3");
    host.finish();
}

#[test]
fn a_town_that_has_none_changes_nothing() {
    let (count, host, _town) = after(None);
    assert_eq!(count, "3");
    host.finish();
}

#[test]
fn one_that_does_not_say_when_it_was_taken_is_older_than_any_other() {
    let (count, host, _town) = after(Some(bare("41")));
    assert_eq!(count, "3");
    host.finish();
    let town = town();
    kept(&town, |kept| {
        kept.list(json!({"agentId": "ann", "role": "remembers"}));
        kept.snapshots.insert("ann".into(), bare("41"));
    });
    let host = builder(&town).start().ready();
    assert_eq!(next_count(&town, &host), "42", "and better than none");
    host.finish();
}

#[test]
fn the_time_of_the_file_counts_where_there_is_no_other() {
    let of = |date: &str| Snapshot { last_modified: Some(date.to_owned()), ..bare("41") };
    let (count, host, _town) = after(Some(of("Fri, 01 Jan 2100 00:00:00 GMT")));
    assert_eq!(count, "42");
    host.finish();
    let (count, host, _town) = after(Some(of("Sat, 01 Jan 2000 00:00:00 GMT")));
    assert_eq!(count, "3");
    host.finish();
}

#[test]
fn one_with_a_wrong_hash_is_logged_and_not_used() {
    let wrong =
        Snapshot { sha256: Some("00".repeat(32)), ..Snapshot::new("41", now_ms() + 60_000) };
    let (count, host, _town) = after(Some(wrong));
    assert_eq!(count, "3");
    let logged = host.wait_for_line("the wrong hash", |line| {
        line["event"] == "town.call_failed" && line["call"] == "snapshot_get"
    });
    assert_eq!(
        (&logged["cause"], &logged["agentId"]),
        (&json!("corrupt"), &json!("ann")),
        "{logged}"
    );
    host.finish();
}

#[test]
fn what_is_no_snapshot_costs_no_start() {
    for fault in [
        Fault::Hang,
        Fault::Status(500),
        Fault::HalfBody,
        Fault::NotHttp,
        Fault::NotJson,
        Fault::WrongShape,
        Fault::TooLarge,
        Fault::Reset,
    ] {
        let town = town();
        kept(&town, |kept| kept.list(json!({"agentId": "ann", "role": "remembers"})));
        town.misbehave(Call::Snapshot, fault);
        let host = builder(&town).toml("[limits]\nhydration_ms = 3000").start().ready();
        let status = host.client().reaches("ann", "running");
        assert_eq!(status.incarnation.0, 1, "it began again, with {fault}: {status:?}");
        // Nothing is uploaded over what nobody could see.
        assert_eq!(host.client().ask("ann", "hi"), "hi", "with {fault}");
        town.behave(Call::Snapshot);
        assert_eq!(next_count(&town, &host), "2", "with {fault}");
        assert!(host.crashes().is_empty(), "with {fault}: {:?}", host.crashes());
        host.finish();
        check(&town);
    }
}

#[test]
fn one_that_the_town_did_not_take_goes_again() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("ann", "remembers");
    for fault in [Fault::Status(503), Fault::Hang, Fault::Reset, Fault::Status(401), Fault::NotJson]
    {
        kept(&town, |kept| kept.snapshots.remove("ann"));
        town.misbehave_times(Call::PostSnapshot, fault, 3);
        host.client().ask("ann", "hi");
        wait_until(&format!("the town has it after {fault}"), || count(&town).is_some());
    }
    wait_until("it has the last one", || count(&town).as_deref() == Some("5"));
    host.finish();
    check(&town);
}

#[test]
fn what_an_earlier_version_uploaded_without_an_envelope_is_read() {
    // It says when it was taken and what its hash is.
    let (count, host, _town) = after(Some(Snapshot::new("41", now_ms() + 60_000)));
    assert_eq!(count, "42");
    host.finish();
}

#[test]
fn what_another_system_left_is_set_aside_and_never_overwritten() {
    let mut newer = town_snapshot::seal(b"41");
    newer[8] = 200;
    for foreign in [
        Snapshot::new("SQLite format 3\0 and more", now_ms() + 60_000),
        Snapshot::bare("41"),
        Snapshot::bare(""),
        Snapshot::new(newer, now_ms() + 60_000),
    ] {
        let town = town();
        kept(&town, |kept| {
            kept.list(json!({"agentId": "ann", "role": "remembers"}));
            kept.snapshots.insert("ann".into(), foreign.clone());
            // Nobody lists it: nothing is fetched before its start.
            kept.snapshots.insert("bob".into(), foreign.clone());
        });
        let host = builder(&town).start().ready();
        let aside = host.wait_for_event("ann", "agent.snapshot_set_aside");
        assert!(aside["reason"].as_str().unwrap_or_default().contains("foreign"), "{aside}");
        assert_eq!(aside["bytes"], foreign.bytes.len(), "{aside}");
        host.client().start("bob", "remembers");
        host.client().start("cyd", "remembers");
        for agent in ["ann", "bob", "cyd"] {
            assert_eq!(host.client().ask(agent, "hi"), "hi", "it began again");
        }
        // The third one comes last: by then the others had their chance.
        wait_until("the town has what is ours", || {
            kept(&town, |kept| kept.snapshots.contains_key("cyd"))
        });
        host.wait_for_line("that it is left alone", |line| {
            line["level"] == "warn" && line.to_string().contains("bob")
        });
        assert!(host.crashes().is_empty(), "{:?}", host.crashes());
        host.finish();
        for agent in ["ann", "bob"] {
            let now = kept(&town, |kept| kept.snapshots[agent].clone());
            assert_eq!(now, foreign, "{agent}");
        }
        check(&town);
    }
}

#[test]
fn state_that_stays_here_because_of_it_goes_on_here() {
    let town = town();
    let foreign = Snapshot::bare("of another system");
    kept(&town, |kept| kept.snapshots.insert("ann".into(), foreign.clone()));
    let mut host = builder(&town).start().ready();
    host.client().start("ann", "remembers");
    assert_eq!(host.client().ask("ann", "hi"), "hi");
    host.client().stop("ann").expect(200);
    host.client().start("ann", "remembers");
    registry_is(&town, &["ann"]);
    kill(&mut host);
    let second = host.restart().ready();
    assert_eq!(second.client().ask("ann", "hi"), "hi");
    kept(&town, |kept| kept.snapshots.remove("ann"));
    second.client().stop("ann").expect(200);
    kill_and_count(second, "2");
    check(&town);
}

/// Ends a host and looks at what its `ann` remembers.
fn kill_and_count(mut host: Host, expected: &str) {
    kill(&mut host);
    let id = bulkhead_types::AgentId::parse("ann").expect("an id");
    let store = host.state_dir().join("store");
    let newest = bulkhead_store::database::read_snapshot(&store, &id).expect("readable");
    let bulkhead_store::database::Newest::Kept(kept) = newest else { panic!("{newest:?}") };
    assert_eq!(String::from_utf8_lossy(&kept.snapshot.bytes), expected);
}
