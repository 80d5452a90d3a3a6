//! What was said, bounded by count and by bytes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::AgentError;
use crate::model::{Message, Role};

/// Of a tool's result so much of [`Limits::max_bytes`] is remembered.
const RESULT_PART: usize = 8;

/// How much is remembered. [`config::load`](crate::config::load) reads it from keys (`max-messages`, `max-bytes`).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Limits {
    /// 200, if it is not set.
    pub max_messages: usize,
    /// As JSON. 256 KiB, if it is not set. A snapshot holds 1 MiB.
    pub max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_messages: 200, max_bytes: 256 * 1024 }
    }
}

impl Limits {
    /// A message that fills the memory alone would push out everything else: an error that fails the turn.
    pub fn admit(&self, question: &Message) -> Result<(), AgentError> {
        let (bytes, limit) = (question.json_bytes(), self.max_bytes / 2);
        if bytes <= limit {
            return Ok(());
        }
        Err(AgentError::failed(
            "message-too-large",
            format!("message has {bytes} bytes, the history takes up to {limit} at once"),
        ))
    }
}

/// Complete exchanges, oldest first. They are dropped whole, because a tool's result without its
/// call, or an answer without its question, is not a conversation that a model's server accepts.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    exchanges: VecDeque<Vec<Message>>,
}

impl History {
    /// Every message, oldest first.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.exchanges.iter().flatten()
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.exchanges.iter().map(Vec::len).sum()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }

    /// Adds an exchange that has its answer, with the beginnings of results that are longer than an eighth of the limit. Returns how
    /// many messages were dropped for it: of an exchange that is too large alone its own.
    pub fn commit(&mut self, mut exchange: Vec<Message>, limits: &Limits) -> usize {
        for message in exchange.iter_mut().filter(|message| message.role == Role::Tool) {
            message.shorten(limits.max_bytes / RESULT_PART);
        }
        let (messages, bytes) =
            (exchange.len(), exchange.iter().map(Message::json_bytes).sum::<usize>());
        if messages > limits.max_messages || bytes > limits.max_bytes {
            return messages;
        }
        self.exchanges.push_back(exchange);
        self.trim(limits)
    }

    /// Drops the oldest exchanges until the limits hold. Returns how many messages that were.
    pub fn trim(&mut self, limits: &Limits) -> usize {
        let mut messages = self.len();
        let mut bytes: usize = self.messages().map(Message::json_bytes).sum();
        let mut dropped = 0;
        while messages > limits.max_messages || bytes > limits.max_bytes {
            let Some(oldest) = self.exchanges.pop_front() else { break };
            messages -= oldest.len();
            bytes -= oldest.iter().map(Message::json_bytes).sum::<usize>();
            dropped += oldest.len();
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::model::ToolCall;

    const WIDE: Limits = Limits { max_messages: 1000, max_bytes: 1_000_000 };

    fn exchange(question: &str, length: usize) -> Vec<Message> {
        let answer = Message::assistant("answer");
        let mut messages = vec![Message::user(question)];
        messages.resize(length, answer);
        messages
    }

    fn questions(history: &History) -> Vec<Cow<'_, str>> {
        history.exchanges.iter().map(|exchange| exchange[0].text()).collect()
    }

    #[test]
    fn the_oldest_exchange_goes_first_and_whole() {
        let limits = Limits { max_messages: 6, ..WIDE };
        let mut history = History::default();
        assert_eq!(history.commit(exchange("a", 4), &limits), 0);
        assert_eq!(history.commit(exchange("b", 2), &limits), 0);
        assert_eq!(history.commit(exchange("c", 2), &limits), 4);
        assert_eq!(questions(&history), ["b", "c"]);
    }

    #[test]
    fn bytes_count_too() {
        let limits = Limits { max_bytes: 1000, ..WIDE };
        let mut history = History::default();
        for name in ["a", "b", "c"] {
            history.commit(exchange(&name.repeat(400), 2), &limits);
        }
        assert_eq!(history.exchanges.len(), 2);
        assert!(history.messages().map(Message::json_bytes).sum::<usize>() <= 1000);
    }

    #[test]
    fn an_exchange_that_is_too_large_alone_is_not_kept() {
        let limits = Limits { max_messages: 3, ..WIDE };
        let mut history = History::default();
        history.commit(exchange("a", 2), &limits);
        assert_eq!(history.commit(exchange("b", 9), &limits), 9);
        assert_eq!(questions(&history), ["a"]);
    }

    #[test]
    fn of_a_long_result_the_beginning_is_remembered() {
        let limits = Limits { max_bytes: 8000, ..WIDE };
        let mut history = History::default();
        history.commit(exchange("a", 2), &limits);
        let call = ToolCall { id: "c".into(), name: "read".into(), arguments: "{}".into() };
        let mut long = exchange("b", 2);
        long.insert(1, Message::tool_result(&call, "ü".repeat(50_000)));
        assert_eq!(history.commit(long, &limits), 0);
        assert_eq!(questions(&history), ["a", "b"]);
        let result = history.messages().find(|message| message.role == Role::Tool).unwrap();
        assert_eq!(result.text(), format!("{}\n[99000 bytes left out]", "ü".repeat(500)));
    }

    #[test]
    fn a_huge_message_is_refused_and_the_agent_keeps_running() {
        let limits = Limits { max_bytes: 100, ..WIDE };
        assert!(limits.admit(&Message::user("hi")).is_ok());
        let error = limits.admit(&Message::user("x".repeat(60))).unwrap_err();
        assert_eq!((error.code.as_str(), error.fatal), ("message-too-large", false));
    }

    #[test]
    fn the_history_survives_json() {
        let mut history = History::default();
        history.commit(exchange("a", 2), &WIDE);
        let json = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&json).unwrap(), history);
    }
}
