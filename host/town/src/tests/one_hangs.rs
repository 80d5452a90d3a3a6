//! A call that hangs for one agent: the same call about others is made meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_types::{Event, ExitReason};

use super::fake::Fake;
use super::reports::{exit, fine, tag};
use super::server::{Answer, Server};
use super::{Client, client, until};
use crate::Container;

/// One call, in milliseconds.
const CALL_MS: u64 = 6000;

/// Far less than that.
const SOON: Duration = Duration::from_secs(3);

/// A town that hangs when it is asked for `end` about `a`.
fn town(end: &'static str) -> Server {
    Server::start(move |got| {
        let is_it = got.path.ends_with(end) && got.header("x-gastown-agent-id") == Some("a");
        if is_it { Answer::Silence } else { fine(got) }
    })
}

fn came(server: &Server, end: &str, agent: &str) -> bool {
    let got = server.got_at(end);
    got.iter().any(|got| got.header("x-gastown-agent-id") == Some(agent))
}

/// Does something to `a`, and to `b` while the town hangs for `a`.
async fn check(end: &'static str, fake: &Arc<Fake>, act: impl Fn(&Client, &'static str)) {
    let server = town(end);
    let client = client(&server.url, CALL_MS, |_| {});
    client.town.follow(Arc::clone(fake) as Arc<dyn Container>);
    act(&client, "a");
    until("the call that hangs", || came(&server, end, "a")).await;
    let began = Instant::now();
    act(&client, "b");
    until("the call about the other", || came(&server, end, "b")).await;
    let took = began.elapsed();
    assert!(took < SOON, "{end} of the other came after {took:?}");
    assert_eq!(client.lines.count("town.unreachable"), 0, "{}", client.lines.text());
}

#[tokio::test]
async fn the_end_of_another_agent_is_reported() {
    let fake = Fake::with(&[]);
    fake.set("a", "exited");
    fake.set("b", "exited");
    let ends = |client: &Client, agent| {
        client.town.handle().hear(&exit(agent, ExitReason::Completed));
    };
    check("/completed", &fake, ends).await;
}

#[tokio::test]
async fn the_events_of_another_agent_are_sent() {
    let fake = Fake::with(&["a", "b"]);
    let event = |_: &Client, agent| _ = fake.ring(agent).push_value("n", &1);
    check("/agent-events", &fake, event).await;
}

#[tokio::test]
async fn the_nudges_of_another_agent_are_asked_for() {
    let fake = Fake::with(&["a", "b"]);
    let starts = |client: &Client, agent| {
        client.town.handle().hear(&Event::AgentTurn {
            agent: tag(agent),
            message_id: "m".into(),
            outcome: None,
            error: None,
            cpu_us: 0,
            wall_ms: 0,
        });
    };
    check("/pending-nudges", &fake, starts).await;
}

#[tokio::test]
async fn the_snapshot_of_another_agent_is_sent() {
    let fake = Fake::with(&["a", "b"]);
    let stores = |_: &Client, agent| fake.store(agent, 1, b"state");
    check("/db-snapshot", &fake, stores).await;
}

#[tokio::test]
async fn where_another_agent_was_is_reported_at_the_end() {
    const BAD: [&str; 9] = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"];
    let server = Server::start(|got| {
        let hangs =
            BAD.iter().any(|agent| got.path.ends_with(&format!("/{agent}/eviction-context")));
        if hangs { Answer::Silence } else { fine(got) }
    });
    let client = client(&server.url, CALL_MS, |_| {});
    client.town.follow(Fake::with(&[&BAD[..], &["b"]].concat()));
    let began = Instant::now();
    drop(client.town.evict("SIGTERM"));
    until("the other's", || came(&server, "/eviction-context", "b")).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
