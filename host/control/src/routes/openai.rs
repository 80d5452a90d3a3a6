//! `GET /v1/models`, `GET /v1/models/{model}`, `POST /v1/chat/completions`: agents for chat clients, in the form of
//! OpenAI's API. The key of such a client is the control token.
//!
//! The agent keeps its conversation itself: of `messages`, what `user` said last is sent. The answer is the agent's reply.
//! A stream has the text of the agent's models as it comes, and at its end the reply, unless that was the last text.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bulkhead_api::openai::{
    ChatRequest, Choice, Completion, ModelCard, ModelList, OpenAiError, Said,
};
use bulkhead_api::{AgentView, Issue};
use bulkhead_feed::Delta;
use bulkhead_supervisor::FinishedTurn;
use bulkhead_types::{AgentId, Sender, TokenUsage};
use futures_util::StreamExt;
use futures_util::stream;
use hyper::StatusCode;
use serde_json::json;
use tokio::time::timeout;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{NoParams, PathText, Trace};
use crate::routed::Services;
use crate::streams::{Frame, Frames};
use crate::turn::{self, LiveTurn, Step};

/// Longest wait for an answer that is no stream.
const MAX_WAIT: Duration = Duration::from_millis(turn::MAX_WAIT_MS);

pub(super) fn models_operation() -> Operation {
    Operation::new(Group::Chat, "Lists the agents that take messages, as models")
        .answers::<ModelList>(200, "The agents.")
        .refuses_as::<OpenAiError>()
}

pub(super) fn model_operation() -> Operation {
    Operation::new(Group::Chat, "Returns one of them")
        .path_text("model", "The agent's id.")
        .answers::<ModelCard>(200, "The agent.")
        .refuses(404, "There is no such agent, or it takes no messages (`no-such-agent`).")
        .refuses(503, "Boot may still restore the agent (`not-back-yet`), or too many requests are under way (`busy`).")
        .refuses_as::<OpenAiError>()
}

pub(super) fn complete_operation() -> Operation {
    let example = json!({"model": "mayor", "messages": [{"role": "user", "content": "hello"}]});
    Operation::new(Group::Chat, "Sends an agent a message, and returns its reply when the turn is over")
        .about(
            "With `\"stream\": true` it comes in pieces: the text of the agent's models as they write it, \
             `reasoning_content`, and what the reply has beyond them. A turn goes on without its reader. `usage` is what \
             the agent's models read and wrote for the message; a stream has it when `stream_options.include_usage` is true.",
        )
        .traced()
        .body::<ChatRequest>(example)
        .answers::<Completion>(200, "The reply.")
        .answers_text(200, "text/event-stream", "The reply.")
        .refuses(404, "There is no such agent (`no-such-agent`).")
        .delivers()
        .refuses(502, "The turn failed (the agent's own code), or the agent ended (`agent-ended`, `message-set-aside`).")
        .refuses(503, "Boot may still restore the agent (`not-back-yet`), or too many streams or requests are under way (`busy`).")
        .refuses(504, "The turn goes on after ten minutes (`pending`).")
        .refuses_as::<OpenAiError>()
}

pub(super) async fn models<B: Backend>(
    State(backend): State<B>,
    _: NoParams,
) -> Result<Response, Refusal> {
    let list = long::json(move || {
        let agents = backend.list(None, usize::MAX);
        let data = agents.into_iter().filter(takes_messages).map(card).collect();
        ModelList { object: "list".into(), data }
    });
    list.await
}

pub(super) async fn model<B: Backend>(
    State(backend): State<B>,
    PathText(model): PathText,
    _: NoParams,
) -> Result<Response, Refusal> {
    let id = AgentId::parse(&model).map_err(|_| unknown(&model))?;
    let view = |backend: &B, id: &AgentId| {
        backend.status(id).filter(takes_messages).ok_or_else(|| unknown(&model))
    };
    let agent = PathAgent::of(backend, id).when_restored(view).await?;
    Ok(Json(card(agent)).into_response())
}

