//! Ends its process, as a program does. Exit reason: `guest_exit`.
//!
//! `exit <n>` calls the WASI exit with that status; WASI 0.2 carries only whether it is 0. Any other
//! body is answered with itself.

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

#[derive(Default)]
struct ExitCode;

impl Agent for ExitCode {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let Some(status) = message.body.strip_prefix("exit ") else {
            return Ok(Outcome::reply(message.body));
        };
        match status.trim().parse() {
            Ok(status) => exit(status),
            Err(_) => Err(AgentError::failed("bad-body", "status is not a number")),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is what this agent is for")]
fn exit(status: i32) -> ! {
    std::process::exit(status)
}

bulkhead_guest::export!(ExitCode);
