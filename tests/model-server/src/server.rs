//! Connections, routes and the authorization check.

use std::future::Future;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::chat::{self, Answer, Request};
use crate::fault::{Fault, STALL};
use crate::record::{Entry, Log};
use crate::{anthropic, control, oddity, persona};

/// Longest request body.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Between two chunks of a stream, so that they leave in packets of their own.
const CHUNK_PAUSE: Duration = Duration::from_millis(2);

/// How the server behaves.
#[derive(Clone, Default)]
pub struct Options {
    /// With a key, requests without `Authorization: Bearer <key>` (Anthropic: `x-api-key: <key>`) get 401.
    pub api_key: Option<String>,
}

/// Everything that a handler sees.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    key: Arc<Mutex<Option<String>>>,
    /// Completions asked for so far.
    asked: Arc<AtomicU64>,
    /// The last one of them.
    last: Arc<Mutex<Option<Request>>>,
    log: Log,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self { key: Arc::new(Mutex::new(options.api_key)), ..Self::default() }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn last_request(&self) -> Option<Request> {
        self.last.lock().clone()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Requires another key from here on, or none.
    pub(crate) fn accept_key(&self, key: Option<String>) {
        *self.key.lock() = key;
    }

    pub(crate) fn note(&self, request: Request) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.last.lock() = Some(request);
    }
}

/// Serves until `shutdown` is there. Requests under way are not waited for.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_shared(listener, Shared::new(options), shutdown).await
}

pub(crate) async fn serve_shared(
    listener: TcpListener,
    shared: Shared,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let routes = routes(shared.clone());
    // Dropping it ends the connections.
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(connection(stream, routes.clone(), shared.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = &mut shutdown => return Ok(()),
        }
    }
}

/// Serves one connection. Its first request says whether it gets HTTP as it should be.
async fn connection(mut stream: TcpStream, routes: Router, shared: Shared) {
    const ODD: &[u8] = b"POST /oddity/";
    let _ = stream.set_nodelay(true);
    let mut seen = Vec::new();
    while seen.len() < ODD.len() && ODD.starts_with(&seen) {
        if !stream.read_buf(&mut seen).await.is_ok_and(|bytes| bytes > 0) {
            return;
        }
    }
    let (read, write) = stream.into_split();
    let read = Cursor::new(seen).chain(read);
    if read.get_ref().0.get_ref().starts_with(ODD) {
        // A client that hangs up is none of our business.
        let _ = oddity::serve(read, write, &shared).await;
    } else {
        let service = TowerToHyperService::new(routes);
        let io = TokioIo::new(join(read, write));
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(completions))
        .route("/anthropic/v1/messages", post(messages))
        .merge(control::routes())
        .fallback(async || {
            let paths =
                "/v1/chat/completions, /anthropic/v1/messages, or a new connection for /oddity";
            Form::OpenAi.error(StatusCode::NOT_FOUND, &format!("no such path; try {paths}"))
        })
        .with_state(shared)
}

/// Whose wire format.
#[derive(Clone, Copy)]
enum Form {
    OpenAi,
    Anthropic,
}

async fn models(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Err(refusal) = Form::OpenAi.authorize(&shared, &headers) {
        return *refusal;
    }
    let model = json!({"id": "scripted", "object": "model", "created": 0, "owned_by": "bulkhead"});
    Json(json!({"object": "list", "data": [model]})).into_response()
}

async fn completions(State(shared): State<Shared>, request: HttpRequest) -> Response {
    ask(Form::OpenAi, shared, request).await
}

async fn messages(State(shared): State<Shared>, request: HttpRequest) -> Response {
    ask(Form::Anthropic, shared, request).await
}

async fn ask(form: Form, shared: Shared, request: HttpRequest) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await;
    let entry = record(&shared, &head, body.as_deref().unwrap_or_default());
    let Ok(body) = body else {
        return form.refuse(entry, StatusCode::PAYLOAD_TOO_LARGE, "body is larger than 64 MiB");
    };
    if let Err(refusal) = form.authorize(&shared, &head.headers) {
        return finish(entry, *refusal);
    }
    match form.parse(&head.headers, &body) {
        Ok(request) => {
            shared.note(request.clone());
            form.answer(entry, &request).await
        }
        Err(cause) => form.refuse(entry, StatusCode::BAD_REQUEST, &format!("bad request: {cause}")),
    }
}

