//! Never gives memory back, at a rate that the messages set. Exit reason, in the end:
//! `memory_limit`; before that one `agent.memory_soft_limit`, unless one step passes from below the mark
//! to above the limit.
//!
//! `leak <KiB>` leaks that much, touched, and replies with the sum in KiB. Any other body is answered
//! with itself.

use std::hint::black_box;

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

const KIB: usize = 1024;

#[derive(Default)]
struct Leak {
    total_kib: usize,
}

impl Agent for Leak {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some(size) = message.body.strip_prefix("leak ") else {
            return Ok(Outcome::reply(message.body));
        };
        let kib: usize = size
            .trim()
            .parse()
            .map_err(|_| AgentError::failed("bad-body", "size is not a number of KiB"))?;
        let bytes = kib.saturating_mul(KIB).min(isize::MAX as usize);
        black_box(Vec::leak(vec![1_u8; bytes]));
        self.total_kib += kib;
        Ok(Outcome::reply(self.total_kib.to_string()))
    }
}

bulkhead_guest::export!(Leak);
