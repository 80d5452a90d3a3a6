//! The model of a run: a server on this machine that answers as the step says, and remembers what it was asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::chat;
use super::script::Answer;

/// Largest request. A conversation and its images have less.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The host needs one for each call that is under way.
const MAX_CONNECTIONS: usize = 64;

/// After a connection that could not be taken: this process has no more files.
const AGAIN: Duration = Duration::from_millis(20);

/// Where completions are asked for, after the base URL.
const PATH: &str = "/v1/chat/completions";

/// A server that answers from a script.
pub(super) struct Model {
    listener: TcpListener,
    address: SocketAddr,
    step: RefCell<Asked>,
}

/// What a step has, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Those that nobody asked for so far.
    pub(super) left: VecDeque<Answer>,
    /// The text of the last conversation that was to be completed.
    pub(super) last: Option<String>,
    /// The first that there was no answer to.
    pub(super) unanswered: Option<String>,
}

impl Model {
    /// Listens on a free port of the loopback.
    pub(super) async fn listen() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, step: RefCell::default() })
    }

    /// The base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// From now on it answers these, in order.
    pub(super) fn begin(&self, answers: &[Answer]) {
        let left = answers.iter().cloned().collect();
        self.step.replace(Asked { left, ..Asked::default() });
    }

    /// What came of it. Until it begins again nothing is answered.
    pub(super) fn end(&self) -> Asked {
        self.step.take()
    }

    /// Serves. Never ends; dropped, it ends its connections.
    pub(super) async fn serve(&self) -> Infallible {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => connections.push(self.connection(stream)),
                    Err(_) => sleep(AGAIN).await,
                },
                Some(()) = connections.next() => {}
            }
        }
    }

    async fn connection(&self, stream: TcpStream) {
        let service = service_fn(async |request| Ok::<_, Infallible>(self.respond(request).await));
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new());
        // A client that hangs up has its reasons.
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, media_type, body) = self.answer(request).await;
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(media_type));
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> chat::Response {
        let path = request.uri().path();
        if request.method() != Method::POST || path != PATH {
            return chat::refusal(404, &format!("the scripted model knows POST {PATH} alone"));
        }
        let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return chat::refusal(400, &error.to_string()),
        };
        match serde_json::from_slice(&body) {
            Ok(request) => self.complete(&request),
            Err(error) => chat::refusal(400, &format!("no chat completion: {error}")),
        }
    }

    fn complete(&self, request: &chat::Request) -> chat::Response {
        let mut step = self.step.borrow_mut();
        let asked = request.text();
        let answer = step.left.pop_front();
        step.last = Some(asked.clone());
        match answer {
            Some(answer) => chat::response(request, &answer),
            None => {
                step.unanswered.get_or_insert(asked);
                chat::refusal(400, "the script has no answer to this")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::test::script::Call;

    /// Posts over a socket of its own. Status and body.
    async fn post(model: &Model, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(model.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Runs beside the server, for as long as it takes.
    async fn beside<T>(model: &Model, asks: impl Future<Output = T>) -> T {
        tokio::select! {
            never = model.serve() => match never {},
            answered = asks => answered,
        }
    }

    fn request(stream: bool) -> String {
        json!({"model": "m", "stream": stream, "stream_options": {"include_usage": true}, "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "note "}, {"type": "text", "text": "bread"}]},
            {"role": "assistant", "content": null},
        ]})
        .to_string()
    }

    fn text(pieces: &[&str]) -> Answer {
        let text = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        Answer::Message { text, calls: Vec::new() }
    }

    fn calls() -> Answer {
        let call =
            |tool: &str, arguments: &str| Call { tool: tool.into(), arguments: arguments.into() };
        let calls = vec![call("note", r#"{"text":"bread"}"#), call("b", "no json")];
        Answer::Message { text: vec!["hm".into()], calls }
    }

    fn events(body: &str) -> Vec<Value> {
        let data = body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let mut data: Vec<_> = data.collect();
        assert_eq!(data.pop(), Some("[DONE]"));
        data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[tokio::test]
    async fn answers_come_in_order_whole_or_streamed() {
        let model = Model::listen().await.unwrap();
        model.begin(&[text(&["no", "ted"]), text(&["no", "ted"]), calls(), calls()]);
        beside(&model, async {
            let (status, body) = post(&model, PATH, &request(false)).await;
            let whole: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &whole["choices"][0]["message"]["content"]),
                (200, &json!("noted"))
            );
            let usage = json!({"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5});
            assert_eq!(whole["usage"], usage);
            let (_, body) = post(&model, PATH, &request(true)).await;
            let chunks = events(&body);
            let pieces: Vec<_> = chunks
                .iter()
                .filter_map(|it| it["choices"][0]["delta"]["content"].as_str())
                .collect();
            assert_eq!(pieces, ["", "no", "ted"]);
            assert_eq!(chunks.last().unwrap()["usage"], usage);
            let (_, body) = post(&model, PATH, &request(false)).await;
            let whole: Value = serde_json::from_str(&body).unwrap();
            let calls = &whole["choices"][0]["message"]["tool_calls"];
            assert_eq!(
                (&calls[0]["function"]["arguments"], &calls[1]["function"]["arguments"]),
                (&json!(r#"{"text":"bread"}"#), &json!("no json"))
            );
            assert_ne!(calls[0]["id"], calls[1]["id"]);
            assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
            let (_, body) = post(&model, PATH, &request(true)).await;
            assert!(
                events(&body).iter().any(|it| it["choices"][0]["delta"]["tool_calls"] == *calls)
            );
        })
        .await;
        let asked = model.end();
        assert!(asked.left.is_empty() && asked.unanswered.is_none());
        assert_eq!(asked.last.as_deref(), Some("be brief\nnote bread\n"));
    }

    #[tokio::test]
    async fn what_was_not_asked_for_is_left_and_what_has_no_answer_is_remembered() {
        let model = Model::listen().await.unwrap();
        model.begin(&[Answer::Status(503), text(&["x"])]);
        let status = beside(&model, async { post(&model, PATH, &request(true)).await.0 }).await;
        let asked = model.end();
        assert_eq!((status, asked.left.len(), asked.unanswered), (503, 1, None));
        let (status, body) = beside(&model, post(&model, PATH, &request(true))).await;
        assert!(status == 400 && body.contains("the script has no answer"), "{status} {body}");
        let asked = model.end();
        assert_eq!(asked.unanswered.as_deref(), Some("be brief\nnote bread\n"));
        assert!(model.end().last.is_none(), "each step begins without a past");
    }

    #[tokio::test]
    async fn what_is_no_completion_is_refused_and_takes_no_answer() {
        let model = Model::listen().await.unwrap();
        model.begin(&[text(&["x"])]);
        beside(&model, async {
            assert_eq!(post(&model, "/v1/embeddings", "{}").await.0, 404);
            assert_eq!(post(&model, PATH, "{}").await.0, 400);
        })
        .await;
        let asked = model.end();
        assert!(asked.left.len() == 1 && asked.last.is_none());
    }
}
