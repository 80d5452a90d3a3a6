//! What is reported to the town unasked.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bulkhead_api::town_snapshot::seal;
use bulkhead_log::Sink as _;
use bulkhead_types::event::AgentTag;
use bulkhead_types::{Event, ExitReason, Incarnation, Phase, Timestamp};

use super::fake::{Fake, id};
use super::server::{Answer, Got, Server};
use super::{client, until};
use crate::{Cause, Container, Remembered, TownCopy};

pub(crate) fn fine(got: &Got) -> Answer {
    let data = if asks_for_registry(got) { "[]" } else { "{}" };
    Answer::Json(200, format!(r#"{{"success":true,"data":{data}}}"#))
}

pub(crate) fn asks_for_registry(got: &Got) -> bool {
    got.method == "GET" && got.path.ends_with("container-registry")
}

pub(crate) fn tag(name: &str) -> AgentTag {
    AgentTag { agent_id: id(name), role: "polecat".into(), incarnation: Incarnation(1) }
}

pub(crate) fn exit(name: &str, reason: ExitReason) -> Event {
    Event::AgentExit {
        agent: tag(name),
        reason,
        phase: Phase::Handle,
        message: "why".into(),
        by: None,
        agent_uptime_ms: 1,
        turns: 1,
        cpu_us: 1,
        undelivered: 0,
        dropped_log_lines: 0,
        crash_id: None,
    }
}

fn listed(got: &Got) -> Vec<String> {
    let rows = got.json();
    rows.as_array().unwrap().iter().map(|row| row["agentId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_registry_that_was_not_taken_is_posted_until_the_newest_is_there() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let server = Server::start(move |got| match up.load(SeqCst) {
        true => fine(got),
        false if asks_for_registry(got) => fine(got),
        false => Answer::Json(500, "{}".into()),
    });
    let (client, fake) = (client(&server.url, 300, |_| {}), Fake::with(&["b", "a"]));
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    until("a post", || server.got_at("container-registry").len() > 1).await;
    assert!(fake.acknowledged.lock().is_empty());
    assert_eq!(fake.notified.lock()[0], [id("a"), id("b")], "the post may have arrived");
    assert_eq!(fake.not_notified.load(SeqCst), 0);
    fake.set("c", "running");
    fake.set("a", "exited");
    is_up.store(true, SeqCst);
    until("the newest", || fake.acknowledged.lock().last() == Some(&vec![id("b"), id("c")])).await;
    let last = server.got_at("container-registry").pop().unwrap();
    assert_eq!(listed(&last), ["b", "c"]);
    assert_eq!(last.json()[0]["env"], serde_json::json!(["KEY"]));
    // Nothing changed: nothing is posted.
    let posts = server.got_at("container-registry").len();
    fake.listed.send_modify(|count| *count += 1);
    assert!(client.town.finish(Duration::from_secs(20)).await);
    assert_eq!(server.got_at("container-registry").len(), posts);
}

#[tokio::test]
async fn nothing_is_posted_before_the_towns_list_was_read() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let server = Server::start(move |got| match up.load(SeqCst) {
        true if asks_for_registry(got) => {
            let rows = r#"[{"agentId":"ghost","request":{"agentId":"ghost","role":"r"}}]"#;
            Answer::Json(200, format!(r#"{{"data":{rows}}}"#))
        }
        false if asks_for_registry(got) => Answer::Json(503, "{}".into()),
        _ => fine(got),
    });
    let (client, fake) = (client(&server.url, 300, |_| {}), Fake::with(&["a"]));
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    until("many questions", || server.got_at("container-registry").len() > 8).await;
    assert!(server.got_at("container-registry").iter().all(asks_for_registry));
    assert!(fake.notified.lock().is_empty());
    is_up.store(true, SeqCst);
    until("a post", || !fake.acknowledged.lock().is_empty()).await;
    assert_eq!(*fake.town_lists.lock(), [[id("ghost")]], "before, and once");
    let posts = server.got_at("container-registry");
    assert!(!posts.iter().rev().take(1).all(asks_for_registry));
    // It is asked for once in a run.
    fake.set("b", "running");
    until("another post", || fake.acknowledged.lock().len() > 1).await;
    assert_eq!(fake.town_lists.lock().len(), 1);
}

#[tokio::test]
async fn what_cannot_have_arrived_counts_as_not_notified() {
    let server = Server::start(fine);
    let (client, fake) = (client(&server.url, 300, |_| {}), Fake::with(&["a"]));
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    until("the first", || fake.acknowledged.lock().len() == 1).await;
    drop(server);
    fake.set("b", "running");
    until("a try that finds nobody", || fake.not_notified.load(SeqCst) > 0).await;
    assert_eq!(fake.notified.lock().last(), Some(&vec![id("a"), id("b")]));
}

#[tokio::test]
async fn what_an_earlier_run_reported_is_not_taken_back() {
    let server = Server::start(fine);
    let (client, fake) = (client(&server.url, 300, |_| {}), Fake::with(&["a"]));
    client.town.handle().registry(Duration::from_secs(20)).await.unwrap();
    drop(server);
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    until("two tries", || fake.notified.lock().len() > 1).await;
    assert_eq!(fake.not_notified.load(SeqCst), 0);
}

#[tokio::test]
async fn every_agent_and_the_container_send_heartbeats() {
    let server = Server::start(|_| Answer::Json(200, r#"{"data":{"drainNonce":"n1"}}"#.into()));
    let client = client(&server.url, 5000, |config| config.heartbeat = Duration::from_millis(20));
    let fake = Fake::with(&["a"]);
    fake.set("gone", "exited");
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    until("heartbeats", || server.got_at("/a/heartbeat").len() > 2).await;
    let beat = &server.got_at("/a/heartbeat")[0];
    assert_eq!(beat.path, "/api/towns/riverside/rigs/rig%201/agents/a/heartbeat");
    assert_eq!(beat.header("x-gastown-agent-id"), Some("a"));
    assert_eq!(beat.json()["activeTools"], serde_json::json!(["bash"]));
    assert!(server.got_at("/gone/heartbeat").is_empty());
    let of_container = server.got_at("container-heartbeat")[0].json();
    assert_eq!((&of_container["agents"], &of_container["activeAgents"]), (&2.into(), &1.into()));
    // A nonce is answered when the container is ready, once.
    assert!(server.got_at("container-ready").is_empty());
    fake.is_ready.store(true, SeqCst);
    until("the acknowledgement", || !server.got_at("container-ready").is_empty()).await;
    let beats = server.got_at("container-heartbeat").len();
    until("more heartbeats", || server.got_at("container-heartbeat").len() > beats + 3).await;
    let ready = server.got_at("container-ready");
    assert_eq!((ready.len(), &ready[0].json()["nonce"]), (1, &"n1".into()));
}

#[tokio::test]
async fn only_an_end_for_good_that_nobody_asked_for_is_reported() {
    let server = Server::start(fine);
    let (client, fake) = (client(&server.url, 5000, |_| {}), Fake::with(&[]));
    for (name, status) in
        [("done", "exited"), ("dead", "failed"), ("back", "backoff"), ("stopped", "exited")]
    {
        fake.set(name, status);
    }
    fake.set("late", "stopping");
    // It crashed while the container went away, with restarts left.
    fake.set("next-run", "failed");
    fake.wanted.lock().push(id("next-run"));
    let not_at_fault = [
        ("host", ExitReason::HostError),
        ("killed", ExitReason::Killed),
        ("evicted", ExitReason::EvictedMemoryPressure),
    ];
    not_at_fault.iter().for_each(|(name, _)| fake.set(name, "failed"));
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    for (name, reason) in [
        ("late", ExitReason::Completed),
        ("done", ExitReason::Completed),
        ("back", ExitReason::Panic),
        ("stopped", ExitReason::Stopped),
        ("next-run", ExitReason::Panic),
        not_at_fault[0],
        not_at_fault[1],
        not_at_fault[2],
        ("dead", ExitReason::Trap),
    ] {
        client.town.handle().hear(&exit(name, reason));
    }
    fake.set("late", "exited");
    until("all ends", || server.got_at("/completed").len() == 3).await;
    assert!(client.town.finish(Duration::from_secs(20)).await);
    let mut reported: Vec<_> =
        server.got_at("/completed").iter().map(|got| (got.path.clone(), got.json())).collect();
    reported.sort_by(|a, b| a.0.cmp(&b.0));
    let paths: Vec<_> = reported.iter().map(|(path, _)| path.rsplit('/').nth(1).unwrap()).collect();
    assert_eq!(paths, ["dead", "done", "late"]);
    assert_eq!(reported[0].1, serde_json::json!({"status": "failed", "reason": "trap: why"}));
    assert_eq!(reported[1].1, serde_json::json!({"status": "completed"}));
}

#[tokio::test]
async fn an_end_that_was_not_heard_is_reported_later() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let server = Server::start(move |got| match up.load(SeqCst) {
        true => fine(got),
        false => Answer::Json(503, "{}".into()),
    });
    let (client, fake) = (client(&server.url, 200, |_| {}), Fake::with(&[]));
    fake.set("done", "exited");
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    client.town.handle().hear(&exit("done", ExitReason::Completed));
    until("a try", || !server.got_at("/completed").is_empty()).await;
    is_up.store(true, SeqCst);
    let completed = ("completed", "ok", 1);
    until("the report", || client.town.handle().figures().calls.contains(&completed)).await;
}

#[tokio::test]
async fn events_go_in_batches_or_one_by_one_and_losses_are_reported() {
    let takes_arrays = Arc::new(AtomicBool::new(true));
    let takes = Arc::clone(&takes_arrays);
    let server = Server::start(move |got| {
        let is_array = got.path.ends_with("agent-events") && got.body.starts_with(b"[");
        match is_array && !takes.load(SeqCst) {
            true => Answer::Json(422, r#"{"error":"expected an object"}"#.into()),
            false => fine(got),
        }
    });
    let (client, fake) = (client(&server.url, 5000, |_| {}), Fake::with(&["a"]));
    let ring = fake.ring("a");
    for n in 0..2120 {
        ring.push_value("n", &n);
    }
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    until("all batches", || server.got_at("agent-events").len() >= 20).await;
    let batches = server.got_at("agent-events");
    assert_eq!(batches[0].path, "/api/towns/riverside/rigs/rig%201/agent-events");
    let events: Vec<_> =
        batches.iter().flat_map(|got| got.json().as_array().unwrap().clone()).collect();
    assert_eq!((batches.len(), events.len()), (20, 2000));
    assert_eq!(events[0], serde_json::json!({"agent_id": "a", "event_type": "n", "data": 120}));
    assert!(
        client.lines.text().contains(r#""what":"events","dropped":120"#),
        "{}",
        client.lines.text()
    );
    // From here on the town takes no arrays.
    takes_arrays.store(false, SeqCst);
    for n in 0..3 {
        ring.push_value("single", &n);
    }
    let singles =
        || server.got_at("agent-events").into_iter().filter(|got| got.body.starts_with(b"{"));
    until("three events", || singles().count() == 3).await;
    ring.push_value("single", &3);
    until("the fourth", || singles().count() == 4).await;
    assert_eq!(server.got_at("agent-events").len(), 20 + 1 + 4, "the array was tried once");
    assert_eq!(client.town.handle().figures().dropped[0], ("events", 120));
}

#[tokio::test]
async fn a_nudge_is_delivered_once_however_often_it_is_offered() {
    let server = Server::start(|got| match got.path.rsplit('/').next().unwrap() {
        "pending-nudges" => {
            let nudge = r#"{"nudge_id":"n1","message":"go on","mode":"x","priority":"high","source":"witness"}"#;
            Answer::Json(200, format!(r#"{{"success":true,"data":[{nudge}]}}"#))
        }
        _ => fine(got),
    });
    let (client, fake) = (client(&server.url, 5000, |_| {}), Fake::with(&["a"]));
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    for reported in 1..=3 {
        client.town.handle().hear(&Event::AgentTurn {
            agent: tag("a"),
            message_id: "m".into(),
            outcome: None,
            error: None,
            cpu_us: 0,
            wall_ms: 0,
        });
        until("the delivery", || server.got_at("nudge-delivered").len() == reported).await;
    }
    assert_eq!(*fake.nudges.lock(), ["go on"]);
    assert_eq!(server.got_at("nudge-delivered")[0].json(), serde_json::json!({"nudge_id": "n1"}));
}

#[tokio::test]
async fn the_newest_snapshot_goes_up_and_what_came_down_does_not() {
    let server = Server::start(|got| match got.method.as_str() {
        "GET" if got.path.contains("/bad/") => {
            Answer::Octets(vec![("x-snapshot-sha256", "00".repeat(32))], b"rotten".to_vec())
        }
        "GET" if got.path.contains("/b/") => {
            Answer::Octets(vec![("x-snapshot-taken-at", "50".into())], seal(b"kept"))
        }
        "GET" => Answer::Json(404, "{}".into()),
        _ => fine(got),
    });
    let (client, fake) = (client(&server.url, 5000, |_| {}), Fake::with(&["a", "b"]));
    let within = Duration::from_secs(20);
    let get = |name| client.town.handle().snapshot(id(name), Some("r".into()), within);
    let kept = Remembered { taken_at: Timestamp(50), bytes: b"kept".as_slice().into() };
    assert_eq!(get("b").await, Ok(TownCopy::Ours(kept)));
    assert_eq!(get("none").await, Ok(TownCopy::Nothing));
    assert_eq!(get("bad").await.unwrap_err().cause, Cause::Corrupt);
    assert_eq!(client.lines.count("town.call_failed"), 1, "{}", client.lines.text());
    fake.store("a", 70, b"old");
    fake.store("a", 80, b"new");
    fake.store("b", 50, b"kept");
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    let posts = || server.got_at("db-snapshot").into_iter().filter(|got| got.method == "POST");
    until("the upload", || posts().count() == 1).await;
    assert!(client.town.finish(Duration::from_secs(20)).await);
    let [post] = posts().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(
        (post.body.as_slice(), post.header("x-snapshot-taken-at")),
        (&seal(b"new")[..], Some("80"))
    );
    assert_eq!(post.header("x-gastown-rig-id"), Some("rig%201"));
    assert_eq!(post.header("x-snapshot-sha256").map(str::len), Some(64));
}

#[tokio::test]
async fn what_is_stored_as_an_upload_ends_goes_up_too() {
    let fake = Fake::with(&["a"]);
    let stores = Arc::clone(&fake);
    // The answer comes within the moment for which changes are gathered.
    let server = Server::start(move |got| match got.method.as_str() {
        "GET" => Answer::Json(404, "{}".into()),
        "POST" if got.header("x-snapshot-taken-at") == Some("70") => {
            stores.store("a", 80, b"second");
            fine(got)
        }
        _ => fine(got),
    });
    let client = client(&server.url, 5000, |_| {});
    fake.store("a", 70, b"first");
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    let taken = || {
        let posts = server.got_at("db-snapshot").into_iter().filter(|got| got.method == "POST");
        posts.filter_map(|post| Some(post.header("x-snapshot-taken-at")?.to_owned())).collect()
    };
    until("the second upload", || -> bool {
        let taken: Vec<String> = taken();
        taken == ["70", "80"]
    })
    .await;
    assert!(client.town.finish(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn what_the_town_has_of_another_format_is_seen_before_anything_goes_up_and_stays() {
    let server = Server::start(|got| match got.method.as_str() {
        "GET" if got.path.contains("/a/") => {
            Answer::Octets(Vec::new(), b"SQLite format 3\0 and more".to_vec())
        }
        "GET" if got.path.contains("/b/") => {
            let mut newer = seal(b"of a newer program");
            newer[8] = 200;
            Answer::Octets(vec![("x-snapshot-taken-at", "1".into())], newer)
        }
        "GET" if got.path.contains("/c/") => Answer::Json(404, "{}".into()),
        _ => fine(got),
    });
    let (client, fake) = (client(&server.url, 5000, |_| {}), Fake::with(&["a", "b", "c"]));
    for agent in ["a", "b", "c"] {
        fake.store(agent, 70, b"new");
    }
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    let posts = || server.got_at("db-snapshot").into_iter().filter(|got| got.method == "POST");
    until("the upload of c", || posts().count() == 1).await;
    assert!(client.town.finish(Duration::from_secs(20)).await);
    let posts: Vec<_> = posts().map(|post| post.path).collect();
    assert_eq!(posts.len(), 1, "{posts:?}");
    assert!(posts[0].contains("/c/"), "{posts:?}");
    let asked = client.town.handle().snapshot(id("a"), None, Duration::from_secs(20)).await;
    assert!(matches!(asked, Ok(TownCopy::Foreign { bytes: 25, .. })), "{asked:?}");
}

#[tokio::test]
async fn nothing_goes_up_while_nobody_knows_what_the_town_has() {
    let fails = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&fails);
    let server = Server::start(move |got| match got.method.as_str() {
        "GET" if got.path.contains("db-snapshot") && answers.load(SeqCst) => {
            Answer::Json(500, "{}".into())
        }
        "GET" if got.path.contains("db-snapshot") => Answer::Json(404, "{}".into()),
        _ => fine(got),
    });
    let (client, fake) = (client(&server.url, 200, |_| {}), Fake::with(&["a"]));
    fake.store("a", 70, b"new");
    client.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    let got = |method: &'static str| {
        let all = server.got_at("db-snapshot").into_iter();
        all.filter(|got| got.method == method).count()
    };
    until("it was asked for more than once", || got("GET") > 1).await;
    assert_eq!(got("POST"), 0);
    fails.store(false, SeqCst);
    until("the upload", || got("POST") == 1).await;
}

#[tokio::test]
async fn a_shutdown_notice_says_where_each_agent_was_and_does_not_wait_for_ever() {
    let server = Server::start(fine);
    let quick = client(&server.url, 5000, |_| {});
    let fake = Fake::with(&["a"]);
    quick.town.follow(Arc::clone(&fake) as Arc<dyn Container>);
    quick.town.evict("SIGTERM").await.unwrap();
    assert_eq!(server.got_at("container-eviction")[0].json()["reason"], "SIGTERM");
    let context = server.got_at("/a/eviction-context")[0].json();
    assert_eq!(context["messageCount"], 3);
    let silent = Server::start(|_| Answer::Silence);
    let slow = client(&silent.url, 200, |_| {});
    slow.town.follow(Fake::with(&["a", "b"]));
    slow.town.evict("SIGTERM").await.unwrap();
    assert!(silent.got_at("eviction-context").is_empty(), "nobody answered the first call");
}

#[tokio::test]
async fn all_loops_end_when_a_newer_run_is_there() {
    let server = Server::start(|_| Answer::Json(409, r#"{"error":"fenced"}"#.into()));
    let client = client(&server.url, 5000, |config| config.heartbeat = Duration::from_millis(10));
    client.town.follow(Fake::with(&["a"]));
    until("the fence", || client.town.handle().figures().fenced).await;
    assert!(client.town.finish(Duration::from_secs(20)).await);
    assert_eq!(client.lines.names(), ["town.fenced"], "{}", client.lines.text());
    let got = server.got().len();
    client.lines.record(exit("a", ExitReason::Completed));
    client.town.evict("SIGTERM").await.unwrap();
    assert_eq!(server.got().len(), got);
}
