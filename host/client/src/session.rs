//! One command's talk with one host: what is asked, and what an answer's status means for it.

use std::time::{Duration, UNIX_EPOCH};

use bulkhead_api::ErrorBody;
use bulkhead_types::{AgentId, Timestamp};
use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::failure::{Failure, Refusal};
use crate::http::{Answer, Ask, EVENT_STREAM, JSON, WASM, open};
use crate::screen::Screen;
use crate::stream::EventStream;
use crate::target::Target;
use crate::waiting::Waiting;
use bulkhead_printable as text;

/// How long an answer may take that needs no agent.
pub(crate) const QUICK: Duration = Duration::from_secs(10);

/// What the host's clock, as an answer says it, is short of at most.
const SECOND: Duration = Duration::from_secs(1);

/// How long a start or a stop may take that names no deadline: more than a role should allow.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A command's surroundings.
pub(crate) struct Session {
    pub(crate) target: Target,
    pub(crate) screen: Screen,
    pub(crate) waiting: Waiting,
    /// What `--timeout` says.
    pub(crate) timeout: Option<Duration>,
    /// The answer is for a program.
    pub(crate) json: bool,
}

/// One request.
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Bytes,
    /// What the body is.
    content: &'static str,
    /// For a person, for example `start of bad`.
    asked: String,
    /// Something runs at the host for it, which may fail.
    works: bool,
    patience: Duration,
}

impl Call {
    /// A question.
    pub(crate) fn get(path: impl Into<String>, asked: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: Bytes::new(),
            content: JSON,
            asked: asked.into(),
            works: false,
            patience: QUICK,
        }
    }

    /// An order, with a body of JSON.
    pub(crate) fn post(path: impl Into<String>, asked: impl Into<String>, body: Vec<u8>) -> Self {
        Self { method: Method::POST, body: body.into(), works: true, ..Self::get(path, asked) }
    }

    /// The removal of something.
    pub(crate) fn delete(path: impl Into<String>, asked: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path, asked) }
    }

    /// With a component as its body.
    pub(crate) fn of_wasm(self) -> Self {
        Self { content: WASM, ..self }
    }

    /// With another bound than ten seconds, where `--timeout` says none.
    pub(crate) fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

