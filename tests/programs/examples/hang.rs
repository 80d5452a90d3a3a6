//! Waits in one host call. Exit reason, where a limit is shorter: `host_call_timeout` or
//! `wall_deadline`; never `cpu_deadline`, because it burns nothing.
//!
//! `hang <ms>`, or only `<ms>`, waits for that time and replies with it. Any other body is answered
//! with itself.

use std::time::Duration;

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

#[derive(Default)]
struct Hang;

impl Agent for Hang {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let time = message.body.strip_prefix("hang ").unwrap_or(&message.body);
        if let Ok(ms) = time.trim().parse() {
            std::thread::sleep(Duration::from_millis(ms));
            return Ok(Outcome::reply(ms.to_string()));
        }
        Ok(Outcome::reply(message.body))
    }
}

bulkhead_guest::export!(Hang);
