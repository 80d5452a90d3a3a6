//! Limits count work and not handles: a guest in a language with a garbage collector keeps the handles of
//! all requests that it ever made, and goes on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use harness::wait_until;

use super::{MIB, builder, memory, trial, watch};

/// A server that keeps its connections, as servers do. The path says how many bytes it answers with, and in
/// which way: `/10`, `/chunked/10`.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let path = request.split(' ').nth(1)?;
        let (chunked, bytes) = match path.strip_prefix("/chunked/") {
            Some(bytes) => (true, bytes),
            None => (false, path.trim_start_matches('/')),
        };
        let body = vec![b'z'; bytes.parse().ok()?];
        let head = if chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {bytes}")
        };
        write!(stream, "HTTP/1.1 200 OK\r\nx-long: {}\r\n{head}\r\n\r\n", "y".repeat(500)).ok()?;
        if chunked {
            for piece in body.chunks(10_000) {
                write!(stream, "{:x}\r\n", piece.len()).ok()?;
                stream.write_all(piece).ok()?;
                stream.write_all(b"\r\n").ok()?;
            }
            stream.write_all(b"0\r\n\r\n").ok()?;
        } else {
            stream.write_all(&body).ok()?;
        }
    }
}

fn role(address: &str) -> String {
    format!("memory_limit_mb = 16\nhttp_allow = [{address:?}]")
}

#[test]
fn a_guest_that_drops_no_handle_goes_on_fetching() {
    let address = server();
    let trial = trial(builder().role("hog", "hog", &role(&address)));
    trial.client().start("hog", "hog");
    let watch = watch(&trial);
    for way in ["", "chunked/"] {
        let fetched = trial.client().ask("hog", &format!("fetch 300 {address} /{way}10"));
        assert_eq!(fetched, "3000");
        let fetched = trial.client().ask("hog", &format!("fetch 1 {address} /{way}20000000"));
        assert_eq!(fetched, "20000000");
        let peeked = trial.client().ask("hog", &format!("peek 300 {address} /{way}10"));
        assert_eq!(peeked, "0", "responses that nobody reads");
    }
    // What is left: 10 bytes of each response that nobody read, in one or two pieces.
    wait_until("its connections are gone", || memory(&trial, "hog").host.http <= 600 * 600);
    let kept = memory(&trial, "hog").host.resources;
    assert!((MIB..10 * MIB).contains(&kept), "{kept} bytes for handles that exist");
    super::check_growth(&watch, &trial);
    assert_eq!(trial.client().ask("hog", "well?"), "well?");
    trial.finish();
}

#[test]
fn a_large_response_that_nobody_reads_is_under_way_and_the_log_says_which_limit_refuses_more() {
    let address = server();
    let trial = trial(builder().role("hog", "hog", &role(&address)));
    trial.client().start("hog", "hog");
    for _ in 0..3 {
        let peeked = trial.client().ask("hog", &format!("peek 100 {address} /20000000"));
        assert!(
            peeked.starts_with("request ") && peeked.contains("ConnectionLimitReached"),
            "{peeked}"
        );
    }
    let lines = || {
        let lines = trial.host().events_of("hog", "agent.log").into_iter();
        let text = |line: &harness::Value| line["message"].as_str().unwrap_or_default().to_owned();
        lines.map(|line| text(&line)).filter(|line| line.contains("refused")).collect::<Vec<_>>()
    };
    wait_until("the log names the limit", || !lines().is_empty());
    assert!(lines()[0].contains("16 requests of this agent are under way"), "{:?}", lines());
    assert!(lines().len() < 3, "one line a second: {:?}", lines());
    trial.finish();
}
