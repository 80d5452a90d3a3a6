//! Spans of turns that a collector receives, and the trace that requests belong to.

use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use harness::host::run_to_end;
use harness::{Host, HostBuilder, Value, model_server, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;

use crate::outgoing::servers::{self, read_head};

/// Exit code of wrong input.
const BAD_INPUT: i32 = 2;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Takes OTLP over HTTP.
struct Collector {
    at: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let for_threads = Arc::clone(&spans);
        let at = servers::serve("127.0.0.1:0", move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().ok()?);
            let head = read_head(&mut reader)?;
            assert_eq!(head[0], "POST /v1/traces HTTP/1.1");
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: "))?;
            let mut body = vec![0; length.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            let request = ExportTraceServiceRequest::decode(&*body).expect("OTLP");
            let scopes = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
            let mut spans = for_threads.lock();
            spans.extend(scopes.flat_map(|it| it.spans));
            drop(spans);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
        });
        Self { at, spans }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().clone()
    }

    /// The span of this name, once it is there.
    fn wait_for(&self, name: &str) -> Span {
        let find = || self.spans().into_iter().find(|span| span.name == name);
        wait_until(&format!("there is a span {name}"), || find().is_some());
        find().expect("it is there")
    }

    /// A host that exports to it at once.
    fn host(&self, builder: HostBuilder) -> Host {
        let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", self.at);
        builder.run_by(&["env", &endpoint, "OTEL_BSP_SCHEDULE_DELAY=1"]).start()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|it| it.key == name);
    match found.and_then(|it| it.value.as_ref()?.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

/// `POST` of a body, as part of a trace.
fn post_in_trace(host: &Host, path: &str, body: &str) -> Value {
    let token = host.client().token().expect("a token");
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\
         traceparent: 00-{TRACE}-{CALLER}-01\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        host.address(),
        body.len()
    );
    let answer = host.client().raw(request.as_bytes()).expect("an answer");
    assert!(answer.status < 300, "{answer:?}");
    answer.body
}

#[test]
fn a_turn_is_part_of_its_callers_trace() {
    let collector = Collector::start();
    let host = collector.host(Host::builder().guest("echo"));
    host.client().start("alice", "echo");
    let answer = post_in_trace(&host, "/agents/alice/message?wait=60000", "{\"prompt\":\"hi\"}");
    let turn = collector.wait_for("invoke_agent alice");
    assert_eq!(hex(&turn.trace_id), TRACE);
    assert_eq!(hex(&turn.parent_span_id), CALLER);
    assert_eq!(attribute(&turn, "gen_ai.operation.name"), "invoke_agent");
    assert_eq!(attribute(&turn, "bulkhead.agent.role"), "echo");
    assert_eq!(attribute(&turn, "bulkhead.incarnation"), "1");
    assert_eq!(attribute(&turn, "bulkhead.message.id"), answer["messageId"]);
    assert_eq!(attribute(&turn, "bulkhead.turn.outcome"), answer["outcome"]);
    host.finish();
}

#[test]
fn the_prompt_of_a_start_belongs_to_the_trace_of_the_start() {
    let collector = Collector::start();
    let host = collector.host(Host::builder().guest("echo"));
    let body = "{\"agentId\":\"bob\",\"role\":\"echo\",\"prompt\":\"hi\"}";
    post_in_trace(&host, "/agents/start", body);
    let turn = collector.wait_for("invoke_agent bob");
    assert_eq!((hex(&turn.trace_id), hex(&turn.parent_span_id)), (TRACE.into(), CALLER.into()));
    host.finish();
}

#[test]
fn what_ends_an_agent_is_the_error_of_its_turn() {
    let collector = Collector::start();
    let host = collector.host(Host::builder().guest("trap"));
    host.client().start("t", "trap");
    host.client().post("/agents/t/message", &harness::json!({ "prompt": "unreachable" }));
    let turn = collector.wait_for("invoke_agent t");
    assert_eq!(attribute(&turn, "error.type"), "trap");
    drop(host);
}

#[test]
fn requests_of_a_guest_belong_to_its_turn() {
    let collector = Collector::start();
    let (address, log) = servers::http("127.0.0.1:0");
    let role = format!("http_allow = [\"{address}\"]");
    let fetch = |host: &Host| {
        host.client().start("hog", "hog");
        assert_eq!(host.client().ask("hog", &format!("fetch 1 {address} /")), "4");
        let received = log.all().pop().expect("a request");
        received.head.into_iter().find(|line| line.starts_with("traceparent: "))
    };
    let builder = || Host::builder().guest("hog").role("hog", "hog", &role);
    let host = collector.host(builder());
    let header = fetch(&host).expect("the request has a traceparent");
    let turn = collector.wait_for("invoke_agent hog");
    let (trace, span) = (hex(&turn.trace_id), hex(&turn.span_id));
    assert_eq!(header, format!("traceparent: 00-{trace}-{span}-01"));
    host.finish();
    let without = builder().start();
    assert_eq!(fetch(&without), None, "nothing is traced unless asked for");
    without.finish();
}

