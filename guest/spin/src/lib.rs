//! Burns CPU time.
//!
//! | body | what it does | exit reason |
//! | --- | --- | --- |
//! | `spin` | loops for ever, without one host call | `cpu_deadline` |
//! | `spin <ms>` | is busy for that wall time; the reply says how often it went round | none |
//! | `turns` | asks for another short turn, for ever | none |
//!
//! Any other body is answered with itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bulkhead_guest::{Agent, AgentError, Message, Outcome, Sender};

/// Rounds between two looks at the clock, which is a host call: some tens of microseconds.
const ROUNDS: u64 = 20_000;

#[derive(Default)]
struct Spin;

impl Agent for Spin {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        if message.body == "turns" || matches!(message.sender, Sender::Continuation) {
            rounds();
            return Ok(Outcome::proceed());
        }
        let Some(time) = message.body.strip_prefix("spin") else {
            return Ok(Outcome::reply(message.body));
        };
        match time.trim() {
            "" => loop {
                rounds();
            },
            time => match time.parse() {
                Ok(ms) => Ok(Outcome::reply(spin_for(Duration::from_millis(ms)).to_string())),
                Err(_) => Err(AgentError::failed("bad-body", "time is not a number of ms")),
            },
        }
    }
}

fn spin_for(time: Duration) -> u64 {
    let begin = Instant::now();
    let mut total = 0;
    while begin.elapsed() < time {
        rounds();
        total += ROUNDS;
    }
    total
}

/// Without `black_box` nothing would be left of it.
#[inline(never)]
fn rounds() {
    for round in 0..ROUNDS {
        black_box(round);
    }
}

bulkhead_guest::export!(Spin);
