//! Spans sent to a real collector, which sends them on to a receiver of ours: `just telemetry`.
//!
//! ```text
//! Telemetry ─ OTLP: HTTP or gRPC ─▶ rotel ─ OTLP: HTTP ─▶ Receiver
//! ```

#![expect(clippy::disallowed_methods, reason = "servers of tests end with their runtime")]
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_telemetry::{Answered, Chat, Delivery, Figures, Telemetry, TraceContext, Turn};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use support::launcher::spawn_bound;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The collector. It ends with this.
struct Rotel {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Rotel {
    fn start(sends_to: SocketAddr) -> Self {
        let program = std::env::var_os("ROTEL").map(PathBuf::from);
        let program = program
            .expect("ROTEL has to name the collector's program; `just telemetry` installs it");
        let [grpc, http] = [free(), free()];
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .arg("start")
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args(["--otlp-exporter-endpoint", &format!("http://{sends_to}")])
            .args(["--otlp-grpc-endpoint", &grpc.to_string()])
            .args(["--otlp-http-endpoint", &http.to_string()])
            .arg("--pid-file")
            .arg(dir.path().join("pid"))
            .arg("--log-file")
            .arg(dir.path().join("log"))
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let child = spawn_bound(command).unwrap();
        let mut it = Self { child, grpc, http, _dir: dir };
        it.wait_until_up();
        it
    }