#[test]
fn calls_of_models_and_tools_are_below_their_turn_and_mail_goes_on_with_its_trace() {
    let (collector, model) = (Collector::start(), model_server());
    let host = collector.host(Host::builder().guest("mayor").model(&model, ""));
    host.client().start("mayor", "mayor");
    host.client().start("bob", "echo");
    let body = "{\"prompt\":\"tell bob good morning\"}";
    post_in_trace(&host, "/agents/mayor/message?wait=60000", body);
    let turn = collector.wait_for("invoke_agent mayor");
    assert_eq!((hex(&turn.trace_id), hex(&turn.parent_span_id)), (TRACE.into(), CALLER.into()));
    let below = |span: &Span| span.parent_span_id == turn.span_id && span.trace_id == turn.trace_id;
    let children: Vec<_> = collector.spans().into_iter().filter(below).collect();
    let chats: Vec<_> = children.iter().filter(|span| span.name == "chat scripted").collect();
    // The question that ends in a call, and the one with its result.
    assert_eq!(chats.len(), 2, "{children:?}");
    let tool = children.iter().find(|span| span.name.starts_with("execute_tool "));
    let tool = tool.unwrap_or_else(|| panic!("no tool in {children:?}"));
    let (first, second) = (chats[0], chats[1]);
    // Each request has the span of its call, also at the server of the model.
    let got: Vec<_> =
        model.requests().iter().map(|it| it.header("traceparent").map(str::to_owned)).collect();
    let of = |span: &Span| Some(format!("00-{TRACE}-{}-01", hex(&span.span_id)));
    assert_eq!(got, [of(first), of(second)]);
    // What was said is nobody's business unless asked for.
    let said = |span: &Span| span.attributes.iter().any(|it| it.key.ends_with(".messages"));
    assert!(!chats.iter().any(|span| said(span)), "{chats:?}");
    assert!(first.end_time_unix_nano <= second.start_time_unix_nano, "{chats:?}");
    assert!(
        first.start_time_unix_nano <= tool.start_time_unix_nano
            && tool.end_time_unix_nano <= second.end_time_unix_nano,
        "{children:?}"
    );
    // The other agent's turn goes on with it.
    let other = collector.wait_for("invoke_agent bob");
    assert_eq!(hex(&other.trace_id), TRACE);
    assert_eq!(other.parent_span_id, turn.span_id);
    host.finish();
}

#[test]
fn prompts_and_answers_are_recorded_when_asked_for() {
    let (collector, model) = (Collector::start(), model_server());
    let capture = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true";
    let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", collector.at);
    let builder = Host::builder().guest("mayor").model(&model, "");
    let newest = "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental";
    let run_by = ["env", &endpoint, "OTEL_BSP_SCHEDULE_DELAY=1", newest, capture];
    let host = builder.run_by(&run_by).start();
    host.client().start("mayor", "mayor");
    assert_eq!(host.client().ask("mayor", "hello there"), "Hello. I answer from a script.");
    let chat = collector.wait_for("chat scripted");
    let (asked, said) =
        (attribute(&chat, "gen_ai.input.messages"), attribute(&chat, "gen_ai.output.messages"));
    assert!(asked.contains("hello there"), "{asked}");
    assert!(said.contains("Hello. I answer from a script."), "{said}");
    host.finish();
}

#[test]
fn a_host_ends_in_time_without_its_collector() {
    // It takes connections and never answers.
    let address = servers::serve("127.0.0.1:0", |mut stream| {
        std::io::copy(&mut stream, &mut std::io::sink()).ok().map(drop)
    });
    let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}");
    let host = Host::builder()
        .guest("echo")
        .run_by(&["env", &endpoint, "OTEL_BSP_SCHEDULE_DELAY=1"])
        .start();
    host.client().start("alice", "echo");
    host.client().ask("alice", "hi");
    let lines = host.finish();
    let lost = lines.iter().find(|line| line["message"] == "spans were not exported");
    assert!(lost.is_some(), "{lines:?}");
}

#[test]
fn a_variable_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    let config = Host::builder().render(&dir.path().join("state"));
    std::fs::write(&file, config).expect("write the configuration");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ];
    let ended = run_to_end(&file, &variables);
    assert_eq!(ended.code, Some(BAD_INPUT), "{ended:?}");
    assert!(ended.stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL: "), "{}", ended.stderr);
}
