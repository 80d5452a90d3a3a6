//! Servers that attack their clients. Agents beside must not notice.

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::resident::Watch;
use harness::{Host, Value, wait_until};

use super::servers::{self, read_head};

const ATTACKERS: usize = 4;

/// What an attacker may have.
const LIMIT_BYTES: u64 = 32 << 20;

/// The head of a response in chunks.
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// The most that a host may take in of a response that it gives up: what the kernel buffers for two sockets, and a bit.
const MOST_TAKEN: u64 = 16 << 20;

/// Answers every request with `head` and then with `piece`, without end. Counts the bytes that it got rid of.
fn endless(head: &'static str, piece: String) -> (SocketAddr, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let address = servers::serve("127.0.0.1:0", move |mut stream| {
        read_head(&mut BufReader::new(stream.try_clone().ok()?))?;
        stream.write_all(head.as_bytes()).ok()?;
        loop {
            count.fetch_add(stream.write(piece.as_bytes()).ok()? as u64, Ordering::Relaxed);
        }
    });
    (address, sent)
}

/// Answers every request with `100 Continue` without end.
fn interim_flood() -> (SocketAddr, Arc<AtomicU64>) {
    endless("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000))
}

/// Answers every request with a response that does not end.
fn endless_response() -> (SocketAddr, Arc<AtomicU64>) {
    endless(CHUNKED, "1\r\na\r\n".repeat(10_000))
}

/// A server that breaks off every response, each in another way.
fn broken() -> SocketAddr {
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc",
        "\u{1}\u{fffd}\u{7f}what?\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "",
    ];
    let number = AtomicUsize::new(0);
    servers::serve("127.0.0.1:0", move |mut stream| {
        read_head(&mut BufReader::new(stream.try_clone().ok()?))?;
        let number = number.fetch_add(1, Ordering::Relaxed);
        stream.write_all(answers[number % answers.len()].as_bytes()).ok()
    })
}

fn host(address: SocketAddr) -> Host {
    // One that reads without end is ended for its CPU time: long after what is measured beside it.
    let allow = format!("memory_limit_mb = 32\ncpu_ms = 5000\nhttp_allow = [\"{address}\"]");
    let host = Host::builder().guest("hog").role("hog", "hog", &allow).start();
    host.client().start("echo", "echo");
    for number in 0..ATTACKERS {
        host.client().start(&format!("hog-{number}"), "hog");
    }
    host
}

/// The median of so many messages to an agent that answers at once.
fn median(host: &Host) -> Duration {
    const MESSAGES: usize = 200;
    let mut times: Vec<_> = (0..MESSAGES)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(host.client().ask("echo", "well?"), "well?");
            began.elapsed()
        })
        .collect();
    times.sort();
    times[MESSAGES / 2]
}

/// Nothing more is read from the server.
#[track_caller]
fn wait_until_it_stands_still(sent: &AtomicU64) {
    wait_until("the host reads nothing more", || {
        let before = sent.load(Ordering::Relaxed);
        // A check and not a wait: at full speed it would be a hundred megabytes.
        std::thread::sleep(Duration::from_millis(300));
        sent.load(Ordering::Relaxed) == before
    });
}

#[track_caller]
fn check_median(what: &str, quiet: Duration, beside: Duration) {
    let ratio = beside.as_secs_f64() / quiet.as_secs_f64();
    println!("{what}: p50 {quiet:.2?} quiet, {beside:.2?} beside it, ratio {ratio:.1}");
    assert!(beside < quiet * 3 + Duration::from_millis(10), "{quiet:?}, then {beside:?}");
}

/// The host's own log has no warning: what a server sends is its agent's matter.
fn finish_without_warnings(host: Host, what: &str) {
    let is_warning = |line: &Value| line["event"] == "container.log" && line["level"] == "warn";
    let warnings: Vec<_> = host.finish().into_iter().filter(is_warning).collect();
    assert!(warnings.is_empty(), "{what}: {warnings:?}");
}

#[test]
fn a_server_that_never_comes_to_its_answer_is_given_up_and_named() {
    let (address, _) = interim_flood();
    let host = host(address);
    let reply = host.client().ask("hog-0", &format!("fetch 1 {address} /"));
    assert!(reply.starts_with("request 0 failed: "), "{reply}");
    host.wait_for_line("the line that says why", |line| {
        line["event"] == "agent.log"
            && line["message"].as_str().is_some_and(|text| text.contains("64 interim answers"))
    });
    host.finish();
}

#[test]
fn a_request_that_its_server_breaks_off_is_a_line_of_its_agent_and_none_of_the_host() {
    let broken = [
        ("no HTTP", "what?\r\n\r\n"),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le"),
        ("nothing", ""),
    ];
    for (what, answer) in broken {
        let address = servers::serve("127.0.0.1:0", move |mut stream| {
            read_head(&mut BufReader::new(stream.try_clone().ok()?))?;
            stream.write_all(answer.as_bytes()).ok()
        });
        let host = host(address);
        for _ in 0..20 {
            let reply = host.client().ask("hog-0", &format!("fetch 1 {address} /"));
            assert!(reply.starts_with("request 0 failed: "), "{what}: {reply}");
        }
        host.wait_for_line("the line that says why", |line| {
            line["agentId"] == "hog-0" && line["message"].to_string().contains("request failed: ")
        });
        finish_without_warnings(host, what);
    }
}

