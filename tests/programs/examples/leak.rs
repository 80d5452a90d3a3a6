//! Never gives memory back, at a rate that the messages set. Exit reason, in the end:
//! `memory_limit`; before that one `agent.memory_soft_limit`, unless one step passes from below the mark
//! to above the limit.
//!
//! `leak <KiB>` leaks that much, touched, and replies with the sum in KiB. `leak <KiB> every <ms> times <n>`
//! does it n times within one turn, by the guest's clock: a step that comes late does not make the next one
//! late. Any other body is answered with itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

const KIB: usize = 1024;

#[derive(Default)]
struct Leak {
    total_kib: usize,
}

impl Agent for Leak {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let words: Vec<&str> = message.body.split_whitespace().collect();
        match words[..] {
            ["leak", kib] => self.leak(number(kib)?),
            ["leak", kib, "every", ms, "times", times] => {
                self.leak_by_the_clock(number(kib)?, number(ms)?, number(times)?);
            }
            _ => return Ok(Outcome::reply(message.body)),
        }
        Ok(Outcome::reply(self.total_kib.to_string()))
    }
}

impl Leak {
    fn leak(&mut self, kib: usize) {
        let bytes = kib.saturating_mul(KIB).min(isize::MAX as usize);
        black_box(Vec::leak(vec![1_u8; bytes]));
        self.total_kib += kib;
    }

    fn leak_by_the_clock(&mut self, kib: usize, ms: usize, times: usize) {
        let began = Instant::now();
        for step in 0..times {
            let at = began + Duration::from_millis((ms * step) as u64);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            self.leak(kib);
        }
    }
}

fn number(text: &str) -> Result<usize, AgentError> {
    text.parse().map_err(|_| AgentError::failed("bad-body", "what follows is not a number"))
}

bulkhead_guest::export!(Leak);
