//! Writes more than anybody can read. It keeps running: the host drops and counts.
//!
//! | body | what it writes | reply |
//! | --- | --- | --- |
//! | `flood <n>` | n lines on stdout and n structured log lines | n |
//! | `stderr <n>` | n lines on stderr | n |
//! | `long <bytes>` | one line of that many bytes on stdout, without an end | the bytes |
//! | `print <bytes>` | one line of that many bytes on stdout with its end, in one write: `<世世...>` | the bytes |
//! | `newlines <n>` | n newlines on stdout in one host call that nobody allowed | n |
//! | `fat <n>` | n structured log lines, each as long as the host lets it be | n |
//! | `quote <n>` | n lines of quotes on stderr, and panics | |
//! | `fail <bytes>` | nothing: the turn fails with a message of that many control characters | |
//! | `events <n>` | n events | `accepted <a>, refused <r>` |
//!
//! `say <text>` writes the text on stdout and, as message, as name and as value of a field, in a structured log line. Any
//! other body is answered with itself.

use std::io::Write;

use bulkhead_guest::bindings::bulkhead::agent::host::{Level, log};
use bulkhead_guest::{Agent, AgentError, Message, Outcome, host, info};
use wasip2::cli::stdout::get_stdout;

/// One piece of a long line.
const PIECE: [u8; 4096] = [b'x'; 4096];

#[derive(Default)]
struct LogFlood;

impl Agent for LogFlood {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some((what, count)) = message.body.split_once(' ') else {
            return Ok(Outcome::reply(message.body));
        };
        if what == "say" {
            say(count);
            return Ok(Outcome::reply("said"));
        }
        let Ok(count) = count.trim().parse::<u64>() else {
            return Ok(Outcome::reply(message.body));
        };
        match what {
            "flood" => flood(count),
            "stderr" => stderr(count),
            "long" => long(count),
            "print" => print(count),
            "newlines" => drop(get_stdout().write(&vec![b'\n'; count as usize])),
            "fat" => fat(count),
            "quote" => quote(count),
            "fail" => return Err(AgentError::failed("told-to", "\u{1}".repeat(count as usize))),
            "events" => return Ok(Outcome::reply(events(count))),
            _ => return Ok(Outcome::reply(message.body)),
        }
        Ok(Outcome::reply(count.to_string()))
    }
}

/// A host that takes no more output is none of this agent's business: write errors are ignored.
fn flood(count: u64) {
    let mut stdout = std::io::stdout().lock();
    for line in 0..count {
        let _ = writeln!(stdout, "stdout line {line} of {count}");
        info!("log line of a flood", line = line, count = count);
    }
    let _ = stdout.flush();
}

fn stderr(count: u64) {
    let mut stderr = std::io::stderr().lock();
    for line in 0..count {
        let _ = writeln!(stderr, "stderr line {line} of {count}");
    }
}

fn long(bytes: u64) {
    let mut stdout = std::io::stdout().lock();
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE.len() as u64);
        let _ = stdout.write_all(&PIECE[..piece as usize]);
        left -= piece;
    }
    let _ = stdout.flush();
}

/// The library for printing hands over what it has room for; this is one write of the host.
fn print(bytes: u64) {
    let room = (bytes as usize).saturating_sub(2);
    let mut line = "世".repeat(room / 3) + &"x".repeat(room % 3);
    line = format!("<{line}>\n");
    let stdout = get_stdout();
    let mut left = line.as_bytes();
    while let (false, Ok(allowed)) = (left.is_empty(), stdout.check_write()) {
        let (piece, rest) = left.split_at(left.len().min(allowed as usize));
        let _ = stdout.write(piece);
        left = rest;
    }
}

/// Control characters take six times their size in JSON.
fn fat(count: u64) {
    let fields: Vec<_> =
        (0..32).map(|n| (format!("{n}{}", "\u{2}".repeat(120)), "\u{1}".repeat(1024))).collect();
    let message = "\u{1}".repeat(8192);
    for _ in 0..count {
        log(Level::Info, &message, &fields);
    }
}

fn quote(count: u64) {
    let mut stderr = std::io::stderr().lock();
    for _ in 0..count {
        let _ = writeln!(stderr, "{}", "\"".repeat(1000));
    }
    drop(stderr);
    panic!("said too much");
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    log(
        Level::Error,
        text,
        &[(text.to_owned(), text.to_owned()), ("event".into(), text.to_owned())],
    );
}

fn events(count: u64) -> String {
    let accepted = (0..count).filter(|number| host::emit("flood", number).is_ok()).count() as u64;
    format!("accepted {accepted}, refused {}", count - accepted)
}

bulkhead_guest::export!(LogFlood);
