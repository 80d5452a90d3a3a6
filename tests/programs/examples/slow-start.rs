//! Is slow to start. Exit reason, where the start's deadline is shorter: `start_failed`, phase
//! `deadline`.
//!
//! | prompt | what `start` does |
//! | --- | --- |
//! | `<ms>` | waits for that time in one host call |
//! | `spin <ms>` | burns CPU for that time |
//! | `wait` | waits until there is a file `/workspace/go`, and takes it away |
//! | any other | returns at once |
//!
//! Messages, the prompt among them, are answered with their body.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bulkhead_guest::{Agent, AgentError, Message, Outcome, StartRequest};

/// Its presence lets a start go on that waits.
const GO: &str = "/workspace/go";

/// Between two checks at what it waits for.
const NAP: Duration = Duration::from_millis(2);

/// Rounds between two checks of the clock, which is a host call.
const ROUNDS: u64 = 20_000;

#[derive(Default)]
struct SlowStart;

impl Agent for SlowStart {
    fn start(&mut self, request: StartRequest) -> Result<(), AgentError> {
        let prompt = request.prompt.trim();
        match prompt.strip_prefix("spin ") {
            Some(time) => spin_for(millis(time)),
            None if prompt == "wait" => {
                while std::fs::remove_file(GO).is_err() {
                    std::thread::sleep(NAP);
                }
            }
            None => std::thread::sleep(millis(prompt)),
        }
        Ok(())
    }

    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        Ok(Outcome::reply(message.body))
    }
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(text.trim().parse().unwrap_or(0))
}

fn spin_for(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        for round in 0..ROUNDS {
            black_box(round);
        }
    }
}

bulkhead_guest::export!(SlowStart);
