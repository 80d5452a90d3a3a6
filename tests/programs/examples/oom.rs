//! Asks for more memory than it may have. Exit reason: `memory_limit`.
//!
//! | body | what it does |
//! | --- | --- |
//! | `oom` | allocates and touches chunks of 1 MiB until it is stopped |
//! | `oom <MiB>` | one allocation of that size, touched and given back; the reply is its size |
//!
//! Any other body is answered with itself.

use std::hint::black_box;

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

const MIB: usize = 1024 * 1024;

#[derive(Default)]
struct Oom;

impl Agent for Oom {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some(size) = message.body.strip_prefix("oom") else {
            return Ok(Outcome::reply(message.body));
        };
        match size.trim() {
            "" => allocate_until_stopped(),
            size => match size.parse::<usize>() {
                Ok(mib) => Ok(Outcome::reply(allocate_once(mib).to_string())),
                Err(_) => Err(AgentError::failed("bad-body", "size is not a number of MiB")),
            },
        }
    }
}

fn allocate_until_stopped() -> ! {
    let mut chunks = Vec::new();
    loop {
        // Ones, because zeroed memory might not be touched.
        chunks.push(black_box(vec![1_u8; MIB]));
    }
}

/// What does not fit into the address space is asked for as well: it can only be refused.
fn allocate_once(mib: usize) -> usize {
    black_box(vec![1_u8; mib.saturating_mul(MIB).min(isize::MAX as usize)]).len()
}

bulkhead_guest::export!(Oom);
