//! Spans, which do nothing when there is no telemetry: then each is one empty `Option`.
//!
//! ```text
//! invoke_agent AGENT          one turn, TurnSpan; the caller's span is its parent
//! ├── chat MODEL              one model call, ChatSpan
//! ├── execute_tool TOOL       one tool, ToolSpan
//! ├── PROGRAM                 one native program, ProgramSpan; it may end after the turn
//! └── chat MODEL
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use parking_lot::Mutex;

use crate::conventions::{self as names, Conventions};
use crate::trace_context::TraceContext;

/// Longest text that an agent or a model chooses and that is no content, in bytes: names and ids.
const MAX_TEXT: usize = 256;

/// Longest content of one attribute, in bytes.
const MAX_CONTENT: usize = 64 * 1024;

/// Tools of one turn that may run at once, as far as spans go.
const MAX_TOOLS: usize = 128;

/// What spans are made by.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub tracer: SdkTracer,
    pub conventions: Conventions,
    pub content: bool,
}

/// A turn that begins.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// The agent's id.
    pub agent: &'a str,
    /// Its role.
    pub role: &'a str,
    /// The number of the incarnation.
    pub incarnation: u64,
    /// The message; none for a stock program.
    pub message: Option<Delivery<'a>>,
    /// The span that caused it, if its sender named one.
    pub parent: Option<&'a TraceContext>,
}

/// A message that is delivered.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Its id.
    pub id: &'a str,
    /// 1, and more for each delivery that the agent ended in.
    pub attempt: u32,
}

/// One turn of an agent: `invoke_agent`. Dropped before its end, it was cancelled.
#[derive(Debug, Default)]
pub struct TurnSpan(Option<Open>, TurnScope);

/// The turn under way, for everything that belongs to it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TurnScope(Option<Arc<Scope>>);

#[derive(Debug)]
struct Scope {
    recorder: Arc<Recorder>,
    context: Context,
    /// Tools whose result is still to come, by the ids of their calls.
    tools: Mutex<Vec<(String, ToolSpan)>>,
}

/// The turn that an incarnation is in, for everything that runs in it. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct CurrentTurn(Arc<Mutex<TurnScope>>);

/// A span that is not over.
#[derive(Debug)]
struct Open {
    span: Span,
    recorder: Arc<Recorder>,
}

/// A question to a language model.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// Whose API it is: `openai`, `anthropic`.
    pub provider: &'static str,
    /// The model that is asked for.
    pub model: &'a str,
    /// The endpoint's name in the configuration.
    pub endpoint: &'a str,
    /// Where it is.
    pub address: &'a str,
    /// Its port.
    pub port: u16,
    /// The most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Its temperature.
    pub temperature: Option<f32>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered<'a> {
    /// Why the model ended it: `stop`, `tool_calls`, `length`.
    pub finish: Option<&'a str>,
    /// All tokens of the question.
    pub input_tokens: Option<u64>,
    /// Those of them that the server had in its cache.
    pub cached_tokens: Option<u64>,
    /// All tokens of the answer.
    pub output_tokens: Option<u64>,
    /// Those of them that were reasoning.
    pub reasoning_tokens: Option<u64>,
    /// How often the question was sent.
    pub tries: u32,
    /// What kind of error it ended with, of a small number of kinds.
    pub error: Option<&'a str>,
}

/// One question to a language model and its answer: `chat`. Dropped before its end, it was cancelled.
#[derive(Debug, Default)]
pub struct ChatSpan(Option<Open>);

/// One tool that an agent executes: `execute_tool`.
#[derive(Debug)]
struct ToolSpan(Option<Open>);

/// One native program that an agent runs, with all that it starts. Dropped before its end, it was cancelled.
#[derive(Debug, Default)]
pub struct ProgramSpan(Option<Open>);

/// How a native program ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProgramEnd<'a> {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Of its memory, at most.
    pub peak_memory_bytes: u64,
    /// What kind of end it was, of a small number of kinds; none for one with code 0.
    pub error: Option<&'a str>,
}

impl Recorder {
    fn open(
        self: &Arc<Self>,
        operation: &'static str,
        of: &str,
        kind: SpanKind,
        parent: &Context,
        mut attributes: Vec<KeyValue>,
    ) -> Open {
        attributes.push(KeyValue::new(names::OPERATION, operation));
        self.open_named(format!("{operation} {of}"), kind, parent, attributes)
    }

