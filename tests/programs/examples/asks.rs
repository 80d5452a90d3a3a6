//! Asks a language model, as often as it is told, and misbehaves in no way of its own.
//!
//! | body | what it does |
//! | --- | --- |
//! | `ask <n> <text>` | asks n times and replies with what the last call brought: its text, or the kind of error and its message |
//! | `tools <n> <text>` | asks n times and offers the tool `status` |
//! | `leave <text>` | begins an answer, waits for its first part and cancels it |
//! | `turns <n> <body>` | takes n more turns with `continue` and then does what `<body>` says |
//!
//! Any other body is answered with itself.

use bulkhead_guest::bindings::bulkhead::agent::model::{
    self, ChatMessage, Completion, Content, ModelError, Request, Role, Tool,
};
use bulkhead_guest::{Agent, AgentError, Message, Outcome, Sender};

#[derive(Default)]
struct Asks {
    /// What comes after so many more turns.
    ahead: Option<(u64, String)>,
}

impl Agent for Asks {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        if !matches!(message.sender, Sender::Continuation) {
            return self.obey(&message.body);
        }
        match self.ahead.take() {
            Some((turns @ 1.., body)) => {
                self.ahead = Some((turns - 1, body));
                Ok(Outcome::proceed())
            }
            Some((0, body)) => self.obey(&body),
            None => Err(AgentError::fatal("no-turn", "a continuation came without its message")),
        }
    }
}

impl Asks {
    fn obey(&mut self, body: &str) -> Result<Outcome, AgentError> {
        let (verb, rest) = body.split_once(' ').unwrap_or((body, ""));
        let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match (verb, number.parse::<u64>()) {
            ("ask", Ok(times)) => Ok(Outcome::reply(ask(times, text, false))),
            ("tools", Ok(times)) => Ok(Outcome::reply(ask(times, text, true))),
            ("leave", _) => Ok(Outcome::reply(leave(rest))),
            ("turns", Ok(turns @ 1..)) => {
                self.ahead = Some((turns - 1, text.to_owned()));
                Ok(Outcome::proceed())
            }
            _ => Ok(Outcome::reply(body)),
        }
    }
}

fn ask(times: u64, text: &str, tools: bool) -> String {
    let mut last = String::new();
    for _ in 0..times {
        last = match model::complete(&request(text, tools)) {
            Ok(Completion { text, tool_calls, .. }) if tool_calls.is_empty() => text,
            Ok(Completion { tool_calls, .. }) => format!("calls {}", tool_calls[0].name),
            Err(error) => said(error),
        };
    }
    last
}

fn leave(text: &str) -> String {
    match model::chat(&request(text, false)) {
        Ok(stream) => {
            let first = stream.next().map_or_else(said, |_| "left".to_owned());
            stream.cancel();
            first
        }
        Err(error) => said(error),
    }
}

fn said(error: ModelError) -> String {
    match error {
        ModelError::BudgetExceeded(budget) => {
            let retry = budget.retry_ms.map_or("no retry", |_| "a retry");
            format!("budget-exceeded, {retry}: {}", budget.message)
        }
        other => format!("{other:?}"),
    }
}

fn request(text: &str, tools: bool) -> Request {
    let status = || Tool {
        name: "status".into(),
        description: "says how things are".into(),
        parameters: r#"{"type":"object","properties":{"text":{"type":"string"}}}"#.into(),
    };
    Request {
        endpoint: None,
        model: None,
        messages: vec![ChatMessage {
            role: Role::User,
            content: vec![Content::Text(text.to_owned())],
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning_state: None,
        }],
        tools: if tools { vec![status()] } else { Vec::new() },
        tool_choice: None,
        response_format: None,
        temperature: None,
        max_tokens: None,
        timeout_ms: None,
        extra: None,
    }
}

bulkhead_guest::export!(Asks);
