//! The calls of the control API, blocking, as a test reads best.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use bulkhead_api::{
    AgentView, CrashesPage, ErrorBody, EventView, EventsPage, Health, MessageAnswer, StartAnswer,
    TurnView,
};
use bulkhead_types::CrashRecord;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{PATIENCE, wait_for};

/// Milliseconds that `?wait` gets: more than any turn of a test takes.
const WAIT_MS: u64 = 50_000;

/// Connections that were idle for longer are not used again: the host closes them after 10 s.
const IDLE: Duration = Duration::from_secs(3);

/// Runs the connections of all clients of this process.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("harness-http")
        .enable_all()
        .build()
        .expect("start a runtime for HTTP")
});

/// What the host answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as JSON; null when it is none.
    pub body: Value,
    /// The body as it came.
    pub text: String,
    /// The header `Retry-After`, in seconds. Not of a raw answer.
    pub retry_after: Option<u64>,
}

impl Answer {
    /// Returns the body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "the host answered: {}", self.text);
        self.body
    }

    /// Reads the body of an answer that must have this status, as the contract has it.
    #[track_caller]
    pub fn read<T: DeserializeOwned>(&self, status: u16) -> T {
        assert_eq!(self.status, status, "the host answered: {}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// How the turn of a message ended, of an answer that waited for it.
    #[track_caller]
    pub fn turn(&self) -> TurnView {
        let answer: MessageAnswer = self.read(200);
        assert!(answer.sent, "not sent: {}", self.text);
        answer.turn.unwrap_or_else(|| panic!("no turn: {}", self.text))
    }

    /// What the agent replied in that turn.
    #[track_caller]
    pub fn reply(&self) -> String {
        self.turn().reply.unwrap_or_else(|| panic!("no reply: {}", self.text))
    }

    /// Reads the refusal of an answer that must have this status. Every part of `named` must stand somewhere
    /// in the body.
    #[track_caller]
    pub fn expect_error(&self, status: u16, named: &[&str]) -> ErrorBody {
        let refusal: ErrorBody = self.read(status);
        assert!(!refusal.error.is_empty(), "the error is empty: {}", self.text);
        for name in named {
            assert!(self.text.contains(name), "{name:?} is not named: {}", self.text);
        }
        refusal
    }
}

/// What `GET /metrics` said: `name` or `name{label="value"}`, and the value.
pub type Metrics = BTreeMap<String, f64>;

/// Talks to one host. Keeps its connections.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
    http: HyperClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the host at this address, with the token that the host left in this state directory, if it
    /// left one.
    pub fn new(address: SocketAddr, state_dir: &Path) -> Self {
        let http = HyperClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build_http();
        let token = std::fs::read_to_string(state_dir.join("control-token")).ok();
        Self { address, token: token.map(|token| token.trim().to_owned()), http }
    }

    /// The same with no token.
    #[must_use]
    pub fn without_token(self) -> Self {
        Self { token: None, ..self }
    }

    /// The token that its requests show.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where the host listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `GET` of a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, Bytes::new())
    }

    /// `POST` of a JSON body.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path, body.to_string())
    }

    /// `DELETE` of a path.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, Bytes::new())
    }

    /// Any request. Panics when there is no answer.
    #[track_caller]
    pub fn request(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        match self.try_request(method.clone(), path, body) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// Any request.
    pub fn try_request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body.into())).map_err(|error| error.to_string())?;
        RUNTIME.block_on(async {
            let exchange = async {
                let response = self.http.request(request).await.map_err(|error| chain(&error))?;
                let status = response.status().as_u16();
                let retry_after = response.headers().get("retry-after");
                let retry_after =
                    retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
                let body = response.into_body().collect().await.map_err(|error| chain(&error))?;
                Ok(Answer { retry_after, ..answer(status, &body.to_bytes()) })
            };
            let answered = tokio::time::timeout(PATIENCE, exchange).await;
            answered.map_err(|_| format!("no answer in {PATIENCE:?}"))?
        })
    }

    /// Bytes over a connection of their own, written while the answer is read, so that a host that
    /// answers before it has read everything is heard. The request should say `connection: close`.
    pub fn raw(&self, request: &[u8]) -> Result<Answer, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(self.address).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
        let mut writer = stream.try_clone().map_err(text)?;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A host that has heard enough closes; that is its right.
                let _ = writer.write_all(request);
            });
            let mut received = Vec::new();
            let ended = stream.read_to_end(&mut received);
            let parsed = parse(&received);
            // Lets the writer go when the host stopped reading and said nothing.
            let _ = stream.shutdown(Shutdown::Both);
            parsed.ok_or_else(|| format!("no answer ({ended:?}): {:?}", lossy(&received)))
        })
    }

    /// `POST /agents/start` with the fields of `more` beside id and role.
    #[track_caller]
    pub fn start_with(&self, agent: &str, role: &str, more: Value) -> Answer {
        let mut body = json!({"agentId": agent, "role": role});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.post("/agents/start", &body)
    }

    /// Starts an agent, which must succeed. Returns the answer.
    #[track_caller]
    pub fn start(&self, agent: &str, role: &str) -> StartAnswer {
        self.start_with(agent, role, json!({})).read(201)
    }

    /// Starts an agent in place of one that may run, which must succeed. Returns the answer.
    #[track_caller]
    pub fn start_afresh(&self, agent: &str, role: &str) -> StartAnswer {
        self.start_with(agent, role, json!({"ifRunning": "restart"})).read(201)
    }

    /// `POST /agents/{id}/stop`.
    #[track_caller]
    pub fn stop(&self, agent: &str) -> Answer {
        self.post(&format!("/agents/{agent}/stop"), &json!({}))
    }

    /// `POST /agents/{id}/message` without waiting for the turn.
    #[track_caller]
    pub fn send(&self, agent: &str, prompt: &str) -> Answer {
        self.post(&format!("/agents/{agent}/message"), &json!({"prompt": prompt}))
    }

    /// `POST /agents/{id}/message` that waits for the turn.
    #[track_caller]
    pub fn send_wait(&self, agent: &str, prompt: &str) -> Answer {
        self.post(&message_path(agent), &json!({"prompt": prompt}))
    }

    /// [`send_wait`](Self::send_wait) that does not panic.
    pub fn try_send_wait(&self, agent: &str, prompt: &str) -> Result<Answer, String> {
        let body = json!({"prompt": prompt}).to_string();
        self.try_request(Method::POST, &message_path(agent), body)
    }

    /// Sends a message and returns the agent's reply to it.
    #[track_caller]
    pub fn ask(&self, agent: &str, prompt: &str) -> String {
        self.send_wait(agent, prompt).reply()
    }

    /// `POST /agents/{id}/nudge` with a name for it.
    #[track_caller]
    pub fn nudge(&self, agent: &str, id: &str, message: &str) -> Answer {
        let body = json!({"message": message, "source": "test", "nudgeId": id});
        self.post(&format!("/agents/{agent}/nudge"), &body)
    }

    /// `PATCH /agents/{id}/model`.
    #[track_caller]
    pub fn set_model(&self, agent: &str, model: &str) -> Answer {
        let body = json!({"model": model}).to_string();
        self.request(Method::PATCH, &format!("/agents/{agent}/model"), body)
    }

    /// `PUT /agents/{id}/system-prompt`.
    #[track_caller]
    pub fn set_system_prompt(&self, agent: &str, prompt: &str) -> Answer {
        let body = json!({"systemPrompt": prompt}).to_string();
        self.request(Method::PUT, &format!("/agents/{agent}/system-prompt"), body)
    }

    /// `POST /sync-config` with these values.
    #[track_caller]
    pub fn sync_config(&self, values: Value) -> Answer {
        self.post("/sync-config", &json!({"env_vars": values}))
    }

    /// `GET /agents/{id}/status` of an agent that must be known.
    #[track_caller]
    pub fn status(&self, agent: &str) -> AgentView {
        self.get(&format!("/agents/{agent}/status")).read(200)
    }

    /// `GET /agents/{id}/crashes`: the crash records of an agent, newest first.
    #[track_caller]
    pub fn crashes(&self, agent: &str) -> CrashesPage {
        self.get(&format!("/agents/{agent}/crashes")).read(200)
    }

    /// `GET /crashes/{id}`: a crash record that must be kept.
    #[track_caller]
    pub fn crash(&self, id: &str) -> CrashRecord {
        self.get(&format!("/crashes/{id}")).read(200)
    }

    /// The status of an agent, once it has ended. The log's line comes a moment before the state.
    #[track_caller]
    pub fn ended(&self, agent: &str) -> AgentView {
        wait_for(&format!("{agent} has ended"), || {
            let status = self.status(agent);
            let is_over = ["exited", "failed"].contains(&&*status.status);
            if is_over { Ok(status) } else { Err(format!("{status:?}")) }
        })
    }

    /// The status of an agent, known or not yet, once it is this one.
    #[track_caller]
    pub fn reaches(&self, agent: &str, status: &str) -> AgentView {
        let path = format!("/agents/{agent}/status");
        wait_for(&format!("{agent} is {status}"), || {
            let answer = self.get(&path);
            if answer.body["status"] == status { Ok(answer.read(200)) } else { Err(answer.text) }
        })
    }

    /// Waits until an incarnation of the agent is running.
    #[track_caller]
    pub fn runs(&self, agent: &str, incarnation: u64) {
        wait_for(&format!("{agent} runs in incarnation {incarnation}"), || {
            let status = self.status(agent);
            let runs = status.status == "running" && status.incarnation.0 == incarnation;
            if runs { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }

    /// `GET /agents`.
    #[track_caller]
    pub fn list(&self) -> Vec<AgentView> {
        self.get("/agents").read(200)
    }

    /// What `GET /agents` says of an agent; nothing when it is not known.
    #[track_caller]
    pub fn find(&self, agent: &str) -> Option<AgentView> {
        self.list().into_iter().find(|known| known.agent_id.as_str() == agent)
    }

    /// `GET /agents/{id}/events?after=N`.
    #[track_caller]
    pub fn events(&self, agent: &str, after: u64) -> EventsPage {
        self.get(&format!("/agents/{agent}/events?after={after}")).read(200)
    }

    /// What the events of this name say that are kept of an agent, oldest first.
    #[track_caller]
    pub fn events_named(&self, agent: &str, name: &str) -> Vec<Value> {
        let events = self.events(agent, 0).events;
        events.iter().filter(|event| &*event.event == name).map(data).collect()
    }

    /// `GET /health`, which must be well.
    #[track_caller]
    pub fn health(&self) -> Health {
        let health: Health = self.get("/health").read(200);
        assert_eq!(health.status, "ok", "the host is not well: {health:?}");
        health
    }

    /// `GET /metrics`.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "the host answered: {}", answer.text);
        parse_metrics(&answer.text).unwrap_or_else(|line| panic!("no sample: {line:?}"))
    }
}

/// What an event says.
pub fn data(event: &EventView) -> Value {
    serde_json::from_str(event.data.get()).expect("the data is JSON")
}

/// The samples of an exposition, or the line that is none.
fn parse_metrics(text: &str) -> Result<Metrics, &str> {
    let sample = |line| {
        let (name, value) = str::rsplit_once(line, ' ').ok_or(line)?;
        Ok((name.to_owned(), value.parse().map_err(|_| line)?))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn message_path(agent: &str) -> String {
    format!("/agents/{agent}/message?wait={WAIT_MS}")
}

fn answer(status: u16, body: &[u8]) -> Answer {
    let text = lossy(body);
    Answer {
        status,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
        retry_after: None,
    }
}

/// An HTTP/1.1 answer as it stands on the wire. Bodies in chunks are not undone.
fn parse(received: &[u8]) -> Option<Answer> {
    let text = lossy(received);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(answer(status, body.as_bytes()))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_comments_are_not() {
        let text = "# TYPE a gauge\na 1\na_total{b=\"c d\"} 2.5\n# EOF\n";
        let expected = [("a".to_owned(), 1.0), ("a_total{b=\"c d\"}".to_owned(), 2.5)];
        assert_eq!(parse_metrics(text), Ok(Metrics::from(expected)));
        assert_eq!(parse_metrics("a 1\nb\n"), Err("b"));
    }
}
