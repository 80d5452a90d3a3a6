//! What is reported to the town: heartbeats, readiness, ends, events; and the nudges that are answered.

use harness::resident::resident_bytes;
use harness::{Host, Value, json, wait_until};
use hyper::Method;
use town_server::{Call, Fault, TownServer, Which};

use super::beside::{TOWN, builder, check, kept, registry_is, run_id, town};

/// Waits until the container's next heartbeats were answered, as many as these.
fn beats(town: &TownServer, number: usize) {
    let answered = || {
        town.calls_where(|record| {
            record.call == Call::ContainerHeartbeat && record.status == Some(200)
        })
    };
    let before = answered().len();
    wait_until("the container beats", || answered().len() >= before + number);
}

#[test]
fn a_container_without_agents_beats() {
    let town = town();
    let host = builder(&town).start().ready();
    beats(&town, 3);
    let beat = kept(&town, |kept| kept.container_heartbeat.clone()).expect("a heartbeat");
    assert_eq!(beat["townId"], TOWN, "{beat}");
    assert_eq!(beat["containerInstanceId"], run_id(&host), "{beat}");
    assert_eq!((&beat["agents"], &beat["activeAgents"]), (&json!(0), &json!(0)), "{beat}");
    assert_eq!(beat["status"], "ok", "{beat}");
    host.finish();
    check(&town);
}

#[test]
fn every_agent_beats_also_when_it_is_idle() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start_with("ann", "echo", json!({"rigId": "orchard"})).expect(201);
    host.client().start("bob", "echo");
    host.client().ask("ann", "one");
    let of = |agent: &str| {
        town.calls_where(|record| {
            record.call == Call::Heartbeat && record.agent.as_deref() == Some(agent)
        })
        .len()
    };
    wait_until("both beat, three times", || of("ann") >= 3 && of("bob") >= 3);
    wait_until("a message is counted", || {
        kept(&town, |kept| kept.heartbeats["ann"]["messageCount"] == 1)
    });
    let beat = kept(&town, |kept| kept.heartbeats["ann"].clone());
    assert_eq!((&beat["agentId"], &beat["rigId"]), (&json!("ann"), &json!("orchard")), "{beat}");
    assert_eq!((&beat["status"], &beat["townId"]), (&json!("running"), &json!(TOWN)), "{beat}");
    assert!(beat["activeTools"].is_array() && beat["timestamp"].is_string(), "{beat}");
    assert!(beat["lastEventType"].is_string() && beat["lastEventAt"].is_string(), "{beat}");
    // Who has ended does not beat any more.
    host.client().stop("bob").expect(200);
    beats(&town, 2);
    let (ann, bob) = (of("ann"), of("bob"));
    wait_until("ann beats on", || of("ann") >= ann + 3);
    assert_eq!(of("bob"), bob);
    host.finish();
    check(&town);
}

#[test]
fn a_nonce_is_acknowledged_once_however_it_comes() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    kept(&town, |kept| kept.drain_nonce = Some("first".into()));
    let acknowledged = || kept(&town, |kept| kept.ready.iter().cloned().collect::<Vec<_>>());
    wait_until("it is acknowledged", || acknowledged() == ["first"]);
    beats(&town, 4);
    assert_eq!(acknowledged(), ["first"], "once");
    // The same one on another way, and one that belongs to another town.
    let health = |town_id: &str, nonce: &str| {
        let token = host.client().token().expect("a token");
        let head = format!(
            "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-town-id: {town_id}\r\n\
             authorization: Bearer {token}\r\nx-drain-nonce: {nonce}\r\n\r\n"
        );
        assert_eq!(host.client().raw(head.as_bytes()).expect("an answer").status, 200);
    };
    health(TOWN, "first");
    health("elsewhere", "second");
    health(TOWN, "third");
    wait_until("the third is acknowledged", || acknowledged().len() >= 2);
    beats(&town, 3);
    assert_eq!(acknowledged(), ["first", "third"]);
    host.finish();
    check(&town);
}

#[test]
fn a_nonce_survives_a_town_that_does_not_listen() {
    for fault in [Fault::Status(503), Fault::Status(401), Fault::NotJson, Fault::Hang, Fault::Reset]
    {
        let town = town();
        let host = builder(&town).start().ready();
        town.misbehave_times(Call::ContainerReady, fault, 2);
        kept(&town, |kept| kept.drain_nonce = Some("first".into()));
        wait_until(&format!("it is acknowledged after {fault}"), || {
            kept(&town, |kept| kept.ready.seen()) == 1
        });
        host.finish();
        check(&town);
    }
}

