use bulkhead_guest::model::{self, Error, Request, Tool};
use bulkhead_guest::{Agent, AgentError, Message, Outcome, state};
use serde::{Deserialize, Serialize};
use serde_json::json;

const SYSTEM: &str = "You are {{name}}. Answer briefly. Write down what you should remember.";

#[derive(Default, Serialize, Deserialize)]
struct {{type}} {
    turns: u64,
    notes: Vec<String>,
}

impl Agent for {{type}} {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        self.turns += 1;
        if message.body == "notes" {
            return Ok(Outcome::reply(self.notes.join("\n")));
        }
        match self.ask(&message.body) {
            // See `models` in bulkhead.toml.
            Err(Error::Denied(_)) => Ok(Outcome::reply(format!("{}: {}", self.turns, message.body))),
            answer => Ok(Outcome::reply(answer?)),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        Ok(state::save(1, self)?)
    }

    fn restore(&mut self, snapshot: Vec<u8>) -> Result<(), AgentError> {
        *self = state::load(&snapshot, 1, state::no_upgrade)?;
        Ok(())
    }
}

impl {{type}} {
    /// Those who watch see the answer as it comes.
    fn ask(&mut self, text: &str) -> Result<String, Error> {
        let parameters = json!({
            "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"],
        });
        let note = Tool::new("note", "Write something down", parameters);
        let mut conversation = vec![model::Message::system(SYSTEM), model::Message::user(text)];
        loop {
            let answer = model::complete(&Request::new(&conversation).tools([&note]))?;
            let (text, calls) = (answer.text(), answer.message.tool_calls.clone());
            if calls.is_empty() {
                return Ok(text);
            }
            conversation.push(answer.message);
            for call in &calls {
                #[derive(Deserialize)]
                struct Note { text: String }
                let result = call.arguments().map(|Note { text }| self.notes.push(text));
                let result = result.map_or_else(|error| format!("error: {error}"), |()| "done".to_owned());
                conversation.push(model::Message::tool_result(call, result));
            }
        }
    }
}

bulkhead_guest::export!({{type}});
