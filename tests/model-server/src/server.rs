//! Routes and the authorization check.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::chat::{self, Reply, Request};
use crate::fault::{Fault, STALL};
use crate::script;

/// Longest request body.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Between two chunks of a stream, so that they leave in packets of their own.
const CHUNK_PAUSE: Duration = Duration::from_millis(2);

/// How the server behaves.
#[derive(Clone, Default)]
pub struct Options {
    /// With a key, requests without `Authorization: Bearer <key>` get 401.
    pub api_key: Option<String>,
}

/// Everything that a handler sees.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    options: Options,
    /// Chat completions asked for so far.
    asked: Arc<AtomicU64>,
    /// The last one of them.
    last: Arc<Mutex<Option<Request>>>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn last_request(&self) -> Option<Request> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, request: Request) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
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
    tokio::select! {
        served = axum::serve(listener, routes(shared)).into_future() => served,
        () = shutdown => Ok(()),
    }
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(completions))
        .fallback(async || error(StatusCode::NOT_FOUND, "no such path; try /v1/chat/completions"))
        .with_state(shared)
}

async fn models(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Err(refusal) = authorize(&shared.options, &headers) {
        return *refusal;
    }
    let model = json!({"id": "scripted", "object": "model", "created": 0, "owned_by": "bulkhead"});
    Json(json!({"object": "list", "data": [model]})).into_response()
}

async fn completions(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    if let Err(refusal) = authorize(&shared.options, &headers) {
        return *refusal;
    }
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "body is larger than 8 MiB");
    };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(cause) => return error(StatusCode::BAD_REQUEST, &format!("bad request: {cause}")),
    };
    shared.note(request.clone());
    answer(&request, Fault::of_model(&request.model)).await
}

async fn answer(request: &Request, fault: Option<Fault>) -> Response {
    match fault {
        Some(Fault::Fail(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return error(status, "told to fail by the model's name");
        }
        Some(Fault::Garbage) => return "<html>\u{0}{\"choices\": nonsense".into_response(),
        Some(Fault::Empty) => return Json(json!({"choices": []})).into_response(),
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Cut | Fault::Stall) | None => {}
    }
    let reply = script::reply(request);
    if request.stream || matches!(fault, Some(Fault::Cut | Fault::Stall)) {
        streamed(request, &reply, fault)
    } else {
        Json(chat::whole(request, &reply)).into_response()
    }
}

fn streamed(request: &Request, reply: &Reply, fault: Option<Fault>) -> Response {
    let mut events: Vec<_> = chat::chunks(request, reply).iter().map(event).collect();
    let body = match fault {
        Some(Fault::Cut) => {
            events.truncate(events.len().div_ceil(2));
            let broken = stream::once(async { Err(io::Error::other("told to cut")) });
            Body::from_stream(paced(events).map(Ok::<_, io::Error>).chain(broken))
        }
        Some(Fault::Stall) => {
            events.truncate(1);
            let silence = stream::once(tokio::time::sleep(STALL)).map(|()| Bytes::new());
            Body::from_stream(paced(events).chain(silence).map(Ok::<_, Infallible>))
        }
        _ => {
            events.push(Bytes::from_static(b"data: [DONE]\n\n"));
            Body::from_stream(paced(events).map(Ok::<_, Infallible>))
        }
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn event(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}

fn paced(events: Vec<Bytes>) -> impl stream::Stream<Item = Bytes> {
    stream::iter(events).then(async |event| {
        tokio::time::sleep(CHUNK_PAUSE).await;
        event
    })
}

fn authorize(options: &Options, headers: &HeaderMap) -> Result<(), Box<Response>> {
    let Some(key) = &options.api_key else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.and_then(|given| given.strip_prefix("Bearer ")) == Some(key) {
        return Ok(());
    }
    Err(Box::new(error(StatusCode::UNAUTHORIZED, "missing or wrong API key")))
}

fn error(status: StatusCode, message: &str) -> Response {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": null}});
    (status, Json(body)).into_response()
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
}
