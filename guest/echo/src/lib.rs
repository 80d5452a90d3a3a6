//! Answers every message with its body.
//!
//! The host's overhead is measured with it, so it does nothing else: a body is moved, not copied, and
//! nothing is logged. `snapshot` returns the number of messages as decimal text, and `restore` goes
//! on counting there.

use bulkhead_guest::{Agent, AgentError, Message, Outcome};

#[derive(Default)]
struct Echo {
    messages: u64,
}

impl Agent for Echo {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        self.messages += 1;
        Ok(Outcome::reply(message.body))
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        Ok(self.messages.to_string().into_bytes())
    }

    fn restore(&mut self, snapshot: Vec<u8>) -> Result<(), AgentError> {
        let count = str::from_utf8(&snapshot).ok().and_then(|text| text.parse().ok());
        self.messages =
            count.ok_or_else(|| AgentError::fatal("bad-snapshot", "snapshot is not a number"))?;
        Ok(())
    }
}

bulkhead_guest::export!(Echo);