    fn open_named(
        self: &Arc<Self>,
        name: String,
        kind: SpanKind,
        parent: &Context,
        attributes: Vec<KeyValue>,
    ) -> Open {
        let builder = self.tracer.span_builder(name);
        let builder = builder.with_kind(kind).with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, parent);
        Open { span, recorder: Arc::clone(self) }
    }

    pub(crate) fn turn(self: &Arc<Self>, turn: Turn<'_>) -> TurnSpan {
        let Turn { agent, role, incarnation, message, parent } = turn;
        let parent = parent.map(|parent| parent.span_context().clone());
        let parent =
            parent.map_or_else(Context::new, |it| Context::new().with_remote_span_context(it));
        let mut attributes = vec![
            KeyValue::new(self.conventions.provider(), "bulkhead"),
            KeyValue::new(names::AGENT_ID, agent.to_owned()),
            KeyValue::new(names::AGENT_NAME, agent.to_owned()),
            KeyValue::new(names::ROLE, role.to_owned()),
            KeyValue::new(names::INCARNATION, whole(incarnation)),
        ];
        if let Some(Delivery { id, attempt }) = message {
            attributes.push(KeyValue::new(names::MESSAGE_ID, short(id)));
            attributes.push(KeyValue::new(names::ATTEMPT, i64::from(attempt)));
        }
        let open = self.open("invoke_agent", agent, SpanKind::Internal, &parent, attributes);
        let context = Context::new().with_remote_span_context(open.span.span_context().clone());
        let scope = Scope { recorder: Arc::clone(self), context, tools: Mutex::default() };
        TurnSpan(Some(open), TurnScope(Some(Arc::new(scope))))
    }
}

impl TurnSpan {
    /// For what belongs to it.
    pub fn scope(&self) -> TurnScope {
        self.1.clone()
    }

    /// The agent came through: `outcome` is what it wants next.
    pub fn returned(mut self, outcome: &'static str) {
        if let Some(mut open) = self.0.take() {
            self.1.tools_end();
            open.set(names::OUTCOME, outcome);
            open.end(None);
        }
    }

    /// It did not: `error` is one of a small number of kinds.
    pub fn failed(mut self, error: &str) {
        if let Some(open) = self.0.take() {
            self.1.tools_end();
            open.end(Some(error));
        }
    }
}

impl CurrentTurn {
    /// A turn begins.
    pub fn set(&self, scope: TurnScope) {
        *self.0.lock() = scope;
    }

    /// It is over.
    pub fn clear(&self) {
        self.set(TurnScope::default());
    }

    /// The turn; an empty one between turns.
    pub fn get(&self) -> TurnScope {
        self.0.lock().clone()
    }
}

impl TurnScope {
    /// For the headers of a request that the turn causes.
    pub fn trace_context(&self) -> Option<TraceContext> {
        let scope = self.0.as_ref()?;
        Some(TraceContext::new(scope.context.span().span_context().clone()))
    }

    /// Begins a question to a model.
    pub fn chat(&self, chat: Chat<'_>) -> ChatSpan {
        let Some(scope) = &self.0 else { return ChatSpan(None) };
        let Chat { provider, model, endpoint, address, port, max_tokens, temperature } = chat;
        let mut attributes = vec![
            KeyValue::new(scope.recorder.conventions.provider(), provider),
            KeyValue::new(names::MODEL, short(model)),
            KeyValue::new(names::ENDPOINT, endpoint.to_owned()),
            KeyValue::new(names::SERVER_ADDRESS, address.to_owned()),
            KeyValue::new(names::SERVER_PORT, i64::from(port)),
        ];
        attributes.extend(max_tokens.map(|it| KeyValue::new(names::MAX_TOKENS, i64::from(it))));
        attributes.extend(temperature.map(|it| KeyValue::new(names::TEMPERATURE, f64::from(it))));
        let (model, kind) = (short(model), SpanKind::Client);
        ChatSpan(Some(scope.recorder.open("chat", &model, kind, &scope.context, attributes)))
    }

    /// A native program begins. It may outlive the turn.
    pub fn program(&self, name: &str) -> ProgramSpan {
        let Some(scope) = &self.0 else { return ProgramSpan(None) };
        let name = short(name);
        let attributes = vec![KeyValue::new(names::EXECUTABLE, name.clone())];
        let (recorder, kind) = (&scope.recorder, SpanKind::Client);
        ProgramSpan(Some(recorder.open_named(name, kind, &scope.context, attributes)))
    }

    /// The agent gets a call of a tool: the tool's span begins. Of more than 128 at once there is none.
    pub fn tool_called(&self, name: &str, call_id: &str) {
        let Some(scope) = &self.0 else { return };
        let mut tools = scope.tools.lock();
        if tools.len() < MAX_TOOLS {
            let attributes = vec![
                KeyValue::new(names::TOOL_NAME, short(name)),
                KeyValue::new(names::TOOL_CALL_ID, short(call_id)),
                KeyValue::new(names::TOOL_TYPE, "function"),
            ];
            let (name, kind) = (short(name), SpanKind::Internal);
            let open = scope.recorder.open("execute_tool", &name, kind, &scope.context, attributes);
            tools.push((call_id.to_owned(), ToolSpan(Some(open))));
        }
    }

