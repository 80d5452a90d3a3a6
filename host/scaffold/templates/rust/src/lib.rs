use bulkhead_guest::chat::{ChatAgent, Context, Tools};
use bulkhead_guest::{AgentError, Message, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The state: it outlives the incarnation, with the conversation.
#[derive(Default, Serialize, Deserialize)]
struct {{type}} {
    turns: u64,
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct Note {
    text: String,
}

impl ChatAgent for {{type}} {
    fn system(&self) -> String {
        "You are {{name}}. Answer briefly. Write down what you should remember.".to_owned()
    }

    fn tools() -> Tools<Self> {
        Tools::new().with("note", "Write something down", json!({ "text": "string" }), Self::note)
    }

    fn message(&mut self, message: Message, context: &mut Context<Self>) -> Result<Outcome, AgentError> {
        self.turns += 1;
        if message.body == "notes" {
            return Ok(Outcome::reply(self.notes.join("\n")));
        }
        // Those who watch see the answer as it comes.
        match context.chat.ask(self, message.body.as_str()) {
            // See `models` in bulkhead.toml.
            Err(error) if error.code == "model-denied" => {
                Ok(Outcome::reply(format!("{}: {}", self.turns, message.body)))
            }
            answer => Ok(Outcome::reply(answer?)),
        }
    }
}

impl {{type}} {
    fn note(&mut self, note: Note) -> Result<(), AgentError> {
        self.notes.push(note.text);
        Ok(())
    }
}

bulkhead_guest::export_chat!({{type}});