    fn wait_until_up(&mut self) {
        let began = Instant::now();
        while [self.grpc, self.http].iter().any(|at| TcpStream::connect(at).is_err()) {
            assert!(self.child.try_wait().unwrap().is_none(), "the collector has ended");
            assert!(began.elapsed() < PATIENCE, "the collector does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Ends the TLS of gRPC before a server that has none. Its certificate is for `localhost`.
struct Terminator {
    at: SocketAddr,
    authority: String,
    _runtime: tokio::runtime::Runtime,
}

impl Terminator {
    fn start(leads_to: SocketAddr) -> Self {
        let (mut config, authority) = tls_fixture::server("localhost");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.unwrap();
        let at = listener.local_addr().unwrap();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.unwrap();
                    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                    let mut to = tokio::net::TcpStream::connect(leads_to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
                });
            }
        });
        Self { at, authority, _runtime: runtime }
    }
}

/// Takes OTLP over HTTP, and yields what comes.
struct Receiver {
    at: SocketAddr,
    requests: mpsc::Receiver<ExportTraceServiceRequest>,
    runtime: tokio::runtime::Runtime,
}

impl Receiver {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.unwrap();
        let at = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel(64);
        let take = move |request: Request<Incoming>| {
            let sender = sender.clone();
            async move {
                assert_eq!(request.uri().path(), "/v1/traces");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                // It compresses, also when told not to.
                let mut text = Vec::new();
                flate2::read::MultiGzDecoder::new(&*body).read_to_end(&mut text).unwrap();
                let request = ExportTraceServiceRequest::decode(&*text).unwrap();
                sender.send(request).await.unwrap();
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        };
        runtime.handle().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let take = take.clone();
                let serve = async move {
                    let stream = TokioIo::new(stream);
                    let http1 = hyper::server::conn::http1::Builder::new();
                    let _ = http1.serve_connection(stream, service_fn(take)).await;
                };
                tokio::runtime::Handle::current().spawn(serve);
            }
        });
        Self { at, requests, runtime }
    }

    /// As many spans, with the attributes of their resource.
    fn take(&mut self, count: usize) -> Vec<(Vec<KeyValue>, Span)> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let next = async { tokio::time::timeout(PATIENCE, self.requests.recv()).await };
            let next = self.runtime.block_on(next);
            let request = next.expect("no more spans came").unwrap();
            for of_resource in request.resource_spans {
                let resource = of_resource.resource.unwrap().attributes;
                let scopes = of_resource.scope_spans.into_iter();
                spans.extend(scopes.flat_map(|it| it.spans).map(|span| (resource.clone(), span)));
            }
        }
        spans
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|it| it.key == name);
    let Some(AnyValue { value: Some(value) }) = found.and_then(|it| it.value.as_ref()) else {
        panic!("no {name} in {attributes:?}")
    };
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// `more`: variables beside those of every case.
fn a_turn_reaches_the_collector(receiver: &mut Receiver, more: &[(&str, &str)]) {
    let variables = [
        ("OTEL_SERVICE_NAME", "town"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental"),
    ];
    let find = |name: &str| {
        let found = more.iter().chain(&variables).find(|(other, _)| *other == name);
        found.map(|(_, value)| OsString::from(value))
    };
    let telemetry = Telemetry::from_env(find, "run-1").unwrap().unwrap();
    let parent = TraceContext::parse(PARENT, "").unwrap();
    let turn = telemetry.turn(Turn {
        agent: "alice",
        role: "polecat",
        incarnation: 1,
        message: Some(Delivery { id: "m-1", attempt: 1 }),
        parent: Some(&parent),
    });
    let chat = turn.scope().chat(Chat {
        provider: "openai",
        model: "gpt",
        endpoint: "main",
        address: "models.example",
        port: 443,
        max_tokens: None,
        temperature: None,
    });
    chat.end(Answered { finish: Some("tool_calls"), input_tokens: Some(5), ..Answered::default() });
    turn.scope().tool_called("read_file", "call-1");
    turn.scope().tools_returned(["call-1"]);
    turn.returned("done");
    telemetry.end();
    assert_eq!(telemetry.figures(), Figures { exported: 3, dropped: 0, failed: 0 });

    let spans = receiver.take(3);
    let named = |name: &str| {
        let found = spans.iter().find(|(_, span)| span.name == name);
        &found.unwrap_or_else(|| panic!("no {name} in {spans:?}")).1
    };
    let (turn, chat, tool) =
        (named("invoke_agent alice"), named("chat gpt"), named("execute_tool read_file"));
    assert_eq!(hex(&turn.trace_id), PARENT[3..35]);
    assert_eq!(hex(&turn.parent_span_id), PARENT[36..52]);
    for child in [chat, tool] {
        assert_eq!(child.trace_id, turn.trace_id);
        assert_eq!(child.parent_span_id, turn.span_id);
    }
    assert_eq!(text(&turn.attributes, "gen_ai.agent.name"), "alice");
    assert_eq!(text(&turn.attributes, "bulkhead.turn.outcome"), "done");
    assert_eq!(text(&chat.attributes, "gen_ai.provider.name"), "openai");
    assert_eq!(text(&chat.attributes, "gen_ai.usage.input_tokens"), "5");
    assert_eq!(text(&tool.attributes, "gen_ai.tool.call.id"), "call-1");
    let resource = &spans[0].0;
    assert_eq!(text(resource, "service.name"), "town");
    assert_eq!(text(resource, "service.instance.id"), "run-1");
    assert_eq!(text(resource, "deployment.environment.name"), "test");
    assert_eq!(text(resource, "telemetry.sdk.language"), "rust");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[ignore = "wants the collector rotel from PyPI: just telemetry"]
fn over_http() {
    let mut receiver = Receiver::start();
    let rotel = Rotel::start(receiver.at);
    let endpoint = format!("http://{}", rotel.http);
    let more = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    a_turn_reaches_the_collector(&mut receiver, &more);
}

#[test]
#[ignore = "wants the collector rotel from PyPI: just telemetry"]
fn over_grpc() {
    let mut receiver = Receiver::start();
    let rotel = Rotel::start(receiver.at);
    let endpoint = format!("http://{}", rotel.grpc);
    let more = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    a_turn_reaches_the_collector(&mut receiver, &more);
}

#[test]
#[ignore = "wants the collector rotel from PyPI: just telemetry"]
fn over_grpc_with_tls() {
    let mut receiver = Receiver::start();
    let rotel = Rotel::start(receiver.at);
    let terminator = Terminator::start(rotel.grpc);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, &terminator.authority).unwrap();
    // Without a scheme it is TLS.
    let endpoint = format!("localhost:{}", terminator.at.port());
    let more = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", file.to_str().unwrap()),
    ];
    a_turn_reaches_the_collector(&mut receiver, &more);
}

#[test]
#[ignore = "wants the collector rotel from PyPI: just telemetry"]
fn compressed_over_both() {
    for protocol in ["http/protobuf", "grpc"] {
        let mut receiver = Receiver::start();
        let rotel = Rotel::start(receiver.at);
        let at = if protocol == "grpc" { rotel.grpc } else { rotel.http };
        let endpoint = format!("http://{at}");
        let more = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ];
        a_turn_reaches_the_collector(&mut receiver, &more);
    }
}

/// The receiver takes nothing else, so it is what the host itself compressed.
#[test]
fn compressed_without_a_collector_between() {
    let mut receiver = Receiver::start();
    let endpoint = format!("http://{}", receiver.at);
    let more = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ];
    a_turn_reaches_the_collector(&mut receiver, &more);
}
