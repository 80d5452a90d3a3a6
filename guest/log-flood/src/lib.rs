//! Writes more than anybody can read. It lives on: the host drops and counts.
//!
//! | body | what it writes | reply |
//! | --- | --- | --- |
//! | `flood <n>` | n lines on stdout and n structured log lines | n |
//! | `stderr <n>` | n lines on stderr | n |
//! | `long <bytes>` | one line of that many bytes on stdout, without an end | the bytes |
//! | `events <n>` | n events | `accepted <a>, refused <r>` |
//!
//! Any other body is answered with itself.

use std::io::Write;

use bulkhead_guest::{Agent, AgentError, Message, Outcome, host, info};

/// One piece of a long line.
const PIECE: [u8; 4096] = [b'x'; 4096];

#[derive(Default)]
struct LogFlood;

impl Agent for LogFlood {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some((what, count)) = message.body.split_once(' ') else {
            return Ok(Outcome::reply(message.body));
        };
        let Ok(count) = count.trim().parse::<u64>() else {
            return Ok(Outcome::reply(message.body));
        };
        match what {
            "flood" => flood(count),
            "stderr" => stderr(count),
            "long" => long(count),
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

fn events(count: u64) -> String {
    let accepted = (0..count).filter(|number| host::emit("flood", number).is_ok()).count() as u64;
    format!("accepted {accepted}, refused {}", count - accepted)
}

bulkhead_guest::export!(LogFlood);