/// The ends that were reported to the town, sorted.
fn ends(town: &TownServer) -> Vec<(String, String, Value)> {
    let mut ends: Vec<_> = kept(town, |kept| {
        let ends = kept.completed.iter();
        ends.map(|(agent, body)| {
            let status = body["status"].as_str().unwrap_or_default().to_owned();
            (agent.clone(), status, body["reason"].clone())
        })
        .collect()
    });
    ends.sort_by(|a, b| a.0.cmp(&b.0));
    ends
}

const COMES_BACK: &str =
    "restart = \"transient\"\nmax_attempts = 1\nrestart_backoff_ms = 1\nrestart_backoff_max_ms = 1";

#[test]
fn the_end_of_an_agent_is_reported_unless_it_is_a_mayor_or_is_restarted_or_was_asked_for() {
    let town = town();
    let builder =
        builder(&town).role("mayor", "puppet", "").role("comes-back", "puppet", COMES_BACK);
    let host = builder.start().ready();
    let client = host.client();
    for agent in ["done", "failed", "stopped"] {
        client.start(agent, "puppet");
    }
    client.start("the-mayor", "mayor");
    client.start("comes-back", "comes-back");
    client.send_wait("comes-back", "panic").expect(502);
    client.runs("comes-back", 2);
    client.send_wait("the-mayor", "done").expect(200);
    client.stop("stopped").expect(200);
    client.send_wait("failed", "panic").expect(502);
    client.send_wait("done", "done").expect(200);
    client.reaches("the-mayor", "exited");
    wait_until("two ends are reported", || ends(&town).len() >= 2);
    beats(&town, 3);
    let ends = ends(&town);
    let reported: Vec<_> =
        ends.iter().map(|(agent, status, _)| (agent.as_str(), status.as_str())).collect();
    assert_eq!(reported, [("done", "completed"), ("failed", "failed")]);
    assert!(ends[1].2.as_str().is_some_and(|reason| reason.contains("panic")), "{ends:?}");
    registry_is(&town, &["comes-back"]);
    host.finish();
    check(&town);
}

#[test]
fn an_end_is_reported_later_when_the_town_did_not_listen() {
    for fault in [Fault::Status(503), Fault::Status(401), Fault::NotJson, Fault::Hang, Fault::Reset]
    {
        let town = town();
        let host = builder(&town).start().ready();
        host.client().start("ann", "puppet");
        town.misbehave_times(Call::Completed, fault, 2);
        host.client().send_wait("ann", "done").expect(200);
        wait_until(&format!("it is reported after {fault}"), || ends(&town).len() == 1);
        host.finish();
        check(&town);
    }
}

/// The events that the town knows of an agent, as types.
fn events(town: &TownServer, agent: &str) -> Vec<String> {
    let of_agent = |event: &&Value| event["agent_id"] == agent;
    let name = |event: &Value| event["event_type"].as_str().unwrap_or_default().to_owned();
    kept(town, |kept| kept.events.iter().filter(of_agent).map(name).collect())
}

/// The events that the host knows of it.
fn events_here(host: &Host, agent: &str) -> Vec<String> {
    let page = host.client().events(agent, 0);
    page.events.iter().map(|event| event.event.to_string()).collect()
}

#[test]
fn events_arrive_in_batches_each_once_and_in_order() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    for message in 0..300 {
        host.client().ask("ann", &format!("message {message}"));
    }
    let here = events_here(&host, "ann");
    assert!(here.len() >= 300, "{} events", here.len());
    wait_until("all events are there", || events(&town, "ann").len() >= here.len());
    assert_eq!(events(&town, "ann"), here);
    let (events, batches) = kept(&town, |kept| (kept.events.seen(), kept.event_batches.seen()));
    assert!(batches * 5 < events, "{events} events came in {batches} calls");
    host.finish();
    check(&town);
}

#[test]
fn a_town_that_takes_no_batches_gets_events_one_by_one() {
    let town = town();
    kept(&town, |kept| kept.refuses_batches = true);
    let host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    for message in 0..20 {
        host.client().ask("ann", &format!("message {message}"));
    }
    let here = events_here(&host, "ann");
    wait_until("all events are there", || events(&town, "ann").len() >= here.len());
    assert_eq!(events(&town, "ann"), here);
    let arrays = town.calls_where(|record| record.status == Some(400));
    assert_eq!(arrays.len(), 1, "it learned from the first refusal");
    kept(&town, |kept| kept.problems = town_server::Kept::default());
    host.finish();
    check(&town);
}