#[test]
fn what_comes_before_beside_and_after_a_body_has_a_bound() {
    const LAST: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
    let fields = |name: &str, count: usize, value: &str| -> String {
        (0..count).map(|n| format!("{name}{n}: {value}\r\n")).collect()
    };
    let hints = format!("HTTP/1.1 103 Early Hints\r\n{}\r\n", fields("x", 90, &"a".repeat(400)));
    let small_hints = format!("HTTP/1.1 103 Early Hints\r\n{}\r\n", fields("x", 90, "a"));
    for (what, head, piece) in [
        ("large early hints without end", "", hints),
        ("early hints without end", "", small_hints),
        ("a field without end", "HTTP/1.1 200 OK\r\nx: ", "a".repeat(100_000)),
        ("fields without end", "HTTP/1.1 200 OK\r\n", fields("x", 5000, "y")),
        ("extensions without end", CHUNKED, format!("1;{}\r\na\r\n", "e".repeat(10_000))),
        ("an extension without end", CHUNKED, format!("1;{}", "e".repeat(10_000))),
        ("trailers without end", LAST, fields("t", 500, &"z".repeat(100))),
    ] {
        let (address, sent) = endless(head, piece);
        let host = host(address);
        let watch = Watch::begin(host.pid());
        let reply = host.client().ask("hog-0", &format!("fetch 1 {address} /"));
        assert!(reply.starts_with("request 0 failed: "), "{what}: {reply}");
        wait_until_it_stands_still(&sent);
        let sent = sent.load(Ordering::Relaxed);
        println!("{what}: {reply}, {sent} bytes, the host grew by {}", watch.grown());
        assert!(sent < MOST_TAKEN, "{what}: {sent} bytes were taken");
        watch.check(LIMIT_BYTES);
        drop(watch);
        assert_eq!(host.client().ask("hog-0", "well?"), "well?");
        finish_without_warnings(host, what);
    }
}

#[test]
fn a_storm_of_broken_responses_holds_up_nobody() {
    let address = broken();
    let host = host(address);
    let quiet = median(&host);
    let (over, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..ATTACKERS {
            let (host, over, failed) = (&host, &over, &failed);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let message = format!("storm 50 {address}");
                    let reply = host.client().ask(&format!("hog-{number}"), &message);
                    assert_eq!(reply, "50", "all of them fail");
                    failed.fetch_add(50, Ordering::Relaxed);
                }
            });
        }
        wait_until("all of them storm", || failed.load(Ordering::Relaxed) >= 50 * ATTACKERS);
        let before = failed.load(Ordering::Relaxed);
        check_median("a storm of broken responses", quiet, median(&host));
        println!("{} failed meanwhile", failed.load(Ordering::Relaxed) - before);
        over.store(true, Ordering::Relaxed);
    });
    assert!(host.crashes().is_empty(), "{:?}", host.crashes());
    let metrics = host.client().metrics();
    assert!(metrics["process_open_fds"] < 200.0, "{}", metrics["process_open_fds"]);
    host.finish();
}

#[test]
fn requests_that_a_turn_left_behind_stand_still_until_the_next() {
    for (what, (address, sent)) in
        [("1xx without end", interim_flood()), ("a body without end", endless_response())]
    {
        let host = host(address);
        let quiet = median(&host);
        for number in 0..ATTACKERS {
            host.client().ask(&format!("hog-{number}"), &format!("requests 12 {address}"));
        }
        wait_until_it_stands_still(&sent);
        check_median(what, quiet, median(&host));
        // The next turn is as good as any.
        assert_eq!(host.client().ask("hog-0", "well?"), "well?");
        host.finish();
    }
}

#[test]
fn a_turn_beside_a_body_without_end_is_as_quick_as_before() {
    let (address, _) = endless_response();
    let host = host(address);
    let quiet = median(&host);
    std::thread::scope(|scope| {
        for number in 0..ATTACKERS {
            let host = &host;
            // It reads until its time is up, and is ended.
            scope.spawn(move || {
                let message = format!("fetch 1 {address} /");
                let _ = host.client().try_send_wait(&format!("hog-{number}"), &message);
            });
        }
        wait_until("all of them read", || {
            (0..ATTACKERS).all(|number| {
                let status = host.client().status(&format!("hog-{number}"));
                status.cpu_us > 50_000 || status.status != "running"
            })
        });
        check_median("agents that read without end", quiet, median(&host));
    });
    for number in 0..ATTACKERS {
        host.client().ended(&format!("hog-{number}"));
    }
    host.finish();
}