fn record(shared: &Shared, head: &Parts, body: &[u8]) -> Entry {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    shared.log().begin(head.uri.to_string(), headers, body)
}

/// An answer in one piece.
fn finish(entry: Entry, response: Response) -> Response {
    entry.status(response.status().as_u16());
    entry.complete();
    response
}

impl Form {
    fn authorize(self, shared: &Shared, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let Some(key) = shared.key.lock().clone() else { return Ok(()) };
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let given = match self {
            Self::OpenAi => text("authorization").and_then(|given| given.strip_prefix("Bearer ")),
            Self::Anthropic => text("x-api-key"),
        };
        if given == Some(&key) {
            return Ok(());
        }
        Err(Box::new(self.error(StatusCode::UNAUTHORIZED, "missing or wrong API key")))
    }

    fn parse(self, headers: &HeaderMap, body: &[u8]) -> Result<Request, String> {
        match self {
            Self::OpenAi => serde_json::from_slice(body).map_err(|error| error.to_string()),
            Self::Anthropic if !headers.contains_key("anthropic-version") => {
                Err("anthropic-version: header is required".into())
            }
            Self::Anthropic => anthropic::request(body),
        }
    }

    async fn answer(self, entry: Entry, request: &Request) -> Response {
        let fault = Fault::of_model(&request.model);
        match fault {
            Some(Fault::Fail(status)) => {
                let status =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return self.refuse(entry, status, "told to fail by the model's name");
            }
            Some(Fault::Garbage) => {
                return finish(entry, "<html>\u{0}{\"choices\": nonsense".into_response());
            }
            Some(Fault::Empty) => {
                return finish(entry, Json(json!({"choices": [], "content": []})).into_response());
            }
            Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Cut | Fault::Midway | Fault::Stall) | None => {}
        }
        if let Some(why) = persona::refuses(request) {
            return self.refuse(entry, StatusCode::BAD_REQUEST, why);
        }
        let answer = persona::answer(request);
        if request.stream || matches!(fault, Some(Fault::Cut | Fault::Midway | Fault::Stall)) {
            return self.stream(entry, request, &answer, fault);
        }
        let whole = match self {
            Self::OpenAi => chat::whole(request, &answer),
            Self::Anthropic => anthropic::whole(request, &answer),
        };
        finish(entry, Json(whole).into_response())
    }

    fn stream(
        self,
        entry: Entry,
        request: &Request,
        answer: &Answer,
        fault: Option<Fault>,
    ) -> Response {
        let mut events = self.events(request, answer);
        let half = events.len().div_ceil(2);
        let end = match fault {
            Some(Fault::Cut) => {
                events.truncate(half);
                End::Break
            }
            Some(Fault::Midway) => {
                events.truncate(half);
                events.push(self.error_event());
                End::Whole
            }
            Some(Fault::Stall) => {
                events.truncate(1);
                End::Stall
            }
            _ => End::Whole,
        };
        entry.status(200);
        let body = Body::from_stream(paced(events, Pace::of(&request.model), end, entry));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    }

    fn events(self, request: &Request, answer: &Answer) -> Vec<Bytes> {
        match self {
            Self::OpenAi => {
                let chunks = chat::chunks(request, answer);
                let chunks = chunks.iter().map(|chunk| format!("data: {chunk}\n\n").into());
                chunks.chain([Bytes::from_static(b"data: [DONE]\n\n")]).collect()
            }
            Self::Anthropic => anthropic::events(request, answer).iter().map(named).collect(),
        }
    }

    fn error_event(self) -> Bytes {
        const SAID: &str = "told to fail in the middle by the model's name";
        match self {
            Self::OpenAi => {
                let error =
                    json!({"error": {"message": SAID, "type": "server_error", "code": 503}});
                format!("data: {error}\n\n").into()
            }
            Self::Anthropic => named(&anthropic::error(529, SAID)),
        }
    }

    fn refuse(self, entry: Entry, status: StatusCode, message: &str) -> Response {
        finish(entry, self.error(status, message))
    }

    fn error(self, status: StatusCode, message: &str) -> Response {
        let body = match self {
            Self::OpenAi => chat::error(status.as_u16(), message),
            Self::Anthropic => anthropic::error(status.as_u16(), message),
        };
        (status, Json(body)).into_response()
    }
}

