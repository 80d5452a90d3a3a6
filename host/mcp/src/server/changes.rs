//! What the tools that change something do.

use std::time::Duration;

use bulkhead_api::MessageAnswer;
use bulkhead_terminal::words::quoted;
use serde_json::{Value, json};

use super::Server;
use super::arguments::{IfUp, MessageTo, NewAgent, agent_id};
use crate::api::{Call, ask, read};
use crate::result::{Content, MAX_BYTES};

/// How long a message is waited for that says nothing else: less than clients wait for a tool.
const WAIT_S: u64 = 45;

/// Longest wait for a turn: what the control API allows.
const MAX_WAIT_S: u64 = 600;

/// What the answer may take beyond the wait.
const GRACE: Duration = Duration::from_secs(10);

/// How long a start or a stop may take: more than a role should allow.
const LONG: Duration = Duration::from_secs(600);

impl Server {
    pub(super) async fn send(&self, asked: MessageTo) -> Result<Content, String> {
        let id = agent_id(&asked.agent)?;
        let wait_s = asked.wait_seconds.unwrap_or(WAIT_S);
        if wait_s > MAX_WAIT_S {
            return Err(format!("wait_seconds must be 0 to {MAX_WAIT_S}"));
        }
        let path = format!("/agents/{id}/message?wait={}", wait_s * 1000);
        let patience = Duration::from_secs(wait_s) + GRACE;
        let body = json!({ "prompt": asked.message });
        let body = ask(&*self.api, Call::post(path, &body, patience)).await?;
        let answer: MessageAnswer = read(&body)?;
        let message = quoted(&answer.message_id);
        let Some(turn) = answer.turn else {
            return Ok(Content::words(format!("sent as {message}")));
        };
        if turn.outcome == "pending" {
            return Ok(Content::words(format!(
                "The turn of message {message} goes on after {wait_s} s. The tool `events` shows what {id} does."
            )));
        }
        let outcome = quoted(&turn.outcome);
        Ok(match turn.reply {
            Some(reply) => {
                let cut =
                    if turn.reply_cut { "\n(the host kept the first 1 MiB of it)" } else { "" };
                Content::with_quotes(format!(
                    "{id} ended the turn of message {message} with the outcome {outcome} and this reply:\n{}{cut}",
                    shortened(&reply)
                ))
            }
            None => Content::words(format!(
                "{id} ended the turn of message {message} with the outcome {outcome} and no reply."
            )),
        })
    }

    pub(super) async fn start(&self, asked: NewAgent) -> Result<Content, String> {
        let id = agent_id(&asked.agent)?;
        let mut body = json!({
            "agentId": id.as_str(), "role": asked.role, "prompt": asked.prompt, "systemPrompt": asked.system_prompt,
            "model": asked.model, "component": asked.component, "memoryLimitMb": asked.memory_limit_mb,
            "ifRunning": asked.if_running.unwrap_or(IfUp::Keep).word(), "force": asked.force,
        });
        if let Some(body) = body.as_object_mut() {
            body.retain(|_, value| !value.is_null());
        }
        let call = Call::post("/agents/start".to_owned(), &body, LONG);
        Content::document(&ask(&*self.api, call).await?)
    }

    pub(super) async fn stop(&self, agent: &str) -> Result<Content, String> {
        let id = agent_id(agent)?;
        let call = Call::post(format!("/agents/{id}/stop"), &Value::Null, LONG);
        Content::document(&ask(&*self.api, call).await?)
    }
}

/// A reply of which a part may have to do.
fn shortened(reply: &str) -> String {
    // A character has at most twelve bytes in quotes.
    let end = reply.floor_char_boundary(MAX_BYTES / 16);
    match &reply[end..] {
        "" => quoted(reply),
        rest => format!("{}\n(the rest, {} bytes, is left out)", quoted(&reply[..end]), rest.len()),
    }
}
