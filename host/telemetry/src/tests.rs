//! Spans from their beginning to an exporter, without a network.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;

use crate::*;

/// Keeps what comes.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().extend(batch);
        Ok(())
    }
}

/// Never answers.
#[derive(Debug)]
struct Hangs;

impl SpanExporter for Hangs {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        std::future::pending().await
    }
}

/// Refuses everything.
#[derive(Debug)]
struct Refuses;

impl SpanExporter for Refuses {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Err(OTelSdkError::InternalFailure("no".into()))
    }
}

const LATEST: (&str, &str) = ("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental");

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn settings(variables: &[(&str, &str)]) -> Settings {
    let find = |name: &str| {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        let found = [endpoint].iter().chain(variables).rfind(|(other, _)| *other == name).copied();
        found.map(|(_, value)| OsString::from(value))
    };
    Settings::from_env(find).unwrap().unwrap()
}

fn turn<'a>(parent: Option<&'a TraceContext>) -> Turn<'a> {
    let message = Some(Delivery { id: "m-1", attempt: 1 });
    Turn { agent: "alice", role: "polecat", incarnation: 3, message, parent }
}

const CHAT: Chat<'static> = Chat {
    provider: "openai",
    model: "gpt",
    endpoint: "main",
    address: "models.example",
    port: 443,
    max_tokens: Some(10),
    temperature: None,
};

/// All spans that `work` ends, in that order.
fn spans_of(variables: &[(&str, &str)], work: impl FnOnce(&Telemetry)) -> Vec<SpanData> {
    let kept = Kept::default();
    let telemetry = Telemetry::with(&settings(variables), "run", || Ok(kept.clone())).unwrap();
    work(&telemetry);
    telemetry.end();
    let spans = std::mem::take(&mut *kept.0.lock());
    let figures = Figures { exported: spans.len() as u64, dropped: 0, failed: 0 };
    assert_eq!(telemetry.figures(), figures);
    spans
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found: Vec<_> = span.attributes.iter().filter(|it| it.key.as_str() == name).collect();
    assert!(found.len() < 2, "{name} is there twice");
    found.first().map(|it| it.value.to_string())
}

fn whole_turn(telemetry: &Telemetry) {
    let parent = TraceContext::parse(PARENT, "vendor=1").unwrap();
    let turn = telemetry.turn(turn(Some(&parent)));
    let scope = turn.scope();
    let mut chat = scope.chat(CHAT);
    chat.set_input(|| "[1]".into());
    chat.set_output(|| "[2]".into());
    chat.end(Answered {
        finish: Some("tool_calls"),
        input_tokens: Some(100),
        cached_tokens: Some(40),
        output_tokens: Some(20),
        reasoning_tokens: Some(7),
        tries: 2,
        error: None,
    });
    scope.tool_called("read_file", "call-1");
    scope.tools_returned(["call-0", "call-1", "call-1"]);
    turn.returned("idle");
}

