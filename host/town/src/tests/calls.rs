//! Tokens, tries, the fence.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::server::{Answer, Got, Server};
use super::{RUN, client, secret, until};
use crate::Cause;

const SOON: Duration = Duration::from_secs(20);

fn empty() -> Answer {
    Answer::Json(200, r#"{"success":true,"data":[]}"#.into())
}

/// A town that takes one token, and gives `new` for it.
fn takes(token: &'static str, new: &'static str) -> impl Fn(&Got) -> Answer + Send + Sync {
    move |got| {
        if got.path.ends_with("refresh-container-token") {
            return Answer::Json(200, format!(r#"{{"data":{{"token":"{new}"}}}}"#));
        }
        match got.token() == token {
            true => empty(),
            false => Answer::Json(401, r#"{"success":false,"error":"token expired"}"#.into()),
        }
    }
}

#[tokio::test]
async fn a_call_says_who_calls_and_finds_the_prefix() {
    let server = Server::start(|_| {
        let row = r#"{"agentId":"a","request":{"agentId":"a","role":"r"},"env":{"K":"v"}}"#;
        Answer::Json(200, format!(r#"{{"data":[{row}]}}"#))
    });
    let client = client(&format!("{}/gas/", server.url), 5000, |_| {});
    let registry = client.town.handle().registry(SOON).await.unwrap();
    assert_eq!(registry.agents[0].request.env_vars["K"].expose(), "v");
    let got = &server.got()[0];
    assert_eq!(
        (got.method.as_str(), got.path.as_str()),
        ("GET", "/gas/api/towns/riverside/container-registry")
    );
    assert_eq!((got.token(), got.header("x-bulkhead-run-id")), ("hunter2-first", Some(RUN)));
    assert!(client.lines.names().is_empty(), "{}", client.lines.text());
    let figures = client.town.handle().figures();
    assert!(figures.calls.contains(&("registry_get", "ok", 1)) && figures.reachable);
}

#[tokio::test]
async fn one_refresh_serves_all_who_were_refused() {
    let server = Server::start(takes("hunter2-new", "hunter2-new"));
    let client = client(&server.url, 20_000, |_| {});
    let calls = (0..20).map(|_| client.town.handle().registry(SOON));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
    let refreshes = server.got_at("refresh-container-token");
    assert_eq!(refreshes.len(), 1);
    assert_eq!(refreshes[0].token(), "hunter2-first");
    assert_eq!(client.lines.names(), ["town.token_refreshed"]);
    assert!(!client.lines.text().contains("hunter2"), "{}", client.lines.text());
}

#[tokio::test]
async fn a_refresh_that_does_not_help_is_made_once_and_its_call_repeated_once() {
    let server = Server::start(takes("another", "hunter2-useless"));
    let client = client(&server.url, 5000, |_| {});
    let fault = client.town.handle().registry(SOON).await.unwrap_err();
    assert_eq!((fault.cause, fault.status), (Cause::Status, Some(401)));
    assert_eq!(server.got_at("container-registry").len(), 2);
    assert_eq!(server.got_at("refresh-container-token").len(), 1);
    assert_eq!(client.lines.count("town.call_failed"), 1);
}

#[tokio::test]
async fn a_refused_refresh_is_not_asked_again_for_every_call() {
    let server = Server::start(|_| Answer::Json(401, r#"{"error":"no"}"#.into()));
    let client = client(&server.url, 5000, |_| {});
    for _ in 0..5 {
        assert_eq!(client.town.handle().registry(SOON).await.unwrap_err().status, Some(401));
    }
    assert_eq!(server.got_at("refresh-container-token").len(), 1);
    assert_eq!(server.got_at("container-registry").len(), 5);
    // Another token is another chance.
    client.town.handle().refresh_token(secret("hunter2-other")).unwrap();
    client.town.handle().registry(SOON).await.unwrap_err();
    assert_eq!(server.got_at("refresh-container-token").len(), 2);
    assert_eq!(server.got().last().unwrap().token(), "hunter2-other");
}

#[tokio::test]
async fn a_call_that_was_refused_with_an_old_token_goes_again_with_the_new_one() {
    let server = Arc::new(parking_lot::Mutex::new(None::<crate::Handle>));
    let handle_of = Arc::clone(&server);
    let town = Server::start(move |got| {
        if got.token() != "hunter2-pushed" {
            // The town pushes a token while it refuses a call with the old one.
            let handle = handle_of.lock().clone().unwrap();
            handle.refresh_token(secret("hunter2-pushed")).unwrap();
            return Answer::Json(401, "{}".into());
        }
        empty()
    });
    let client = client(&town.url, 5000, |_| {});
    *server.lock() = Some(client.town.handle().clone());
    client.town.handle().registry(SOON).await.unwrap();
    assert!(town.got_at("refresh-container-token").is_empty());
    assert_eq!(client.lines.names(), ["refresh_token.received"]);
    *server.lock() = None;
}

#[tokio::test]
async fn a_token_that_ends_soon_is_replaced_before_anybody_is_refused() {
    use base64::Engine as _;
    let jwt = |seconds: i64| {
        let exp = bulkhead_log::now().0 / 1000 + seconds;
        let payload =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}"));
        format!("e30.{payload}.sig")
    };
    let long = jwt(7200);
    let answer = format!(r#"{{"data":{{"token":"{long}"}}}}"#);
    let server = Server::start(move |_| Answer::Json(200, answer.clone()));
    let client = client(&server.url, 5000, |config| config.token = secret(&jwt(60)));
    until("the refresh", || client.lines.count("town.token_refreshed") == 1).await;
    let _ = client.town.handle().registry(SOON).await;
    assert_eq!(server.got_at("container-registry")[0].token(), long);
    assert_eq!(server.got_at("refresh-container-token").len(), 1);
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_and_a_refusal_is_not() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let server = Server::start(move |_| match counted.fetch_add(1, SeqCst) {
        0 => Answer::Json(503, "{}".into()),
        1 => Answer::Raw(Vec::new()),
        2 => empty(),
        _ => Answer::Json(422, r#"{"error":"no\nline"}"#.into()),
    });
    let client = client(&server.url, 20_000, |_| {});
    client.town.handle().registry(SOON).await.unwrap();
    assert_eq!(tries.load(SeqCst), 3);
    assert!(client.lines.names().is_empty(), "it came through: {}", client.lines.text());
    let fault = client.town.handle().registry(SOON).await.unwrap_err();
    assert_eq!((tries.load(SeqCst), fault.status), (4, Some(422)));
    assert!(fault.message.ends_with("no line"), "{fault}");
}

#[tokio::test]
async fn a_success_that_is_not_the_towns_is_none() {
    for page in
        ["<html>Sign in", "", "[1]", "7", r#"{"success":7}"#, r#"{"success":false,"error":"no"}"#]
    {
        let server = Server::start(move |got| match super::reports::asks_for_registry(got) {
            true => empty(),
            false => Answer::Json(200, page.into()),
        });
        let client = client(&server.url, 5000, |config| config.heartbeat = SOON);
        let follower = Arc::new(super::fake::Fake::default());
        client.town.follow(follower);
        until("the failure", || client.lines.text().contains(r#""call":"registry_post""#)).await;
        let figures = client.town.handle().figures();
        assert!(!figures.calls.contains(&("registry_post", "ok", 1)), "{page}");
    }
}

#[tokio::test]
async fn a_newer_run_ends_all_calls_and_is_logged_once() {
    let server = Server::start(|_| {
        let body = r#"{"success":false,"error":"fenced","data":{"runId":"newer"}}"#;
        Answer::Json(409, body.into())
    });
    let client = client(&server.url, 5000, |_| {});
    for _ in 0..3 {
        assert_eq!(client.town.handle().registry(SOON).await.unwrap_err().cause, Cause::Fenced);
    }
    assert_eq!(server.got().len(), 1);
    assert_eq!(client.lines.names(), ["town.fenced"]);
    assert!(client.lines.text().contains(r#""newerRunId":"newer""#));
    assert!(client.town.handle().figures().fenced);
}

#[tokio::test]
async fn a_connection_is_used_again_and_one_that_was_closed_is_not_missed() {
    let server = Server::start(|got| match got.token() {
        "hunter2-closing" => Answer::JsonThenClose(r#"{"data":[]}"#.into()),
        _ => empty(),
    });
    let client = client(&server.url, 20_000, |_| {});
    for _ in 0..5 {
        client.town.handle().registry(SOON).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    client.town.handle().refresh_token(secret("hunter2-closing")).unwrap();
    for _ in 0..5 {
        client.town.handle().registry(SOON).await.unwrap();
    }
    assert!(server.got().len() >= 10 && server.connections() >= 5);
    assert_eq!(client.lines.names(), ["refresh_token.received"], "{}", client.lines.text());
}