#[test]
fn events_wait_for_a_town_that_is_away_and_none_comes_twice() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    host.client().ask("ann", "before");
    wait_until("the town follows", || {
        events(&town, "ann").len() >= events_here(&host, "ann").len()
    });
    for fault in [None, Some(Fault::Status(503)), Some(Fault::Status(401)), Some(Fault::NotJson)] {
        match fault {
            None => town.go_down(),
            Some(fault) => town.misbehave(Call::AgentEvents, fault),
        }
        for message in 0..20 {
            host.client().ask("ann", &format!("message {message}"));
        }
        if let Some(fault) = fault {
            wait_until(&format!("it is reported and answered with {fault}"), || {
                town.calls_where(|record| record.fault == Some(fault)).len() > 1
            });
        }
        town.come_up().expect("listen again");
        town.behave(Which::All);
        let here = events_here(&host, "ann");
        wait_until(&format!("all events are there after {fault:?}"), || {
            events(&town, "ann").len() >= here.len()
        });
        assert_eq!(events(&town, "ann"), here, "after {fault:?}");
    }
    host.finish();
    check(&town);
}

/// The turns that a nudge had.
fn turns_of(host: &Host, nudge: &str) -> usize {
    let is_turn = |line: &&Value| line["messageId"] == nudge;
    host.events_named("agent.turn").iter().filter(is_turn).count()
}

fn delivered(town: &TownServer, nudge: &str) -> u32 {
    kept(town, |kept| kept.nudges[nudge].delivered)
}

#[test]
fn a_nudge_is_delivered_when_an_agent_is_idle_and_once() {
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    host.client().start("bob", "echo");
    kept(&town, |kept| {
        kept.nudge("n1", "ann", "look at bead 7");
        kept.nudge("n2", "ann", "and at bead 8");
    });
    host.client().ask("ann", "hi");
    host.client().ask("bob", "hi");
    for nudge in ["n1", "n2"] {
        wait_until(&format!("{nudge} is delivered"), || delivered(&town, nudge) == 1);
        wait_until(&format!("{nudge} has its turn"), || turns_of(&host, nudge) == 1);
    }
    let lines = host.events_of("ann", "agent.message");
    let senders: Vec<_> = lines.iter().filter(|line| line["messageId"] == "n1").collect();
    assert_eq!(senders[0]["sender"], json!({"nudge": "n1"}));
    host.client().ask("ann", "hi again");
    beats(&town, 3);
    assert_eq!((turns_of(&host, "n1"), turns_of(&host, "n2")), (1, 1));
    assert_eq!((delivered(&town, "n1"), delivered(&town, "n2")), (1, 1));
    let asked_for_bob = town.calls_where(|record| {
        record.call == Call::PendingNudges && record.agent.as_deref() == Some("bob")
    });
    assert!(!asked_for_bob.is_empty());
    host.finish();
    check(&town);
}

#[test]
fn an_agent_that_has_had_no_message_gets_nudges_as_well() {
    let town = town();
    kept(&town, |kept| {
        kept.list(json!({"agentId": "ann", "role": "echo"}));
        kept.nudge("n1", "ann", "while you were away");
        kept.nudge("n2", "bob", "before you came");
    });
    let host = builder(&town).start().ready();
    host.client().start("bob", "echo");
    for nudge in ["n1", "n2"] {
        wait_until(&format!("{nudge} has its turn"), || turns_of(&host, nudge) == 1);
        wait_until(&format!("{nudge} is delivered"), || delivered(&town, nudge) == 1);
    }
    host.finish();
    check(&town);
}

#[test]
fn nudges_are_asked_for_until_the_town_answers() {
    let town = town();
    let host = builder(&town).start().ready();
    for fault in
        [Fault::Status(503), Fault::Status(401), Fault::NotJson, Fault::WrongShape, Fault::Reset]
    {
        let (agent, nudge) = (format!("to-{fault}"), format!("n-{fault}"));
        kept(&town, |kept| kept.nudge(&nudge, &agent, "wake up"));
        town.misbehave_times(Call::PendingNudges, fault, 5);
        host.client().start(&agent, "echo");
        wait_until(&format!("it is delivered after {fault}"), || delivered(&town, &nudge) == 1);
    }
    town.go_down();
    host.wait_for_line("the town is away", |line| line["event"] == "town.unreachable");
    kept(&town, |kept| kept.nudge("n-down", "late", "wake up"));
    host.client().start("late", "echo");
    town.come_up().expect("listen again");
    wait_until("it is delivered", || delivered(&town, "n-down") == 1);
    wait_until("it has its turn", || turns_of(&host, "n-down") == 1);
    host.finish();
    check(&town);
}

