//! Does not end when it is asked to. Exit reason: `killed`, after the grace.
//!
//! `shutdown` never returns. `deaf <ms>` waits in a turn for that time, in short host calls, and
//! never looks at the deadline or at a stop; the reply is the time. Any other body is answered with
//! itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bulkhead_guest::{Agent, AgentError, Message, Outcome, ShutdownReason};

/// Short, so that it is between two calls most of the time, not stuck in one.
const NAP: Duration = Duration::from_millis(5);

#[derive(Default)]
struct IgnoresStop;

impl Agent for IgnoresStop {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some(time) = message.body.strip_prefix("deaf ") else {
            return Ok(Outcome::reply(message.body));
        };
        let ms = time
            .trim()
            .parse()
            .map_err(|_| AgentError::failed("bad-body", "time is not a number of ms"))?;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(ms) {
            std::thread::sleep(NAP);
        }
        Ok(Outcome::reply(ms.to_string()))
    }

    fn shutdown(&mut self, _reason: ShutdownReason) -> Result<(), AgentError> {
        loop {
            black_box(());
        }
    }
}

bulkhead_guest::export!(IgnoresStop);