#[test]
fn a_turn_has_its_callers_trace_and_its_calls_are_below_it() {
    let spans = spans_of(&[], whole_turn);
    let [chat, tool, turn] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(turn.name, "invoke_agent alice");
    assert_eq!(turn.span_kind, SpanKind::Internal);
    assert_eq!(turn.span_context.trace_id().to_string(), PARENT[3..35]);
    assert_eq!(turn.parent_span_id.to_string(), PARENT[36..52]);
    assert!(turn.parent_span_is_remote);
    assert_eq!(turn.status, Status::Unset);
    for (name, value) in [
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.agent.id", "alice"),
        ("gen_ai.agent.name", "alice"),
        ("bulkhead.agent.role", "polecat"),
        ("bulkhead.incarnation", "3"),
        ("bulkhead.message.id", "m-1"),
        ("bulkhead.message.attempt", "1"),
        ("bulkhead.turn.outcome", "idle"),
    ] {
        assert_eq!(attribute(turn, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(chat.name, "chat gpt");
    assert_eq!(chat.span_kind, SpanKind::Client);
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.system", "openai"),
        ("gen_ai.request.model", "gpt"),
        ("gen_ai.request.max_tokens", "10"),
        ("gen_ai.response.finish_reasons", "[\"tool_calls\"]"),
        ("gen_ai.usage.input_tokens", "100"),
        ("gen_ai.usage.output_tokens", "20"),
        ("server.address", "models.example"),
        ("server.port", "443"),
        ("bulkhead.model.endpoint", "main"),
        ("bulkhead.model.tries", "2"),
    ] {
        assert_eq!(attribute(chat, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(tool.name, "execute_tool read_file");
    assert_eq!(attribute(tool, "gen_ai.tool.name").as_deref(), Some("read_file"));
    assert_eq!(attribute(tool, "gen_ai.tool.call.id").as_deref(), Some("call-1"));
    for child in [chat, tool] {
        assert_eq!(child.span_context.trace_id(), turn.span_context.trace_id());
        assert_eq!(child.parent_span_id, turn.span_context.span_id());
        assert!(!child.parent_span_is_remote);
        assert_eq!(child.span_context.trace_state().get("vendor"), Some("1"));
    }
}

#[test]
fn the_switch_changes_names_and_content_is_only_there_when_asked_for() {
    const CAPTURE: (&str, &str) = ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    let chat = |variables: &[_]| spans_of(variables, whole_turn).remove(0);
    let old = chat(&[]);
    let new = chat(&[LATEST]);
    let full = chat(&[LATEST, CAPTURE]);
    for (name, of_old, of_new, of_full) in [
        ("gen_ai.system", Some("openai"), None, None),
        ("gen_ai.provider.name", None, Some("openai"), Some("openai")),
        ("gen_ai.usage.cache_read.input_tokens", None, Some("40"), Some("40")),
        ("gen_ai.usage.reasoning.output_tokens", None, Some("7"), Some("7")),
        ("gen_ai.input.messages", None, None, Some("[1]")),
        ("gen_ai.output.messages", None, None, Some("[2]")),
    ] {
        assert_eq!(attribute(&old, name).as_deref(), of_old, "{name} of 1.36");
        assert_eq!(attribute(&new, name).as_deref(), of_new, "{name} of the latest");
        assert_eq!(attribute(&full, name).as_deref(), of_full, "{name} with content");
    }
}

#[test]
fn content_that_nobody_asked_for_is_not_even_made() {
    spans_of(&[LATEST], |telemetry| {
        let mut chat = telemetry.turn(turn(None)).scope().chat(CHAT);
        assert!(!chat.records_content());
        chat.set_input(|| unreachable!());
    });
    let capture = ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    let spans = spans_of(&[LATEST, capture], |telemetry| {
        let mut chat = telemetry.turn(turn(None)).scope().chat(CHAT);
        chat.set_input(|| "x".repeat(65_537));
    });
    let chat = spans.iter().find(|span| span.name == "chat gpt").unwrap();
    assert_eq!(attribute(chat, "gen_ai.input.messages"), None);
    assert_eq!(attribute(chat, "bulkhead.content.omitted_bytes").as_deref(), Some("65537"));
}

#[test]
fn an_error_has_a_type_and_no_words() {
    let spans = spans_of(&[LATEST], |telemetry| {
        let turn = telemetry.turn(turn(None));
        let scope = turn.scope();
        scope.chat(CHAT).end(Answered { error: Some("timeout"), tries: 3, ..Answered::default() });
        drop(scope.chat(CHAT));
        scope.tool_called("t", "1");
        turn.failed("trap");
    });
    let types: Vec<_> = spans.iter().map(|span| attribute(span, "error.type").unwrap()).collect();
    assert_eq!(types, ["timeout", "cancelled", "no_result", "trap"]);
    for span in &spans {
        assert_eq!(span.status, Status::error(""), "{span:?}");
    }
    let reasons = attribute(&spans[0], "gen_ai.response.finish_reasons");
    assert_eq!(reasons.as_deref(), Some("[\"error\"]"));
}

#[test]
fn what_is_off_is_empty() {
    assert!(TurnSpan::default().scope().trace_context().is_none());
    let scope = TurnScope::default();
    let mut chat = scope.chat(CHAT);
    chat.set_input(|| unreachable!());
    assert!(chat.trace_context().is_none());
    chat.end(Answered::default());
    scope.tool_called("t", "1");
    scope.tools_returned(["1"]);
    TurnSpan::default().returned("idle");
    assert!(CurrentTurn::default().get().trace_context().is_none());
    assert_eq!(size_of::<TurnScope>(), size_of::<usize>());
    assert_eq!(size_of::<Option<TraceContext>>(), size_of::<usize>());
}

#[test]
fn a_caller_that_samples_nothing_is_followed_and_its_trace_goes_on() {
    let spans = spans_of(&[], |telemetry| {
        let unsampled = format!("{}00", &PARENT[..53]);
        let parent = TraceContext::parse(&unsampled, "").unwrap();
        let turn = telemetry.turn(turn(Some(&parent)));
        let chat = turn.scope().chat(CHAT);
        let written = chat.trace_context().unwrap().traceparent();
        assert_eq!(written[..36], PARENT[..36]);
        assert!(written.ends_with("-00"));
        assert!(!chat.records_content());
    });
    assert!(spans.is_empty());
}

#[test]
fn headers_name_the_span_that_the_request_belongs_to() {
    let mut written = Vec::new();
    let spans = spans_of(&[], |telemetry| {
        let turn = telemetry.turn(turn(None));
        let scope = turn.scope();
        let chat = scope.chat(CHAT);
        let contexts = [chat.trace_context(), scope.trace_context()];
        written.extend(contexts.map(|context| context.unwrap().traceparent()));
    });
    let expected: Vec<_> = ["chat gpt", "invoke_agent alice"]
        .map(|name| &spans.iter().find(|span| span.name == name).unwrap().span_context)
        .map(|it| format!("00-{}-{}-01", it.trace_id(), it.span_id()))
        .into();
    assert_eq!(written, expected);
}

#[test]
fn a_name_of_any_length_is_cut_between_characters() {
    let spans = spans_of(&[], |telemetry| {
        let name = "é".repeat(200);
        telemetry.turn(turn(None)).scope().tool_called(&name, &name);
    });
    assert_eq!(attribute(&spans[0], "gen_ai.tool.name").unwrap(), "é".repeat(128));
}

#[test]
fn a_program_is_below_its_turn_also_when_it_outlives_it() {
    let spans = spans_of(&[], |telemetry| {
        let turn = telemetry.turn(turn(None));
        let (quick, slow) = (turn.scope().program("git"), turn.scope().program("make"));
        drop(turn.scope().program("sh"));
        quick.end(ProgramEnd { code: Some(0), cpu_ms: 7, peak_memory_bytes: 4096, error: None });
        turn.returned("idle");
        slow.end(ProgramEnd { error: Some("memory_limit"), ..ProgramEnd::default() });
    });
    let [sh, git, turn, make] = &spans[..] else { panic!("{spans:?}") };
    for (span, name, error, code) in [
        (sh, "sh", Some("cancelled"), None),
        (git, "git", None, Some("0")),
        (make, "make", Some("memory_limit"), None),
    ] {
        assert_eq!((&*span.name, &span.span_kind), (name, &SpanKind::Client));
        assert_eq!(span.parent_span_id, turn.span_context.span_id(), "{name}");
        assert_eq!(attribute(span, "process.executable.name").as_deref(), Some(name));
        assert_eq!(attribute(span, "process.exit.code").as_deref(), code, "{name}");
        assert_eq!(attribute(span, "error.type").as_deref(), error, "{name}");
    }
    assert_eq!(attribute(git, "bulkhead.program.cpu_ms").as_deref(), Some("7"));
    assert_eq!(attribute(git, "gen_ai.operation.name"), None, "it is no call of a model");
}

#[test]
fn tools_end_when_their_results_are_given_and_never_outlive_their_turn() {
    let spans = spans_of(&[], |telemetry| {
        let current = CurrentTurn::default();
        let turn = telemetry.turn(turn(None));
        current.set(turn.scope());
        for call in 0..130 {
            current.get().tool_called("t", &call.to_string());
        }
        current.get().tools_returned(["5", "129"]);
        current.clear();
        turn.returned("idle");
        current.get().tool_called("t", "late");
    });
    assert_eq!(spans.len(), 128 + 1, "and not more");
    assert_eq!(attribute(&spans[0], "gen_ai.tool.call.id").as_deref(), Some("5"));
    assert_eq!(attribute(&spans[0], "error.type"), None);
    let lost =
        spans.iter().filter(|it| attribute(it, "error.type").as_deref() == Some("no_result"));
    assert_eq!(lost.count(), 127);
}

#[test]
fn a_collector_that_hangs_blocks_nobody_and_what_finds_no_room_is_counted() {
    let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "4"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")];
    let telemetry = Telemetry::with(&settings(&small), "run", || Ok(Hangs)).unwrap();
    for _ in 0..100 {
        telemetry.turn(turn(None)).returned("idle");
    }
    telemetry.end_within(Duration::from_millis(50));
    let Figures { exported, dropped, failed } = telemetry.figures();
    // One batch is under way when it ends, if the thread has come so far.
    assert_eq!((exported, dropped + failed), (0, 100));
    assert!(failed <= 2 && dropped >= 98 - 4, "{dropped} dropped, {failed} failed");
    telemetry.turn(turn(None)).returned("idle");
    assert_eq!(telemetry.figures().dropped, dropped + 1);
    telemetry.end();
}

#[test]
fn a_collector_that_refuses_is_counted() {
    let telemetry = Telemetry::with(&settings(&[]), "run", || Ok(Refuses)).unwrap();
    telemetry.turn(turn(None)).returned("idle");
    telemetry.end();
    assert_eq!(telemetry.figures(), Figures { exported: 0, dropped: 0, failed: 1 });
}

#[test]
fn content_that_waits_has_a_bound_in_bytes() {
    let variables = [
        LATEST,
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2048"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ];
    let kept = Kept::default();
    let telemetry = Telemetry::with(&settings(&variables), "run", || Ok(kept.clone())).unwrap();
    let turn = telemetry.turn(turn(None));
    for _ in 0..300 {
        let mut chat = turn.scope().chat(CHAT);
        chat.set_input(|| "x".repeat(65_536));
    }
    telemetry.end();
    let Figures { exported, dropped, .. } = telemetry.figures();
    assert_eq!(exported + dropped, 300);
    assert!((240..256).contains(&exported), "{exported} of 64 KiB in 16 MiB");
}
