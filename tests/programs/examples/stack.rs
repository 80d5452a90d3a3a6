//! Recurses without end. Exit reason: `stack_exhausted`.
//!
//! The body `recurse` sets it off; any other body is answered with itself. The stack of a Rust
//! component lies first in its linear memory, so it runs out as an access out of bounds.

use std::hint::black_box;

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

#[derive(Default)]
struct Stack;

impl Agent for Stack {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        match message.body.as_str() {
            "recurse" => Ok(Outcome::reply(recurse(0).to_string())),
            _ => Ok(Outcome::reply(message.body)),
        }
    }
}

#[expect(unconditional_recursion, reason = "it is what this agent is for")]
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    // An array that is used after the call keeps the frame, and so the call is no jump.
    let frame = black_box([depth; 16]);
    recurse(depth + 1) + black_box(frame)[0]
}

bulkhead_guest::export!(Stack);