/// An event that is named by the type in its data.
fn named(data: &Value) -> Bytes {
    let name = data["type"].as_str().unwrap_or("message");
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// What comes after the last event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The connection breaks.
    Break,
    /// Silence.
    Stall,
}

/// When a chunk leaves.
#[derive(Clone, Copy)]
enum Pace {
    /// So long after the one before.
    Pause(Duration),
    /// At its place in a stream of so many a second. 0: at once.
    Rate(u32),
}

impl Pace {
    fn of(model: &str) -> Self {
        persona::rate(model).map_or(Self::Pause(CHUNK_PAUSE), Self::Rate)
    }

    async fn wait(self, begun: Instant, index: u32) {
        match self {
            Self::Pause(pause) => tokio::time::sleep(pause).await,
            Self::Rate(0) => {}
            Self::Rate(rate) => {
                let due = Duration::from_secs_f64(f64::from(index) / f64::from(rate));
                tokio::time::sleep_until(begun + due).await;
            }
        }
    }
}

/// The events, one after the other. The entry ends with the stream: a client that hangs up drops it early.
fn paced(
    events: Vec<Bytes>,
    pace: Pace,
    end: End,
    entry: Entry,
) -> impl stream::Stream<Item = io::Result<Bytes>> {
    let state = (events.into_iter().zip(0..), Instant::now(), entry);
    stream::unfold(Some(state), move |state| async move {
        let (mut events, begun, entry) = state?;
        if let Some((event, index)) = events.next() {
            pace.wait(begun, index).await;
            entry.chunk();
            return Some((Ok(event), Some((events, begun, entry))));
        }
        if end == End::Stall {
            tokio::time::sleep(STALL).await;
        }
        entry.complete();
        (end == End::Break).then(|| (Err(io::Error::other("told to cut")), None))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::Request as HttpRequest;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(options: Options, key: Option<&str>, body: Value) -> (StatusCode, String) {
        let mut request = HttpRequest::post("/v1/chat/completions");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = routes(Shared::new(options)).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn hello(model: &str, stream: bool) -> Value {
        json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
    }

    #[tokio::test]
    async fn a_wrong_key_is_refused_in_json() {
        let options = Options { api_key: Some("k".into()) };
        for key in [None, Some("x")] {
            let (status, body) = ask(options.clone(), key, hello("scripted", false)).await;
            assert_eq!(status, 401);
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["error"]["type"], "authentication_error");
        }
        assert_eq!(ask(options, Some("k"), hello("scripted", false)).await.0, 200);
    }

    #[tokio::test]
    async fn a_stream_ends_with_done() {
        let (status, body) = ask(Options::default(), None, hello("scripted", true)).await;
        assert_eq!(status, 200);
        let events: Vec<_> = body.split_terminator("\n\n").collect();
        assert!(events.len() > 3, "{body}");
        assert_eq!(*events.last().unwrap(), "data: [DONE]");
        for event in &events[..events.len() - 1] {
            let data = event.strip_prefix("data: ").unwrap();
            let chunk: Value = serde_json::from_str(data).unwrap();
            assert_eq!(chunk["object"], "chat.completion.chunk");
        }
    }

    #[tokio::test]
    async fn the_same_request_gets_the_same_bytes() {
        let first = ask(Options::default(), None, hello("scripted", true)).await;
        assert_eq!(first, ask(Options::default(), None, hello("scripted", true)).await);
    }

    #[tokio::test]
    async fn a_bad_request_is_the_callers_fault() {
        let (status, body) = ask(Options::default(), None, json!({"model": 7})).await;
        assert_eq!(status, 400, "{body}");
    }

    #[tokio::test]
    async fn faults_are_asked_for_by_model_name() {
        assert_eq!(ask(Options::default(), None, hello("fail-500", true)).await.0, 500);
        let (status, body) = ask(Options::default(), None, hello("garbage", false)).await;
        assert_eq!(status, 200);
        assert!(serde_json::from_str::<Value>(&body).is_err());
    }

    #[tokio::test]
    async fn a_cut_stream_is_an_error_for_its_reader() {
        let request = HttpRequest::post("/v1/chat/completions");
        let request = request.body(Body::from(hello("cut", true).to_string())).unwrap();
        let response = routes(Shared::default()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err());
    }

    async fn send(
        shared: &Shared,
        request: axum::http::request::Builder,
        body: Value,
    ) -> (StatusCode, String) {
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = routes(shared.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn message(stream: bool) -> Value {
        let messages = json!([{"role": "user", "content": "hello"}]);
        json!({"model": "scripted", "max_tokens": 9, "stream": stream, "messages": messages})
    }

    fn to_anthropic(key: &str) -> axum::http::request::Builder {
        let request = HttpRequest::post("/anthropic/v1/messages").header("x-api-key", key);
        request.header("anthropic-version", "2023-06-01")
    }

    #[tokio::test]
    async fn anthropics_form_has_its_own_headers_errors_and_events() {
        let shared = Shared::new(Options { api_key: Some("k".into()) });
        let (status, body) = send(&shared, to_anthropic("x"), message(true)).await;
        assert_eq!(status, 401);
        assert!(
            body.contains("authentication_error") && body.contains("\"type\":\"error\""),
            "{body}"
        );
        let request = HttpRequest::post("/anthropic/v1/messages").header("x-api-key", "k");
        let (status, body) = send(&shared, request, message(true)).await;
        assert!(status == 400 && body.contains("anthropic-version"), "{body}");
        let (status, body) = send(&shared, to_anthropic("k"), message(true)).await;
        assert_eq!(status, 200);
        assert!(body.starts_with("event: message_start\ndata: {"), "{body}");
        assert!(body.contains("event: message_stop\n"), "{body}");
        let (_, body) = send(&shared, to_anthropic("k"), message(false)).await;
        let whole: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(whole["content"][0]["text"], "Hello. I answer from a script.");
        assert_eq!((shared.asked(), shared.last_request().unwrap().messages.len()), (2, 1));
    }

    #[tokio::test]
    async fn the_key_can_be_changed_and_requests_are_kept() {
        let shared = Shared::new(Options { api_key: Some("old".into()) });
        let put = |key: Value| {
            (
                HttpRequest::put("/control/key").header("content-type", "application/json"),
                json!({"api_key": key}),
            )
        };
        let (request, body) = put("new".into());
        assert_eq!(send(&shared, request, body).await.0, 204);
        let with = |key: &str| {
            HttpRequest::post("/v1/chat/completions?x=1")
                .header("authorization", format!("Bearer {key}"))
        };
        assert_eq!(send(&shared, with("old"), hello("scripted", false)).await.0, 401);
        assert_eq!(send(&shared, with("new"), hello("scripted", false)).await.0, 200);
        let (request, body) = put(Value::Null);
        send(&shared, request, body).await;
        assert_eq!(send(&shared, with("any"), hello("scripted", false)).await.0, 200);

        let (_, body) = send(&shared, HttpRequest::get("/control/requests"), Value::Null).await;
        let kept: Value = serde_json::from_str(&body).unwrap();
        let first = &kept["requests"][0];
        assert_eq!((&first["status"], &first["end"]), (&json!(401), &json!("complete")), "{first}");
        assert_eq!(first["path"], "/v1/chat/completions?x=1");
        assert_eq!(first["headers"][0], json!(["authorization", "Bearer old"]));
        assert_eq!(first["body"], hello("scripted", false));
        assert_eq!(kept["requests"].as_array().unwrap().len(), 3);
        assert_eq!(
            send(&shared, HttpRequest::delete("/control/requests"), Value::Null).await.0,
            204
        );
        assert!(shared.log().all().is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_its_reader_leaves_is_on_record() {
        let shared = Shared::default();
        let request = HttpRequest::post("/v1/chat/completions");
        let request = request.body(Body::from(hello("stream-1000-0", true).to_string())).unwrap();
        let response = routes(shared.clone()).oneshot(request).await.unwrap();
        let mut body = response.into_body();
        for _ in 0..3 {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        let record = &shared.log().all()[0];
        assert_eq!((record.end, record.chunks), (crate::record::End::HungUp, 3));
        let (_, body) = ask(Options::default(), None, hello("stream-1000-0", true)).await;
        assert!(body.contains("0000999 ") && body.ends_with("data: [DONE]\n\n"));
    }

    #[tokio::test]
    async fn an_answer_that_fails_midway_says_so() {
        let (status, body) = ask(Options::default(), None, hello("midway", true)).await;
        assert_eq!(status, 200);
        assert!(body.trim_end().lines().last().unwrap().contains("\"code\":503"), "{body}");
    }
}
