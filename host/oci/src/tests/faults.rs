//! What registries do and should not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::server::{Reply, Then};
use super::*;

#[tokio::test]
async fn bytes_with_another_digest_are_refused_and_not_asked_for_again() {
    for part in ["/manifests/", "/blobs/"] {
        let town = Town::new();
        let digest = town.server.push(&wasm());
        town.server.answers(move |asked, _| {
            let mut evil = wasm();
            evil[1000] ^= 1;
            asked.path.contains(part).then(|| Reply::new(200, &evil))
        });
        let cause = town.get(digest).await.unwrap_err();
        assert!(matches!(cause, Cause::WrongDigest { .. }), "{cause}");
        assert_eq!(town.server.asked_for(part).len(), 1, "{part}");
        town.has_nothing();
    }
}

#[tokio::test]
async fn a_truncated_body_is_resumed_where_it_ended() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    town.server.answers(|asked, before| {
        let half = Reply::new(200, &wasm()).sends(500_000, Then::Closes);
        (asked.path.contains("/blobs/") && before == 0).then_some(half)
    });
    let component = town.get(digest).await.unwrap();
    assert!(fs::read(&component.path).unwrap() == wasm());
    let ranges: Vec<_> = town.server.asked_for("/blobs/").into_iter().map(|it| it.range).collect();
    let [None, Some(range)] = &*ranges else { panic!("{ranges:?}") };
    let from: usize = range[6..range.len() - 1].parse().unwrap();
    assert!(0 < from && from <= 500_000, "{range}");
}

#[tokio::test]
async fn one_that_does_not_resume_is_taken_from_the_beginning() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    let whole = Reply::new(200, &wasm());
    let wrong_rest = Reply::new(206, &wasm()).with("Content-Range", "bytes 7-1199999/1200000");
    let no_range = Reply::new(416, b"");
    for second in [whole, wrong_rest, no_range] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { dir: dir.path().into(), ..town.settings.clone() };
        let seen = AtomicBool::default();
        town.server.answers(move |asked, _| {
            let half = Reply::new(200, &wasm()).sends(500_000, Then::Closes);
            match (asked.path.contains("/blobs/"), &asked.range) {
                (true, None) if !seen.swap(true, Ordering::SeqCst) => Some(half),
                (true, Some(_)) => Some(second.clone()),
                _ => None,
            }
        });
        let got = Registries::open(settings).get(&town.reference(digest), None).await;
        assert!(fs::read(&got.unwrap().path).unwrap() == wasm());
    }
}

#[tokio::test]
async fn pieces_that_do_not_fit_are_thrown_away() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    town.server.answers(|asked, before| match (asked.path.contains("/blobs/"), before) {
        (true, 0) => Some(Reply::new(200, &wasm()).sends(500_000, Then::Closes)),
        (true, 1) => {
            let from: usize =
                asked.range.as_ref()?.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
            let range = format!("bytes {from}-1199999/1200000");
            Some(Reply::new(206, &vec![7; wasm().len() - from]).with("Content-Range", range))
        }
        _ => None,
    });
    assert!(fs::read(&town.get(digest).await.unwrap().path).unwrap() == wasm());
    assert_eq!(town.server.asked_for("/blobs/").len(), 3);
}

#[tokio::test]
async fn more_bytes_than_the_manifest_says_are_not_taken() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    town.server.answers(|asked, _| {
        let more = [wasm(), vec![0; 1_000_000]].concat();
        asked.path.contains("/blobs/").then(|| Reply::new(200, &more))
    });
    let cause = town.get(digest).await.unwrap_err();
    assert!(matches!(cause, Cause::TooLarge { max_bytes: 1_200_000, .. }), "{cause}");
    town.has_nothing();
}

#[tokio::test]
async fn a_body_that_stalls_is_resumed() {
    let mut town = Town::new();
    town.settings.times.stall = Duration::from_millis(300);
    let digest = town.server.push(&wasm());
    town.server.answers(|asked, before| match (asked.path.contains("/blobs/"), before) {
        (true, 0) => Some(Reply::new(200, &wasm()).sends(500_000, Then::Hangs)),
        _ => None,
    });
    assert!(fs::read(&town.get(digest).await.unwrap().path).unwrap() == wasm());
}

