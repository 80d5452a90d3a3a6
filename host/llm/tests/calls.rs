//! Tries, keys and connections over a real socket.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

mod common;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bulkhead_llm::{Bounds, Chat, Endpoint, Error, Part, Request, Settings};
use bulkhead_net::{BaseUrl, Connector, Credential, Proxies, ReadCredential, System};
use bulkhead_types::Secret;
use common::{
    Asked, NARROW, Server, Step, WIDE, ask, chunk, document, end, endpoint, joined, ok, outcome,
    question, settings, stream,
};
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

const HALF: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n";
const FINE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"fine\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// In one piece, so that the next request finds the connection read to its end.
fn fine() -> Vec<Step> {
    vec![joined(stream(&[FINE]))]
}

/// The first requests get these answers, all others a fine one.
fn first(answers: Vec<Vec<Step>>) -> Server {
    Server::start(move |asked: &Asked| answers.get(asked.number).cloned().unwrap_or_else(fine))
}

fn secret(text: &str) -> Secret {
    text.to_owned().into()
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let busy = |status: &str| document(status, "retry-after-ms: 1\r\n", "{}");
    for answer in [
        busy("408 Request Timeout"),
        busy("429 Too Many Requests"),
        busy("500 Internal Server Error"),
        busy("529 Overloaded"),
        vec![Step::Close],
        vec![Step::Reset],
        stream(&[]),
        vec![ok(), chunk(": hi\n\n"), Step::Close],
        stream(&["data: {\"error\":{\"message\":\"died\",\"code\":502}}\n\n"]),
        stream(&["data: {\"error\":\"died\"}\n\n"]),
    ] {
        let server = first(vec![answer.clone()]);
        let mut chat = ask(&endpoint(server.address, WIDE), question());
        assert_eq!(outcome(&mut chat).await, "text fine, stop", "{answer:?}");
        assert_eq!((chat.tries(), server.asked().len()), (2, 2), "{answer:?}");
    }
}

#[tokio::test]
async fn silence_before_the_first_part_is_tried_again() {
    for answer in [vec![Step::Hang], vec![ok(), Step::Hang]] {
        let server = first(vec![answer]);
        let bounds = Bounds { retries: 2, ..NARROW };
        // A busy machine may be silent by itself.
        let bounds =
            Bounds { first_byte: bounds.first_byte * 10, idle: bounds.idle * 10, ..bounds };
        let mut chat = ask(&endpoint(server.address, bounds), question());
        assert_eq!(outcome(&mut chat).await, "text fine, stop");
        assert_eq!(chat.tries(), 2);
    }
}