pub(super) async fn complete<B: Backend>(
    State(backend): State<B>,
    Extension(services): Extension<Arc<Services>>,
    _: NoParams,
    Trace(trace): Trace,
    body: WholeBody,
) -> Result<Response, Refusal> {
    let ChatRequest { model, prompt, stream, include_usage } =
        ChatRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    drop(body);
    let id = AgentId::parse(&model).map_err(|_| unknown(&model))?;
    let body = prompt.into();
    let send = |backend: &B, id: &AgentId| backend.send(id, Sender::Operator, body, trace);
    let agent = PathAgent::of(backend, id);
    if stream {
        let place = services.streams.place()?;
        let turn = agent.when_restored(|backend, id| LiveTurn::begin(backend, id, send)).await?;
        return Ok(place.events(chunks(turn, model, include_usage), false));
    }
    let mut delivery = agent.when_restored(send).await?;
    let ended = timeout(MAX_WAIT, turn::end(&delivery.message_id, &mut delivery.report)).await;
    let FinishedTurn { outcome, tokens, .. } =
        ended.map_err(|_| still_working(&delivery.message_id))??;
    let said = Said {
        role: Some("assistant".into()),
        content: Some(outcome.reply.unwrap_or_default()),
        reasoning_content: None,
    };
    let about = About::new(&delivery.message_id, model);
    let completion = Completion {
        usage: Some(tokens.into()),
        ..about.completion("chat.completion", Some(said), None, Some(end(outcome.reply_cut)))
    };
    Ok(Json(completion).into_response())
}

fn takes_messages(agent: &AgentView) -> bool {
    matches!(&*agent.status, "starting" | "running" | "backoff")
}

fn card(agent: AgentView) -> ModelCard {
    ModelCard {
        id: agent.agent_id.to_string(),
        object: "model".into(),
        created: seconds(agent.started_at),
        owned_by: agent.role.to_string(),
    }
}

fn seconds(at: bulkhead_types::Timestamp) -> u64 {
    u64::try_from(at.0 / 1000).unwrap_or(0)
}

fn unknown(model: &str) -> Refusal {
    let shown: String = model.chars().take(128).collect();
    let error = format!("no such agent: {shown}");
    let mut refusal = Refusal::new(StatusCode::NOT_FOUND, error).kind("no-such-agent");
    refusal.body.issues = vec![Issue::new("model", "is no agent that takes messages")];
    refusal
}

fn still_working(message_id: &str) -> Refusal {
    let error = format!("the turn of {message_id} goes on after {} s", MAX_WAIT.as_secs());
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, error).kind("pending").action("ask for a stream")
}

/// Why an answer ends.
fn end(is_cut: bool) -> &'static str {
    if is_cut { "length" } else { "stop" }
}

/// What all pieces of an answer have in common.
struct About {
    id: String,
    created: u64,
    model: String,
}

impl About {
    fn new(message_id: &str, model: String) -> Self {
        let created = seconds(bulkhead_log::now());
        Self { id: format!("chatcmpl-{message_id}"), created, model }
    }

    fn completion(
        &self,
        object: &str,
        message: Option<Said>,
        delta: Option<Said>,
        end: Option<&str>,
    ) -> Completion {
        let finish_reason = end.map(str::to_owned);
        Completion {
            id: self.id.clone(),
            object: object.into(),
            created: self.created,
            model: self.model.clone(),
            choices: vec![Choice { index: 0, message, delta, finish_reason }],
            usage: None,
        }
    }

    fn chunk(&self, delta: Said, end: Option<&str>) -> Frame {
        let chunk = self.completion("chat.completion.chunk", None, Some(delta), end);
        data(&chunk)
    }
}

/// The piece that has the tokens, and nothing else.
fn usage(about: &About, tokens: TokenUsage) -> Frame {
    data(&Completion {
        choices: Vec::new(),
        usage: Some(tokens.into()),
        ..about.completion("chat.completion.chunk", None, None, None)
    })
}

fn data(value: &impl serde::Serialize) -> Frame {
    let json = serde_json::to_vec(value).unwrap_or_default();
    Frame { id: None, kind: "", json: json.into() }
}

/// What was said so far.
#[derive(Default)]
struct Spoken {
    /// Something was.
    any: bool,
    /// What was said since the last tool, or since something was lost.
    last: String,
    /// Something else begins.
    is_cut: bool,
}