#[test]
fn a_nudge_that_is_offered_again_is_not_delivered_again() {
    for fault in [Fault::Reset, Fault::Status(500), Fault::HalfBody, Fault::Hang, Fault::NotJson] {
        let town = town();
        let host = builder(&town).start().ready();
        host.client().start("ann", "echo");
        kept(&town, |kept| kept.nudge("n1", "ann", "look at bead 7"));
        town.misbehave(Call::NudgeDelivered, fault);
        host.client().ask("ann", "hi");
        wait_until("it has its turn", || turns_of(&host, "n1") == 1);
        wait_until("the town was reported", || !town.calls_of(Call::NudgeDelivered).is_empty());
        town.behave(Which::All);
        wait_until(&format!("it counts as delivered after {fault}"), || {
            // Whenever it has been idle again.
            host.client().ask("ann", "hi");
            delivered(&town, "n1") > 0
        });
        beats(&town, 2);
        assert_eq!(turns_of(&host, "n1"), 1, "after {fault}");
        host.finish();
        check(&town);
    }
}

#[test]
fn nudges_with_huge_ids_and_sources_take_no_memory_and_harm_no_others() {
    /// As large as an answer of the town may be, nearly.
    const HUGE: usize = 950_000;
    const ROUNDS: usize = 60;
    /// Arenas of the allocator that threads touch for the first time; an answer on its way.
    const NOISE_BYTES: u64 = 16 * 1024 * 1024;
    let town = town();
    let host = builder(&town).start().ready();
    host.client().start("ann", "echo");
    let round = |number: usize| {
        let (huge, good, long) =
            ("i".repeat(HUGE) + &number.to_string(), format!("n{number}"), format!("s{number}"));
        kept(&town, |kept| {
            kept.nudge(&huge, "ann", "left there");
            kept.nudge(&good, "ann", "go on");
        });
        host.client().ask("ann", "hi");
        wait_until("the good one is delivered", || delivered(&town, &good) == 1);
        assert_eq!(delivered(&town, &huge), 0);
        kept(&town, |kept| {
            kept.nudges.remove(&huge);
            kept.nudge(&long, "ann", "from far away");
            kept.nudges.get_mut(&long).expect("it is there").source = "s".repeat(HUGE);
        });
        host.client().ask("ann", "hi");
        wait_until("the one with the long source is delivered", || delivered(&town, &long) == 1);
    };
    // Everything has been done once before memory is checked.
    (0..5).for_each(round);
    let of_agent = || host.client().status("ann").memory.host_bytes;
    let (settled, of_ann) = (resident_bytes(host.pid()), of_agent());
    (5..ROUNDS).for_each(round);
    let grown = resident_bytes(host.pid()).saturating_sub(settled);
    assert!(grown < NOISE_BYTES, "the host grew by {grown} bytes");
    assert!(of_agent() < of_ann + 1024 * 1024, "{of_ann}, {}", of_agent());
    let line = host.wait_for_line("why one is left there", |line| {
        line["level"] == "warn" && line.to_string().contains("a nudge of the town is left there")
    });
    let text = line.to_string();
    assert!(text.contains("its id has 950001 bytes") && text.contains("ann"), "{line}");
    assert!(text.len() < 2048, "{} bytes", text.len());
    host.finish();
    check(&town);
}

#[test]
fn health_and_metrics_know_of_the_town() {
    let town = town();
    let host = builder(&town).start().ready();
    beats(&town, 1);
    let metrics = host.client().request(Method::GET, "/metrics", "").text;
    assert!(metrics.contains("bulkhead_town"), "{metrics}");
    town.go_down();
    host.wait_for_line("the town is away", |line| line["event"] == "town.unreachable");
    host.client().health();
    town.come_up().expect("listen again");
    host.wait_for_line("the town is back", |line| line["event"] == "town.reachable");
    host.finish();
    check(&town);
}