#[tokio::test]
async fn a_registry_that_never_ends_an_answer_costs_the_deadline_and_no_more() {
    for stall_ms in [100, 60_000] {
        let mut town = Town::new();
        town.settings.times.stall = Duration::from_millis(stall_ms);
        town.settings.times.fetch = Duration::from_secs(2);
        let digest = town.server.push(&wasm());
        town.server.answers(|asked, _| {
            let hangs = Reply::new(200, &wasm()).sends(0, Then::Hangs);
            asked.path.contains("/blobs/").then_some(hangs)
        });
        let began = Instant::now();
        let cause = town.get(digest).await.unwrap_err();
        assert!(cause.is_outage(), "{cause}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        town.has_nothing();
    }
}

#[tokio::test]
async fn a_registry_that_asks_for_time_gets_it() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    town.server.answers(|asked, before| {
        let busy = Reply::new(if asked.path.contains("/blobs/") { 503 } else { 429 }, b"");
        (before == 0).then(|| busy.with("Retry-After", "1"))
    });
    town.get(digest).await.unwrap();
    for part in ["/manifests/", "/blobs/"] {
        let times: Vec<_> = town.server.asked_for(part).into_iter().map(|it| it.at).collect();
        let [first, second] = &*times else { panic!("{part}: {times:?}") };
        assert!(*second - *first >= Duration::from_secs(1), "{part}");
    }
}

#[tokio::test]
async fn a_wait_that_is_longer_than_the_deadline_fails_at_once() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    town.server.answers(|_, _| Some(Reply::new(429, b"").with("Retry-After", "200")));
    let cause = town.get(digest).await.unwrap_err();
    assert!(cause.to_string().ends_with("is busy: it answered 429"), "{cause}");
    assert_eq!(town.server.asked().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let town = Town::new();
    let cause = town.get(Digest([9; 32])).await.unwrap_err();
    let text = cause.to_string();
    assert!(matches!(cause, Cause::NotFound { .. }), "{text}");
    assert!(text.contains(&format!("no manifest sha256:{}", Digest([9; 32]))), "{text}");
    assert!(text.contains("in town/toast"), "{text}");
    town.server.answers(|_, _| {
        Some(Reply::new(400, br#"{"errors":[{"code":"NAME_INVALID","message":"bad name"}]}"#))
    });
    let text = town.get(Digest([9; 32])).await.unwrap_err().to_string();
    assert!(text.ends_with("answered 400 (NAME_INVALID: bad name)"), "{text}");
}

#[tokio::test]
async fn nobody_there_is_an_outage_that_names_the_registry() {
    let mut town = Town::new();
    town.settings.times.fetch = Duration::from_secs(1);
    let (reference, settings) = (town.reference(Digest([9; 32])), town.settings.clone());
    let at = town.server.at;
    drop(town.server);
    let error = Registries::open(settings).get(&reference, None).await.unwrap_err();
    assert!(error.cause.is_outage() && error.to_string().contains(&at.to_string()), "{error}");
}

#[tokio::test]
async fn a_registry_without_tls_is_another_machines_only_when_that_is_allowed() {
    let town = Town::new();
    for (location, reason) in [
        (
            "http://registry.example/blob?sig=hunter2",
            "redirects to registry.example:80 over HTTP without TLS",
        ),
        ("ftp://registry.example/blob", "redirects to nowhere"),
        ("//registry.example/blob", "redirects to nowhere"),
        ("/v2/again", "redirects more than 5 times"),
    ] {
        town.server.answers(move |_, _| Some(Reply::new(307, b"").with("Location", location)));
        let cause = town.get(Digest([9; 32])).await.unwrap_err().to_string();
        assert!(cause.ends_with(reason) && !cause.contains("hunter2"), "{location}: {cause}");
    }
    let reference =
        Reference::parse(&format!("oci://registry.example/a@sha256:{}", Digest([9; 32])));
    let session = |plain_http| {
        let mut settings = town.settings.clone();
        settings.others.plain_http = plain_http;
        crate::session::Session::new(Arc::new(settings), reference.clone().unwrap()).at()
    };
    assert_eq!(session(None), "registry.example:443");
    assert_eq!(session(Some(false)), "registry.example:443");
    assert_eq!(session(Some(true)), "registry.example:80");
}