impl Spoken {
    /// The text as it follows what was said.
    fn more(&mut self, text: &str) -> String {
        let pause = if self.is_cut && self.any { "\n\n" } else { "" };
        if self.is_cut {
            self.last.clear();
        }
        (self.any, self.is_cut) = (true, false);
        self.last += text;
        format!("{pause}{text}")
    }

    /// Of a reply, what was not said.
    fn rest(&mut self, reply: &str) -> Option<String> {
        if reply.trim().is_empty() {
            return None;
        }
        let goes_on = !self.is_cut && !self.last.is_empty();
        match reply.strip_prefix(&*self.last).filter(|_| goes_on) {
            Some(rest) => Some(rest.to_owned()).filter(|rest| !rest.trim().is_empty()),
            None if reply.trim() == self.last.trim() => None,
            None => {
                self.is_cut = true;
                Some(self.more(reply))
            }
        }
    }
}

fn chunks(turn: LiveTurn, model: String, include_usage: bool) -> Frames {
    let about = About::new(turn.message_id(), model);
    let role =
        Said { role: Some("assistant".into()), content: Some(String::new()), ..Said::default() };
    let first = stream::iter([vec![about.chunk(role, None)]]);
    let state = Some((turn, about, Spoken::default()));
    let rest = stream::unfold(state, move |state| async move {
        let (mut turn, about, mut spoken) = state?;
        let (steps, mut frames, mut is_over) = (turn.next().await, Vec::new(), false);
        for step in steps {
            match step {
                Step::Deltas(deltas) => {
                    frames.extend(
                        deltas
                            .deltas
                            .iter()
                            .filter_map(|it| said(it, &mut spoken))
                            .map(|said| about.chunk(said, None)),
                    );
                }
                Step::Gap => spoken.is_cut = true,
                Step::Ended(Ok(FinishedTurn { outcome, tokens, .. })) => {
                    let is_cut = outcome.reply_cut;
                    let rest = outcome.reply.and_then(|reply| spoken.rest(&reply));
                    let rest = rest.map(|text| Said { content: Some(text), ..Said::default() });
                    frames.extend(rest.map(|said| about.chunk(said, None)));
                    frames.push(about.chunk(Said::default(), Some(end(is_cut))));
                    frames.extend(include_usage.then(|| usage(&about, tokens)));
                    frames.push(Frame { id: None, kind: "", json: "[DONE]".into() });
                    is_over = true;
                }
                Step::Ended(Err(refusal)) => {
                    frames.push(data(&OpenAiError::from(*refusal.body)));
                    is_over = true;
                }
            }
        }
        Some((frames, (!is_over).then_some((turn, about, spoken))))
    });
    let rest = rest.filter(|frames: &Vec<Frame>| std::future::ready(!frames.is_empty()));
    first.chain(rest).boxed()
}

/// A delta as such clients read it. Of tools they learn nothing: the agent has them itself.
fn said(delta: &Delta, spoken: &mut Spoken) -> Option<Said> {
    match delta {
        Delta::Text(text) => Some(Said { content: Some(spoken.more(text)), ..Said::default() }),
        Delta::Reasoning(text) => {
            Some(Said { reasoning_content: Some(text.clone()), ..Said::default() })
        }
        Delta::ToolBegin { .. } => {
            spoken.is_cut = true;
            None
        }
        Delta::ToolEnd { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_and_what_is_missing_of_the_reply_are_one_text() {
        let mut spoken = Spoken::default();
        assert_eq!(spoken.rest("all at once").as_deref(), Some("all at once"));
        let mut spoken = Spoken::default();
        assert_eq!(spoken.more("Let me ") + &spoken.more("look."), "Let me look.");
        spoken.is_cut = true;
        assert_eq!(spoken.more("It is "), "\n\nIt is ");
        assert_eq!(spoken.rest("It is blue.").as_deref(), Some("blue."));
        let mut spoken = Spoken::default();
        spoken.more("Done.");
        assert_eq!(spoken.rest("Done.\n"), None);
        assert_eq!(spoken.rest("").as_deref(), None);
        assert_eq!(spoken.rest("Something else.").as_deref(), Some("\n\nSomething else."));
        let mut spoken = Spoken::default();
        spoken.more("Let me look.");
        spoken.is_cut = true;
        assert_eq!(spoken.rest("I saw it.").as_deref(), Some("\n\nI saw it."));
    }
}