#[tokio::test]
async fn what_has_arrived_behind_a_part_is_known_without_waiting() {
    const BOTH: &str =
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":\"half\"}}]}\n\n";
    for (answer, kinds) in [
        (fine(), &["text", "end"][..]),
        (vec![ok(), chunk(HALF), Step::Hang], &["text"]),
        (vec![ok(), chunk(BOTH), Step::Hang], &["reasoning", "text"]),
    ] {
        let server = first(vec![answer.clone()]);
        let mut chat = ask(&endpoint(server.address, WIDE), question());
        assert!(!chat.has_more(), "{answer:?}");
        let mut found = Vec::new();
        while found.is_empty() || chat.has_more() {
            match chat.next().await {
                Some(Ok(Part::Text(_))) => found.push("text"),
                Some(Ok(Part::Reasoning(_))) => found.push("reasoning"),
                Some(Ok(Part::End(_))) => found.push("end"),
                None => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(found, kinds, "{answer:?}");
    }
}

#[tokio::test]
async fn what_will_fail_again_is_not() {
    for (answer, error) in [
        (document("400 Bad Request", "", r#"{"error":"no"}"#), "rejected 400 main: no"),
        (document("401 Unauthorized", "", r#"{"error":"no"}"#), "rejected 401 main: no"),
        (stream(&["upstream is away"]), "bad answer main: neither events nor JSON"),
    ] {
        let server = first(vec![answer]);
        let mut chat = ask(&endpoint(server.address, WIDE), question());
        let found = outcome(&mut chat).await;
        assert!(found.starts_with(error), "{found}");
        assert_eq!((chat.tries(), server.asked().len()), (1, 1));
    }
}

#[tokio::test]
async fn after_the_first_part_nothing_is_repeated() {
    for end in [vec![Step::Close], vec![Step::Reset], vec![Step::Hang]] {
        // In one piece: a pause between the head and the first part would be a reason for another try.
        let half = joined([ok(), chunk(HALF)]);
        let server = first(vec![std::iter::once(half).chain(end).collect()]);
        let bounds = Bounds { idle: NARROW.idle, ..WIDE };
        let mut chat = ask(&endpoint(server.address, bounds), question());
        let found = outcome(&mut chat).await;
        assert!(found.starts_with("text half, "), "{found}");
        assert_eq!((chat.tries(), server.asked().len()), (1, 1));
    }
}

#[tokio::test]
async fn tries_end_with_their_number_and_with_the_time() {
    let busy = document("503 Service Unavailable", "retry-after-ms: 0\r\n", r#"{"error":"busy"}"#);
    let server = Server::start(move |_: &Asked| busy.clone());
    let mut chat = ask(&endpoint(server.address, Bounds { retries: 1, ..WIDE }), question());
    assert_eq!(outcome(&mut chat).await, "unavailable main: status 503: busy");
    assert_eq!(chat.tries(), 2);
    // A pause that the time has no room for is not begun.
    let later = document("429 Too Many Requests", "retry-after: 9\r\n", r#"{"error":"busy"}"#);
    let server = Server::start(move |_: &Asked| later.clone());
    let bounds = Bounds { whole: Duration::from_secs(8), ..WIDE };
    let mut chat = ask(&endpoint(server.address, bounds), question());
    assert_eq!(outcome(&mut chat).await, "rate limited Some(9000) main: busy");
    assert_eq!(chat.tries(), 1);
    // Nothing is sent when the time is over already.
    let server = Server::start(|_: &Asked| fine());
    let endpoint = endpoint(server.address, WIDE);
    let mut chat = endpoint.chat(question(), None, Instant::now(), Arc::new(System));
    assert_eq!(outcome(&mut chat).await, "timeout main: the time for the call is over");
    assert_eq!((chat.tries(), server.asked().len()), (0, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut chat = ask(&endpoint(gone, Bounds { retries: 1, ..WIDE }), question());
    let found = outcome(&mut chat).await;
    assert!(found.starts_with("unavailable main: cannot connect to 127.0.0.1:"), "{found}");
    assert_eq!(chat.tries(), 2);
}

#[tokio::test]
async fn a_proxy_that_is_silent_is_no_connection() {
    let server = Server::start(|_: &Asked| vec![Step::Hang]);
    let proxy = format!("http://{}", server.address);
    let proxies =
        Proxies::from_env(|name| (name == "HTTPS_PROXY").then(|| proxy.clone().into())).unwrap();
    let settings = Settings {
        base: BaseUrl::parse("https://models.example/v1").unwrap(),
        connector: Connector { proxies, ..Connector::default() },
        ..settings(server.address, NARROW)
    };
    let endpoint = Arc::new(Endpoint::new(settings, Credential::default()));
    let found = outcome(&mut ask(&endpoint, question())).await;
    assert_eq!(found, "unavailable main: no connection within 60 ms: waiting for the proxy");
}

#[tokio::test]
async fn a_proxy_gets_the_whole_url() {
    let server = Server::start(|_: &Asked| fine());
    let proxy = format!("http://user:pass@{}", server.address);
    let proxies =
        Proxies::from_env(|name| (name == "HTTP_PROXY").then(|| proxy.clone().into())).unwrap();
    let settings = Settings {
        base: BaseUrl::parse("http://models.example/v1").unwrap(),
        connector: Connector { proxies, ..Connector::default() },
        ..settings(server.address, WIDE)
    };
    let endpoint = Arc::new(Endpoint::new(settings, Credential::default()));
    for _ in 0..2 {
        assert_eq!(outcome(&mut ask(&endpoint, question())).await, "text fine, stop");
    }
    let asked = server.asked();
    assert!(asked[1].head.starts_with("POST http://models.example/v1/chat/completions HTTP/1.1"));
    assert_eq!(asked[1].header("host"), Some("models.example"));
    assert!(asked[1].header("proxy-authorization").is_some());
    assert_eq!(asked[1].connection, 0);
}

#[tokio::test]
async fn a_request_has_its_headers_and_what_is_extra() {
    let server = Server::start(|_: &Asked| fine());
    let header = |name: &'static str, value: &'static str| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let settings = Settings {
        headers: vec![
            header("accept", "a"),
            header("accept", "b"),
            header("x-title", "bulkhead"),
            header("content-length", "7"),
            header("host", "elsewhere"),
        ],
        ..settings(server.address, WIDE)
    };
    let endpoint = Arc::new(Endpoint::new(settings, Credential::fixed(secret("sk-test"))));
    assert_eq!(endpoint.url(), format!("http://{}/v1/chat/completions", server.address));
    let extra = json!({"temperature": 0.5, "top_k": 3, "stream_options": null});
    let extra = extra.as_object().cloned().unwrap();
    let of_call = [header("traceparent", "00-1-2-01"), header("x-title", "not this")];
    let headers = of_call.into_iter().collect();
    let request = Request { temperature: Some(0.7), extra, headers, ..question() };
    assert_eq!(outcome(&mut ask(&endpoint, request)).await, "text fine, stop");
    let asked = server.asked().remove(0);
    assert_eq!(asked.header("traceparent"), Some("00-1-2-01"));
    assert!(asked.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", asked.head);
    assert_eq!(asked.header("host"), Some(server.address.to_string().as_str()));
    assert_eq!(asked.header("authorization"), Some("Bearer sk-test"));
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("x-title"), Some("bulkhead"));
    assert_eq!(asked.header("accept"), Some("a"));
    assert!(asked.body.get("stream_options").is_none());
    assert_eq!((&asked.body["temperature"], &asked.body["top_k"]), (&json!(0.5), &json!(3)));
}

#[tokio::test]
async fn a_secret_of_a_header_is_in_no_error() {
    let words = r#"{"error":"is it hunter2 or s3cret?"}"#;
    let server = Server::start(|_: &Asked| document("403 Forbidden", "", words));
    let header = |name: &'static str, value: &'static str| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let settings = Settings {
        headers: vec![header("api-key", "hunter2"), header("authorization", "Basic s3cret")],
        ..settings(server.address, WIDE)
    };
    let endpoint = Arc::new(Endpoint::new(settings, Credential::default()));
    let found = outcome(&mut ask(&endpoint, question())).await;
    assert_eq!(found, "rejected 403 main: is it [key] or [key]?");
}

#[tokio::test]
async fn a_key_that_no_header_holds_is_not_sent() {
    let server = Server::start(|_: &Asked| fine());
    let endpoint = endpoint(server.address, WIDE);
    let deadline = Instant::now() + WIDE.whole;
    let key = Some(secret("a\nb"));
    let mut chat = endpoint.chat(question(), key, deadline, Arc::new(System));
    let found = outcome(&mut chat).await;
    assert!(found.starts_with("rejected 401 main: its key cannot be sent"), "{found}");
    assert_eq!(server.asked().len(), 0);
}

// Keys.

/// Takes only this key.
fn takes(key: &'static str) -> Server {
    Server::start(move |asked: &Asked| {
        match asked.header("authorization") == Some(&format!("Bearer {key}")) {
            true => fine(),
            false => document("401 Unauthorized", "", r#"{"error":"unknown key"}"#),
        }
    })
}

fn read_from(file: &Arc<Mutex<Result<Option<Secret>, String>>>) -> Credential {
    let file = Arc::clone(file);
    let read: ReadCredential = Arc::new(move || file.lock().clone());
    Credential::read("main", read)
}

#[tokio::test]
async fn a_refused_key_is_read_again_once() {
    let server = takes("new");
    let file = Arc::new(Mutex::new(Ok(Some(secret("old")))));
    let endpoint = Arc::new(Endpoint::new(
        settings(server.address, Bounds { retries: 0, ..WIDE }),
        read_from(&file),
    ));
    // Nothing else is there: the same key is not sent twice.
    let mut chat = ask(&endpoint, question());
    assert_eq!(outcome(&mut chat).await, "rejected 401 main: unknown key");
    assert_eq!(server.asked().len(), 1);
    *file.lock() = Ok(Some(secret("new")));
    let mut chat = ask(&endpoint, question());
    assert_eq!(outcome(&mut chat).await, "text fine, stop");
    // A key that is wrong as well is the end.
    *file.lock() = Ok(Some(secret("newer")));
    let server = takes("another");
    let endpoint = Arc::new(Endpoint::new(settings(server.address, WIDE), read_from(&file)));
    let mut chat = ask(&endpoint, question());
    assert_eq!(outcome(&mut chat).await, "rejected 401 main: unknown key");
}

#[tokio::test]
async fn a_key_that_is_replaced_while_a_call_is_under_way_is_found() {
    let file = Arc::new(Mutex::new(Ok(Some(secret("old")))));
    let rotated = Arc::clone(&file);
    let server = Server::start(move |asked: &Asked| {
        let key = asked.header("authorization").unwrap().to_owned();
        // The old key is replaced while the request with it is on its way.
        *rotated.lock() = Ok(Some(secret("new")));
        match key == "Bearer new" {
            true => fine(),
            false => document("401 Unauthorized", "", r#"{"error":"unknown key old"}"#),
        }
    });
    let endpoint = Arc::new(Endpoint::new(
        settings(server.address, Bounds { retries: 0, ..WIDE }),
        read_from(&file),
    ));
    let mut chat = ask(&endpoint, question());
    assert_eq!(outcome(&mut chat).await, "text fine, stop");
    assert_eq!(chat.tries(), 2);
}

#[tokio::test]
async fn the_key_of_a_call_replaces_the_endpoints() {
    let server = takes("its own");
    let endpoint = endpoint(server.address, WIDE);
    let deadline = Instant::now() + WIDE.whole;
    let own = Some(secret("its own"));
    let mut chat = endpoint.chat(question(), own, deadline, Arc::new(System));
    assert_eq!(outcome(&mut chat).await, "text fine, stop");
}

#[tokio::test]
async fn without_a_key_that_can_be_read_nothing_is_sent() {
    let server = takes("x");
    let file = Arc::new(Mutex::new(Err("no such file".to_owned())));
    let endpoint = Arc::new(Endpoint::new(settings(server.address, WIDE), read_from(&file)));
    let found = outcome(&mut ask(&endpoint, question())).await;
    assert_eq!(found, "unavailable main: its key cannot be read: no such file");
    assert_eq!(server.asked().len(), 0);
}

// Connections.

fn connections(server: &Server) -> Vec<usize> {
    server.asked().iter().map(|asked| asked.connection).collect()
}

#[tokio::test]
async fn a_connection_serves_one_call_after_the_other() {
    let usage = "data: {\"choices\":[{\"delta\":{\"content\":\"fine\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
    for (answer, expected) in [
        (fine(), "text fine, stop"),
        // The answer is over before its response is.
        (
            vec![ok(), chunk(usage), Step::Pause(10), chunk("data: [DONE]\n\n"), end()],
            "text fine, stop 1/1",
        ),
        (
            document("200 OK", "", r#"{"choices":[{"message":{"content":"fine"}}]}"#),
            "text fine, stop",
        ),
    ] {
        let server = Server::start(move |_: &Asked| answer.clone());
        let endpoint = endpoint(server.address, WIDE);
        for round in 1..=3 {
            assert_eq!(outcome(&mut ask(&endpoint, question())).await, expected);
            server.served(round).await;
        }
        assert_eq!(connections(&server), [0, 0, 0], "{expected}");
    }
}

#[tokio::test]
async fn a_refusal_leaves_its_connection_for_the_next_try() {
    let busy = document("503 Service Unavailable", "retry-after-ms: 1\r\n", "{}");
    let server = first(vec![busy]);
    assert_eq!(
        outcome(&mut ask(&endpoint(server.address, WIDE), question())).await,
        "text fine, stop"
    );
    assert_eq!(connections(&server), [0, 0]);
}

#[tokio::test]
async fn calls_beside_each_other_have_connections_of_their_own() {
    let server = Server::start(|_: &Asked| [Step::Pause(20)].into_iter().chain(fine()).collect());
    let endpoint = endpoint(server.address, WIDE);
    let (mut one, mut two) = (ask(&endpoint, question()), ask(&endpoint, question()));
    let both = tokio::join!(outcome(&mut one), outcome(&mut two));
    assert_eq!(both, ("text fine, stop".to_owned(), "text fine, stop".to_owned()));
    let mut used = connections(&server);
    used.sort_unstable();
    assert_eq!(used, [0, 1]);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used() {
    let server = Server::start(|asked: &Asked| {
        let mut steps = fine();
        if asked.number == 0 {
            steps.push(Step::Close);
        }
        steps
    });
    let endpoint = endpoint(server.address, Bounds { retries: 0, ..WIDE });
    for round in 1..=2 {
        assert_eq!(outcome(&mut ask(&endpoint, question())).await, "text fine, stop");
        server.served(round).await;
    }
    assert_eq!(connections(&server), [0, 1]);
}

#[tokio::test]
async fn a_kept_connection_that_takes_no_request_costs_no_try() {
    // It is closed when the second request is there, as if both had met on the way.
    let server = Server::start(|asked: &Asked| match (asked.connection, asked.number) {
        (0, 1) => vec![Step::Close],
        _ => fine(),
    });
    let endpoint = endpoint(server.address, Bounds { retries: 0, ..WIDE });
    assert_eq!(outcome(&mut ask(&endpoint, question())).await, "text fine, stop");
    let mut chat = ask(&endpoint, question());
    assert_eq!(outcome(&mut chat).await, "text fine, stop");
    assert_eq!(chat.tries(), 1);
    assert_eq!(connections(&server), [0, 0, 1]);
}

#[tokio::test]
async fn what_an_unasked_server_says_is_no_answer() {
    let server = Server::start(|asked: &Asked| {
        let mut steps = fine();
        if asked.number == 0 {
            steps.push(Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()));
        }
        steps
    });
    let endpoint = endpoint(server.address, Bounds { retries: 0, ..WIDE });
    for round in 1..=2 {
        assert_eq!(outcome(&mut ask(&endpoint, question())).await, "text fine, stop");
        server.served(round).await;
    }
    assert_eq!(connections(&server), [0, 1]);
}

#[tokio::test]
async fn dropping_a_chat_closes_its_connection() {
    // Before the head, in the head, after it, after a part.
    for (number, answer) in [
        vec![Step::Hang],
        vec![Step::Send(b"HTTP/1.1 200".to_vec()), Step::Hang],
        vec![ok(), Step::Hang],
        vec![ok(), chunk(HALF), Step::Hang],
    ]
    .into_iter()
    .enumerate()
    {
        let server = Server::start(move |_: &Asked| answer.clone());
        let mut chat = ask(&endpoint(server.address, WIDE), question());
        if number == 3 {
            assert_eq!(chat.next().await, Some(Ok(Part::Text("half".into()))));
        }
        // Runs until the request is there.
        while server.asked().is_empty() {
            let waiting = tokio::time::timeout(Duration::from_millis(10), chat.next()).await;
            assert!(waiting.is_err());
        }
        drop(chat);
        server.hung_up(1).await;
    }
}

#[tokio::test]
async fn the_end_of_an_answer_closes_what_the_server_holds_open() {
    let stop = "data: {\"choices\":[{\"delta\":{\"content\":\"fine\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let server = Server::start(move |_: &Asked| vec![ok(), chunk(stop), Step::Hang]);
    let mut chat = ask(&endpoint(server.address, WIDE), question());
    assert_eq!(outcome(&mut chat).await, "text fine, stop");
    server.hung_up(1).await;
}

// Waiting.

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let pieces = ["a", "b", "c", "d"].map(|text| {
        chunk(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"))
    });
    let pieces = pieces.into_iter().flat_map(|piece| [Step::Pause(15), piece]);
    let steps: Vec<_> =
        [Step::Pause(15), ok()].into_iter().chain(pieces).chain([chunk(FINE), end()]).collect();
    let server = Server::start(move |_: &Asked| steps.clone());
    let mut chat = ask(&endpoint(server.address, WIDE), question());
    let mut text = String::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(1), chat.next()).await {
            Err(_) => {}
            Ok(Some(Ok(Part::Text(more)))) => text += &more,
            Ok(Some(Ok(Part::End(_)))) => break,
            Ok(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((text.as_str(), server.asked().len()), ("abcdfine", 1));
}

#[tokio::test]
async fn text_that_has_arrived_is_one_part() {
    let pieces = ["a", "b", "c"].map(|text| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    });
    let [a, b, c] = &pieces;
    let server = Server::start({
        let steps = stream(&[a, b, c, FINE]);
        let all: Vec<u8> = steps
            .into_iter()
            .flat_map(|step| match step {
                Step::Send(bytes) => bytes,
                _ => Vec::new(),
            })
            .collect();
        move |_: &Asked| vec![Step::Send(all.clone())]
    });
    let mut chat = ask(&endpoint(server.address, WIDE), question());
    assert_eq!(chat.next().await, Some(Ok(Part::Text("abcfine".into()))));
    assert!(matches!(chat.next().await, Some(Ok(Part::End(_)))));
    assert_eq!(chat.next().await, None);
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_wait() {
    let server = Server::start(|_: &Asked| fine());
    let mut chat = ask(&endpoint(server.address, WIDE), question());
    // A later one has the first connection, and an answer.
    let mut later = ask(&endpoint(server.address, WIDE), question());
    assert_eq!(outcome(&mut later).await, "text fine, stop");
    assert_eq!((chat.tries(), connections(&server)), (0, vec![0]));
    // One poll is not the answer.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(std::pin::pin!(chat.next()).poll(&mut cx).is_pending());
    assert_eq!(chat.tries(), 1);
}

#[test]
fn a_chat_can_be_sent_and_an_endpoint_shared() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Chat>();
    is_shared::<Endpoint>();
}

#[tokio::test]
async fn an_answer_that_was_paid_for_says_what_it_cost() {
    let answer = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\"},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
    let server = Server::start(move |_: &Asked| stream(&[answer]));
    let mut chat = ask(&endpoint(server.address, WIDE), question());
    assert_eq!(chat.next().await, Some(Ok(Part::Reasoning("hm".into()))));
    assert!(matches!(chat.next().await, Some(Err(Error::BadAnswer { cut_off: false, .. }))));
    assert_eq!(chat.usage().map(|usage| usage.output), Some(2));
}
