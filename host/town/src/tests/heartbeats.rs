//! Heartbeats beside a town that misbehaves for some agents.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fake::Fake;
use super::reports::fine;
use super::server::{Answer, Got, Server};
use super::{Client, client, until};
use crate::TownConfig;

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(100);

/// One call, in milliseconds: as with the defaults, this is far longer than anything else.
const CALL_MS: u64 = 2000;

/// What a busy machine may be late by.
const LATE: Duration = Duration::from_secs(1);

/// Whether it is the heartbeat of one of these agents.
fn beats(got: &Got, agents: &[&str]) -> bool {
    agents.iter().any(|agent| got.path.ends_with(&format!("/{agent}/heartbeat")))
}

fn is_of_container(got: &Got) -> bool {
    got.path.ends_with("container-heartbeat")
}

fn quick(config: &mut TownConfig) {
    config.heartbeat = BEAT;
}

fn follow(server: &Server, agents: &[&str], change: fn(&mut TownConfig)) -> Client {
    let client = client(&server.url, CALL_MS, change);
    client.town.follow(Fake::with(agents));
    client
}

fn of(server: &Server, agent: &str) -> usize {
    server.got_at(&format!("/{agent}/heartbeat")).len()
}

#[tokio::test]
async fn agents_for_whom_the_town_hangs_delay_neither_others_nor_the_container() {
    const BAD: [&str; 9] = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"];
    const GOOD: [&str; 11] = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9", "c0"];
    let came = Arc::new(Mutex::new(HashMap::<String, Vec<Instant>>::new()));
    let came_to = Arc::clone(&came);
    let server = Server::start(move |got| {
        came_to.lock().entry(got.path.clone()).or_default().push(Instant::now());
        if beats(got, &BAD) { Answer::Silence } else { fine(got) }
    });
    let client = follow(&server, &[&BAD[..], &GOOD[..]].concat(), quick);
    until("heartbeats", || GOOD.iter().all(|agent| of(&server, agent) >= 20)).await;
    until("another try", || of(&server, "a1") > 1).await;
    let came = came.lock().clone();
    for (path, times) in &came {
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        let longest = gaps.max().unwrap_or_default();
        let is_of_bad = BAD.iter().any(|agent| path.contains(&format!("/{agent}/")));
        assert!(is_of_bad || longest < LATE, "{path}: {longest:?} between two");
    }
    assert_eq!(client.lines.count("town.unreachable"), 0, "{}", client.lines.text());
}

#[tokio::test]
async fn one_for_whom_the_town_hangs_is_no_silence_also_when_nobody_else_calls() {
    let server = Server::start(|got| if beats(got, &["a"]) { Answer::Silence } else { fine(got) });
    // Nothing comes while the call waits but what is sent to find out.
    let client = client(&server.url, 200, |config| config.heartbeat = Duration::from_millis(500));
    client.town.follow(Fake::with(&["a"]));
    until("some tries", || of(&server, "a") >= 4).await;
    assert_eq!(client.lines.count("town.unreachable"), 0, "{}", client.lines.text());
}

#[tokio::test]
async fn who_finds_out_whether_the_town_is_back_is_another_one_each_time() {
    const ALL_WELL: usize = 0;
    const SILENT: usize = 1;
    let mode = Arc::new(AtomicUsize::new(ALL_WELL));
    let asked = Arc::clone(&mode);
    let server = Server::start(move |got| match asked.load(SeqCst) {
        _ if is_of_container(got) => Answer::Json(404, "{}".into()),
        SILENT => Answer::Silence,
        _ if beats(got, &["a"]) => Answer::Silence,
        _ => fine(got),
    });
    let client = client(&server.url, 300, quick);
    client.town.follow(Fake::with(&["a", "b", "c"]));
    until("heartbeats", || of(&server, "b") > 2 && of(&server, "a") > 1).await;
    assert_eq!(client.lines.count("town.unreachable"), 0, "{}", client.lines.text());
    assert_eq!(client.lines.count("town.call_switched_off"), 1, "{}", client.lines.text());
    mode.store(SILENT, SeqCst);
    until("silence", || client.lines.count("town.unreachable") == 1).await;
    mode.store(ALL_WELL, SeqCst);
    until("an answer", || client.lines.count("town.reachable") == 1).await;
    let before = of(&server, "c");
    until("heartbeats", || of(&server, "c") > before + 5).await;
    assert_eq!(client.lines.count("town.unreachable"), 1, "{}", client.lines.text());
}

#[tokio::test]
async fn a_heartbeat_that_fails_backs_off_and_is_given_up_and_tried_again() {
    let server = Server::start(|got| match beats(got, &["a"]) {
        true => Answer::Json(400, r#"{"error":"unknown agent"}"#.into()),
        false => fine(got),
    });
    let client = client(&server.url, CALL_MS, |config| {
        config.heartbeat = Duration::from_millis(20);
        config.give_up = Duration::from_secs(1);
    });
    client.town.follow(Fake::with(&["a", "b"]));
    until("its end", || client.lines.count("town.call_given_up") == 1).await;
    let given_up = client.town.handle().figures().given_up;
    assert_eq!(given_up, [("heartbeat", 1)]);
    let (tried, others) = (of(&server, "a"), of(&server, "b"));
    assert!(tried * 2 < others, "{tried} tries beside {others} heartbeats");
    until("another one", || of(&server, "a") > tried).await;
}

#[tokio::test]
async fn a_town_that_refuses_only_the_containers_heartbeat_issues_no_token() {
    for agents in [&[][..], &["a"]] {
        let server = Server::start(|got| match is_of_container(got) {
            true => Answer::Json(401, "{}".into()),
            false => fine(got),
        });
        let client = follow(&server, agents, quick);
        until("its end", || client.lines.count("town.call_switched_off") == 1).await;
        assert_eq!(server.got_at("refresh-container-token").len(), 0, "with {agents:?}");
        assert_eq!(client.lines.names(), ["town.call_switched_off"], "{}", client.lines.text());
    }
}

#[tokio::test]
async fn a_token_that_is_refused_everywhere_is_replaced_also_without_agents() {
    const NEW: &str = "hunter2-new";
    let is_old = Arc::new(AtomicUsize::new(0));
    let old = Arc::clone(&is_old);
    let server = Server::start(move |got| match got.path.ends_with("refresh-container-token") {
        true => Answer::Json(200, format!(r#"{{"data":{{"token":"{NEW}"}}}}"#)),
        false if old.load(SeqCst) == 1 && got.token() != NEW => Answer::Json(401, "{}".into()),
        false => fine(got),
    });
    let client = follow(&server, &[], quick);
    until("heartbeats", || server.got_at("container-heartbeat").len() > 2).await;
    is_old.store(1, SeqCst);
    let is_new = |got: &Got| is_of_container(got) && got.token() == NEW;
    until("the new token", || server.got().iter().any(is_new)).await;
    assert_eq!(server.got_at("refresh-container-token").len(), 1);
    assert_eq!(client.lines.names(), ["town.token_refreshed"], "{}", client.lines.text());
}