impl Session {
    /// Asks, and shows that it waits. An answer below 300 is `Ok`.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Failure> {
        let _over = self.waiting.begin(format!("the {}", call.asked), None);
        self.ask(call).await
    }

    /// The same within a wait that was begun already.
    pub(crate) async fn ask(&self, call: Call) -> Result<Answer, Failure> {
        let Call { method, path, body, content, asked, works, patience } = call;
        let ask = Ask { method, path: &path, body, content, accept: JSON, last_event_id: None };
        let answer =
            async { open(&self.target, ask, || self.waiting.sent.set(true)).await?.answer().await };
        let answer = self.in_time(patience, &asked, answer).await?;
        self.check(asked, works, answer)
    }

    /// Opens a stream; of one that is opened again `last_event_id` is the last event that came. What the host refuses is
    /// a failure, as elsewhere.
    pub(crate) async fn open(
        &self,
        call: Call,
        last_event_id: Option<u64>,
    ) -> Result<EventStream, Failure> {
        let Call { method, path, body, content, asked, works, patience } = call;
        let ask = Ask { method, path: &path, body, content, accept: EVENT_STREAM, last_event_id };
        let response = open(&self.target, ask, || self.waiting.sent.set(true));
        let response = self.in_time(patience, &asked, response).await?;
        let kind = response.head.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        let is_stream = kind.is_some_and(|kind| kind.starts_with(EVENT_STREAM.as_bytes()));
        if response.head.status.is_success() && is_stream {
            return Ok(EventStream::new(response.body, self.target.url.clone(), asked));
        }
        let answer = self.in_time(patience, &asked, response.answer()).await?;
        self.check(asked.clone(), works, answer)?;
        let url = &self.target.url;
        Err(Failure::NoAnswer(format!(
            "{url} answered without a stream ({asked}): is it a Bulkhead host?"
        )))
    }

    async fn in_time<T>(
        &self,
        patience: Duration,
        asked: &str,
        answer: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Failure> {
        let patience = self.timeout.unwrap_or(patience);
        let url = &self.target.url;
        timeout(patience, answer)
            .await
            .map_err(|_| {
                let waited = bulkhead_terminal::words::duration(patience);
                Failure::NoAnswer(format!("{url} did not answer in {waited} ({asked})"))
            })?
            .map_err(|problem| Failure::NoAnswer(format!("{url}: {problem} ({asked})")))
    }

    fn check(&self, asked: String, works: bool, answer: Answer) -> Result<Answer, Failure> {
        match answer.status {
            200..300 => Ok(answer),
            400.. => Err(self.refusal(asked, works, &answer)),
            status => {
                let url = &self.target.url;
                Err(Failure::NoAnswer(format!(
                    "{url} answered with status {status} ({asked}): is it a Bulkhead host?"
                )))
            }
        }
    }

    /// Reads an answer. The error names the field that is not as it should be.
    pub(crate) fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        let mut json = serde_json::Deserializer::from_slice(&answer.body);
        let value = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| self.nonsense(&format!("{}: {}", error.path(), error.inner())))?;
        json.end().map_err(|error| self.nonsense(&error.to_string()))?;
        Ok(value)
    }

    /// Prints an answer as the host gave it, after a look that it is one of `T`.
    pub(crate) fn print_json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<(), Failure> {
        self.read::<T>(answer)?;
        self.screen.print(&format!("{}\n", self.json_of(answer)?))
    }

    /// The document in an answer, safe for a terminal.
    pub(crate) fn json_of(&self, answer: &Answer) -> Result<String, Failure> {
        let document = std::str::from_utf8(&answer.body);
        document
            .map(|document| text::json(document).into_owned())
            .map_err(|error| self.nonsense(&error.to_string()))
    }

    fn nonsense(&self, problem: &str) -> Failure {
        let url = &self.target.url;
        Failure::NoAnswer(format!("{url} sent an invalid response: {problem}"))
    }

    fn refusal(&self, asked: String, works: bool, answer: &Answer) -> Failure {
        let status = answer.status;
        // A proxy on the way may have an error of its own, in JSON as well.
        let body: Option<ErrorBody> = serde_json::from_slice(&answer.body).ok();
        let Some(body) = body.filter(|body| body.status == Some(status)) else {
            let url = &self.target.url;
            return Failure::NoAnswer(format!(
                "{url} answered with status {status} ({asked}) without a Bulkhead error: is it a Bulkhead host?"
            ));
        };
        let json = text::json(&String::from_utf8_lossy(&answer.body)).into_owned();
        let retry_after = answer.retry_after;
        let refusal = Box::new(Refusal { asked, status, body, json, retry_after });
        match status {
            422 | 500 | 502 | 504 if works => Failure::Failed(refusal),
            _ => Failure::Refused(refusal),
        }
    }
}

/// The clock of the host when it answered; this machine's when it said none, or when the two agree: the host says
/// whole seconds.
pub(crate) fn now(answer: &Answer) -> Timestamp {
    let here = Timestamp(0).after(UNIX_EPOCH.elapsed().unwrap_or_default());
    more_precise(answer.at, here)
}

fn more_precise(host: Option<Timestamp>, here: Timestamp) -> Timestamp {
    let agree = |host: &Timestamp| here >= *host && here.since(*host) < SECOND;
    host.filter(|host| !agree(host)).unwrap_or(here)
}

/// The path of an agent's route. Ids need no escape in a path.
pub(crate) fn agent_path(id: &AgentId, route: &str) -> String {
    format!("/agents/{id}/{route}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_host_is_made_precise_where_this_clock_agrees_with_it() {
        let host = Timestamp(5000);
        for (here, now) in [(5000, 5000), (5999, 5999), (6000, 5000), (4999, 5000), (90_000, 5000)]
        {
            assert_eq!(more_precise(Some(host), Timestamp(here)), Timestamp(now), "{here}");
        }
        assert_eq!(more_precise(None, Timestamp(7)), Timestamp(7));
    }
}
