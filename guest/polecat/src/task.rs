//! The task and what was said and done for it: all that outlives an incarnation.

use bulkhead_guest::AgentError;
use bulkhead_guest::model::{Content, Message, Role};
use serde::{Deserialize, Serialize};

/// Stands where something old was dropped. Short, and no JSON trouble.
const DROPPED: &str = "[dropped to save room]";

/// In place of a call's arguments, which have to stay an object.
const DROPPED_ARGUMENTS: &str = "{}";

/// A task in work.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Task {
    /// The conversation, without the system prompt.
    pub messages: Vec<Message>,
    /// Round trips to the model so far.
    pub rounds: u32,
    /// The model's last answer was text alone, and it got an error for that.
    pub reminded: bool,
    /// The model wanted to end and was told what it would leave behind.
    #[serde(default)]
    pub warned: bool,
    /// The start's prompt, once heard. It comes again with every restart.
    prompt: Option<String>,
}

impl Task {
    /// Nobody has set a task yet.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes what somebody says. An empty message, or the same prompt again, only goes on with what
    /// is there.
    pub fn hear(&mut self, body: String, prompt: bool, limit: usize) -> Result<(), AgentError> {
        if body.trim().is_empty() || (prompt && self.prompt.as_ref() == Some(&body)) {
            return Ok(());
        }
        let message = Message::user(body.as_str());
        let bytes = message.json_bytes();
        if bytes > limit {
            return Err(AgentError::failed(
                "message-too-large",
                format!("message has {bytes} bytes, a task takes up to {limit} at once"),
            ));
        }
        self.messages.push(message);
        if prompt {
            self.prompt = Some(body);
        }
        Ok(())
    }

    /// Drops what tools returned and what the model wrote, oldest first, until the conversation has
    /// at most `limit` bytes as JSON. The messages themselves stay, so that each call keeps its
    /// result; so does what people said, unless nothing else is left.
    pub fn shorten(&mut self, limit: usize) {
        let mut bytes: usize = self.messages.iter().map(Message::json_bytes).sum();
        for droppable in [|role: Role| role != Role::User, |role: Role| role == Role::User] {
            for message in &mut self.messages {
                if bytes <= limit {
                    return;
                }
                if droppable(message.role) {
                    bytes = bytes.saturating_sub(empty(message));
                }
            }
        }
    }
}

/// Empties a message and returns how many bytes that saved.
fn empty(message: &mut Message) -> usize {
    let before = message.json_bytes();
    if message.text().len() > DROPPED.len() {
        message.content = vec![Content::Text(DROPPED.to_owned())];
    }
    for call in &mut message.tool_calls {
        if call.arguments.len() > DROPPED_ARGUMENTS.len() {
            DROPPED_ARGUMENTS.clone_into(&mut call.arguments);
        }
    }
    before.saturating_sub(message.json_bytes())
}

#[cfg(test)]
mod tests {
    use bulkhead_guest::model::ToolCall;
    use bulkhead_guest::state;

    use super::*;

    fn round(id: &str, size: usize) -> [Message; 2] {
        let call = ToolCall {
            id: id.to_owned(),
            name: "write".to_owned(),
            arguments: format!("{{\"content\":\"{}\"}}", "a".repeat(size)),
        };
        let answer = Message {
            content: Vec::new(),
            tool_calls: vec![call.clone()],
            ..Message::assistant("")
        };
        [answer, Message::tool_result(&call, "r".repeat(size))]
    }

    fn bytes(task: &Task) -> usize {
        task.messages.iter().map(Message::json_bytes).sum()
    }

    #[test]
    fn the_oldest_results_are_dropped_and_calls_keep_theirs() {
        let mut task = Task::default();
        task.hear("do it".to_owned(), true, 1000).unwrap();
        for id in ["a", "b", "c"] {
            task.messages.extend(round(id, 1000));
        }
        task.shorten(4000);
        assert!(bytes(&task) <= 4000);
        assert_eq!(task.messages.len(), 7);
        assert_eq!(task.messages[0].text(), "do it");
        assert_eq!(task.messages[2].text(), DROPPED);
        assert_eq!(task.messages[2].tool_call_id.as_deref(), Some("a"));
        assert_eq!(task.messages[6].text().len(), 1000);
    }

    #[test]
    fn the_bound_holds_when_only_the_last_round_is_large() {
        let mut task = Task::default();
        task.messages.extend(round("a", 100_000));
        task.shorten(1000);
        assert!(bytes(&task) <= 1000);
        assert_eq!(task.messages[0].tool_calls[0].arguments, "{}");
    }

    #[test]
    fn the_same_prompt_is_heard_once() {
        let mut task = Task::default();
        task.hear("task".to_owned(), true, 1000).unwrap();
        task.hear("task".to_owned(), true, 1000).unwrap();
        task.hear("  ".to_owned(), false, 1000).unwrap();
        assert_eq!(task.messages.len(), 1);
        task.hear("and more".to_owned(), false, 1000).unwrap();
        assert_eq!(task.messages.len(), 2);
    }

    #[test]
    fn a_huge_message_is_refused_and_leaves_no_trace() {
        let mut task = Task::default();
        let error = task.hear("x".repeat(2000), true, 1000).unwrap_err();
        assert_eq!((error.code.as_str(), error.fatal), ("message-too-large", false));
        assert!(task.is_empty());
    }

    /// As polecats wrote it that spoke HTTP to their model.
    const OLDER: &str = r#"{"version":1,"state":{"messages":[
        {"role":"user","content":"task"},
        {"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"list","arguments":"{}"}}]},
        {"role":"tool","content":"one.md","tool_call_id":"a"},
        {"role":"assistant","content":""}
    ],"rounds":2,"reminded":true,"prompt":"task"}}"#;

    #[test]
    fn an_older_snapshot_is_the_same_task() {
        let mut task: Task =
            state::load(OLDER.as_bytes(), crate::STATE_VERSION, state::no_upgrade).unwrap();
        assert_eq!((task.rounds, task.reminded, task.messages.len()), (2, true, 4));
        assert!(!task.warned);
        assert_eq!(task.messages[1].tool_calls[0].name, "list");
        assert_eq!(task.messages[2].text(), "one.md");
        task.hear("task".to_owned(), true, 1000).unwrap();
        assert_eq!(task.messages.len(), 4, "the prompt was heard before");
    }
}