    /// The agent gives a model these results: their tools' spans end.
    pub fn tools_returned<'a>(&self, call_ids: impl IntoIterator<Item = &'a str>) {
        let Some(scope) = &self.0 else { return };
        let mut tools = scope.tools.lock();
        for id in call_ids {
            if tools.is_empty() {
                return;
            }
            if let Some(at) = tools.iter().position(|(call_id, _)| call_id == id) {
                tools.swap_remove(at).1.end(None);
            }
        }
    }

    /// The turn is over, and no result comes any more.
    fn tools_end(&self) {
        let Some(scope) = &self.0 else { return };
        for (_, tool) in scope.tools.lock().drain(..) {
            tool.end(Some(NO_RESULT));
        }
    }
}

impl ChatSpan {
    /// For the headers of its request.
    pub fn trace_context(&self) -> Option<TraceContext> {
        let open = self.0.as_ref()?;
        Some(TraceContext::new(open.span.span_context().clone()))
    }

    /// Whether prompts and answers are recorded.
    pub fn records_content(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.recorder.content && open.span.is_recording())
    }

    /// Records the question, as JSON of the conventions' form. It is asked for only if it is recorded.
    pub fn set_input(&mut self, messages: impl FnOnce() -> String) {
        self.set_content(names::INPUT_MESSAGES, messages);
    }

    /// Records the answer. It is asked for only if it is recorded.
    pub fn set_output(&mut self, messages: impl FnOnce() -> String) {
        self.set_content(names::OUTPUT_MESSAGES, messages);
    }

    fn set_content(&mut self, name: &'static str, messages: impl FnOnce() -> String) {
        if !self.records_content() {
            return;
        }
        let Some(open) = &mut self.0 else { return };
        let messages = messages();
        // Half a JSON text is none.
        match messages.len() > MAX_CONTENT {
            true => open.set("bulkhead.content.omitted_bytes", whole(messages.len() as u64)),
            false => open.set(name, messages),
        }
    }

    /// It is over.
    pub fn end(mut self, answered: Answered<'_>) {
        let Some(mut open) = self.0.take() else { return };
        let is_latest = open.recorder.conventions == Conventions::Latest;
        let Answered {
            finish,
            input_tokens,
            cached_tokens,
            output_tokens,
            reasoning_tokens,
            tries,
            error,
        } = answered;
        let finish = finish.or_else(|| error.filter(|_| is_latest).map(|_| "error"));
        if let Some(finish) = finish {
            let reasons = vec![StringValue::from(finish.to_owned())];
            open.set(names::FINISH_REASONS, Value::Array(Array::String(reasons)));
        }
        open.set(names::TRIES, i64::from(tries));
        for (name, tokens, is_known) in [
            (names::INPUT_TOKENS, input_tokens, true),
            (names::OUTPUT_TOKENS, output_tokens, true),
            (names::CACHED_TOKENS, cached_tokens, is_latest),
            (names::REASONING_TOKENS, reasoning_tokens, is_latest),
        ] {
            if let Some(tokens) = tokens.filter(|_| is_known) {
                open.set(name, whole(tokens));
            }
        }
        open.end(error);
    }
}

impl ProgramSpan {
    /// It is over.
    pub fn end(mut self, end: ProgramEnd<'_>) {
        let Some(mut open) = self.0.take() else { return };
        let ProgramEnd { code, cpu_ms, peak_memory_bytes, error } = end;
        if let Some(code) = code {
            open.set(names::EXIT_CODE, i64::from(code));
        }
        open.set(names::PROGRAM_CPU_MS, whole(cpu_ms));
        open.set(names::PROGRAM_PEAK_BYTES, whole(peak_memory_bytes));
        open.end(error);
    }
}

impl ToolSpan {
    fn end(mut self, error: Option<&str>) {
        if let Some(open) = self.0.take() {
            open.end(error);
        }
    }
}

impl Open {
    fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.span.set_attribute(KeyValue::new(name, value));
    }

    fn end(mut self, error: Option<&str>) {
        if let Some(error) = error {
            self.set(names::ERROR_TYPE, short(error));
            // Its words may be a prompt's: they are in the log.
            self.span.set_status(Status::Error { description: Cow::Borrowed("") });
        }
        self.span.end();
    }
}

/// A tool whose turn was over first.
const NO_RESULT: &str = "no_result";

/// What nobody ended.
const CANCELLED: &str = "cancelled";

impl Drop for TurnSpan {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            self.1.tools_end();
            open.end(Some(CANCELLED));
        }
    }
}

impl Drop for ProgramSpan {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.end(Some(CANCELLED));
        }
    }
}

impl Drop for ChatSpan {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.end(Some(CANCELLED));
        }
    }
}

/// At most [`MAX_TEXT`] bytes of it.
fn short(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
