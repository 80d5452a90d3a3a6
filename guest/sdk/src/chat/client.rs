//! Asks the model's server.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::assembly::{Problem, error_text};
use super::retry_after::retry_after;
use super::wire::Wire;
use super::{Message, Reply, Role, Tool};
use crate::config::{self, ConfigError};
use crate::{AgentError, host, http};

/// Before the first repeat; doubled for each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// After this many the pause stays the same: 16 s.
const MAX_DOUBLINGS: u32 = 6;

/// After an answer, for what it cost. Nothing else is waited for.
const AFTER_ANSWER: Duration = Duration::from_millis(250);

/// What another attempt needs at least, after a pause that the server asked for.
const ATTEMPT: Duration = Duration::from_secs(1);

/// One host call waits no longer than this; see [`http`].
const SLEEP_SLICE: Duration = Duration::from_secs(1);

/// Of a server's own error text, so that it fits into a log line.
const MAX_ERROR_CHARS: usize = 300;

/// The keys `model.*`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Settings {
    base_url: String,
    api_key: Option<String>,
    name: Option<String>,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    #[serde(default = "default_retries")]
    retries: u32,
    #[serde(default = "default_max_wait_ms")]
    max_wait_ms: u64,
    #[serde(default = "default_max_answer_bytes")]
    max_answer_bytes: usize,
}

fn default_timeout_ms() -> u64 {
    120_000
}

fn default_retries() -> u32 {
    2
}

fn default_max_wait_ms() -> u64 {
    60_000
}

fn default_max_answer_bytes() -> usize {
    4 * 1024 * 1024
}

/// A model behind an endpoint.
pub struct Client {
    url: String,
    model: String,
    settings: Settings,
}

/// There was no usable answer. Its text names the URL and never the key.
#[derive(Debug)]
pub enum Error {
    /// The server was not reached, or the exchange broke off.
    Unreachable(http::Error),
    /// The server answered with an error.
    Refused {
        /// Where.
        url: String,
        /// The HTTP status, or the one that an error in the middle of a stream names; else 200 there.
        status: u16,
        /// The server's own words, cut.
        message: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is not what a completion looks like.
    BadAnswer {
        /// Where.
        url: String,
        /// What is wrong.
        problem: String,
        /// It ended in the middle, which may not happen again.
        cut_off: bool,
    },
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [&'a Message],
    stream: bool,
    #[serde(skip_serializing_if = "<[Tool]>::is_empty")]
    tools: &'a [Tool],
}

impl Client {
    /// Reads the keys `model.*`. `model` is the one that [`host::settings`] names, if it does.
    pub fn from_config(model: Option<&str>) -> Result<Self, ConfigError> {
        Self::new(config::load("model")?, model)
    }

    fn new(settings: Settings, model: Option<&str>) -> Result<Self, ConfigError> {
        let given = |name: &&str| !name.trim().is_empty();
        let model = model.filter(given).or(settings.name.as_deref().filter(given));
        let Some(model) = model.map(|name| name.trim().to_owned()) else {
            return Err(ConfigError::new(
                "model.name",
                "is not set, and the settings name no model",
            ));
        };
        let url = format!("{}/chat/completions", settings.base_url.trim().trim_end_matches('/'));
        http::check(&url).map_err(|why| ConfigError::new("model.base-url", why))?;
        Ok(Self { url, model, settings })
    }

    /// Where requests go, without secrets.
    pub fn url(&self) -> String {
        http::redact(&self.url)
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Asks for the next message of a conversation.
    pub fn complete(&self, messages: &[&Message], tools: &[Tool]) -> Result<Reply, Error> {
        self.persist(messages, tools, None)
    }

    /// [`complete`](Self::complete), and hands on text as it comes. After the first text a failure
    /// is not repeated, because the text cannot be taken back.
    pub fn complete_with(
        &self,
        messages: &[&Message],
        tools: &[Tool],
        mut on_text: impl FnMut(&str),
    ) -> Result<Reply, Error> {
        self.persist(messages, tools, Some(&mut on_text))
    }

    fn persist(
        &self,
        messages: &[&Message],
        tools: &[Tool],
        mut on_text: Option<&mut dyn FnMut(&str)>,
    ) -> Result<Reply, Error> {
        let mut handed_on = false;
        let mut attempt = 0;
        loop {
            let result = self.attempt(messages, tools, &mut |text| {
                if let Some(on_text) = &mut on_text {
                    handed_on = true;
                    on_text(text);
                }
            });
            let Err(error) = result else { return result };
            let Some(pause) = self.pause(&error, attempt, host::deadline()) else {
                return Err(error);
            };
            if attempt >= self.settings.retries || !error.is_transient() || handed_on {
                return Err(error);
            }
            let pause_ms = pause.as_millis();
            crate::warn!("model call failed, trying again", error = error, pause_ms = pause_ms);
            sleep(pause);
            attempt += 1;
        }
    }

    /// How long to wait before the next attempt; none: another is not worth it in the time that is left.
    fn pause(&self, error: &Error, attempt: u32, left: Duration) -> Option<Duration> {
        let own = FIRST_BACKOFF * 2_u32.saturating_pow(attempt.min(MAX_DOUBLINGS));
        match error {
            Error::Refused { retry_after: Some(asked), .. } => {
                let most = Duration::from_millis(self.settings.max_wait_ms);
                let pause = own.max(*asked);
                (*asked <= most && pause + ATTEMPT < left).then_some(pause)
            }
            // Another attempt needs some time after the pause.
            _ => (own * 4 < left).then_some(own),
        }
    }

    fn attempt(
        &self,
        messages: &[&Message],
        tools: &[Tool],
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Reply, Error> {
        let body = Body { model: &self.model, messages, stream: true, tools };
        let mut request = http::Request::post(&self.url)
            .timeout(Duration::from_millis(self.settings.timeout_ms))
            .max_body_bytes(self.settings.max_answer_bytes)
            .header("accept", "text/event-stream, application/json")
            .header("accept-encoding", "identity")
            .json(&body)
            .map_err(Error::Unreachable)?;
        if let Some(key) = self.settings.api_key.as_deref().filter(|key| !key.is_empty()) {
            request = request.bearer(key);
        }
        let response = request.send().map_err(Error::Unreachable)?;
        if !(200..=299).contains(&response.status()) {
            return Err(self.refused(response));
        }
        // After the result of a tool a model may have nothing more to say.
        let may_be_silent = messages.last().is_some_and(|message| message.role == Role::Tool);
        self.read(response, may_be_silent, on_text)
    }

    fn read(
        &self,
        response: http::Response,
        may_be_silent: bool,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Reply, Error> {
        let (mut wire, mut parts) = (Wire::default(), response.parts());
        while !wire.is_complete() {
            if wire.is_answered() {
                parts.end_within(AFTER_ANSWER);
            }
            let added = match parts.next() {
                Some(Ok(bytes)) => wire.push(&bytes),
                // Whatever the connection does, the answer is here.
                Some(Err(_)) if wire.is_answered() => break,
                Some(Err(error)) => return Err(self.broken_off(error, wire.has_begun())),
                None => {
                    self.hand_on(wire.end(), on_text)?;
                    break;
                }
            };
            self.hand_on(added, on_text)?;
        }
        wire.finish(may_be_silent).map_err(|problem| self.bad(problem))
    }

    fn hand_on(
        &self,
        added: Result<String, Problem>,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let text = added.map_err(|problem| self.bad(problem))?;
        if !text.is_empty() {
            on_text(&text);
        }
        Ok(())
    }

    /// The connection ended before the answer did.
    fn broken_off(&self, error: http::Error, has_begun: bool) -> Error {
        match error.kind {
            http::ErrorKind::Broken(why) if has_begun => {
                let problem = format!("it is cut off in the middle: {why}");
                Error::BadAnswer { url: self.url(), problem, cut_off: true }
            }
            _ => Error::Unreachable(error),
        }
    }

    fn refused(&self, response: http::Response) -> Error {
        let status = response.status();
        let retry_after = retry_after(&|name| response.header(name), std::time::SystemTime::now());
        // The status says enough when the text cannot be read.
        let text = response.text().unwrap_or_default();
        let message = match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(json) => {
                // Some put it into a list.
                let json = json.get(0).unwrap_or(&json);
                error_text(json.get("error").unwrap_or(json))
            }
            Err(_) => text,
        };
        Error::Refused { url: self.url(), status, message: self.clean(&message), retry_after }
    }

    fn bad(&self, problem: Problem) -> Error {
        let url = self.url();
        match problem {
            Problem::Reported(message, status) => {
                let (status, message) = (status.unwrap_or(200), self.clean(&message));
                Error::Refused { url, status, message, retry_after: None }
            }
            Problem::CutOff | Problem::Malformed(_) => {
                let cut_off = problem == Problem::CutOff;
                Error::BadAnswer { url, problem: self.clean(&problem.to_string()), cut_off }
            }
        }
    }

    /// Some servers quote the key that they refuse.
    fn clean(&self, text: &str) -> String {
        let cleaned = match self.settings.api_key.as_deref().filter(|key| !key.is_empty()) {
            Some(key) => text.replace(key, "[key]"),
            None => text.to_owned(),
        };
        cleaned.trim().chars().take(MAX_ERROR_CHARS).collect()
    }
}

impl Error {
    /// The same question may be answered later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(error) => error.is_transient(),
            Self::Refused { status, .. } => matches!(status, 200 | 408 | 429 | 500..=599),
            Self::BadAnswer { cut_off, .. } => *cut_off,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "no answer from the model: {error}"),
            Self::Refused { url, status, message, retry_after } => {
                write!(f, "model at {url} refused with status {status}: {message}")?;
                match retry_after {
                    Some(time) => write!(f, " (it asks to wait {} ms)", time.as_millis()),
                    None => Ok(()),
                }
            }
            Self::BadAnswer { url, problem, .. } => {
                write!(f, "model at {url} gave an answer that is not usable: {problem}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for AgentError {
    /// `model-unavailable` for what may pass and for what the host does not allow, `model-refused`
    /// for what the caller or the configuration has to change, `model-bad-answer` for the rest.
    /// None is fatal.
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Unreachable(http::Error { kind: http::ErrorKind::TooLarge(_), .. }) => {
                "model-bad-answer"
            }
            Error::Unreachable(_) => "model-unavailable",
            Error::Refused { .. } if error.is_transient() => "model-unavailable",
            Error::Refused { .. } => "model-refused",
            Error::BadAnswer { .. } => "model-bad-answer",
        };
        Self::failed(code, error.to_string())
    }
}

/// Sleeps in slices, because the host bounds each of its calls.
fn sleep(time: Duration) {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(SLEEP_SLICE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(model: Option<&str>) -> Result<Client, ConfigError> {
        let lookup = |key: &str| match key {
            "model.base-url" => Some("http://localhost:9100/v1/".to_owned()),
            "model.api-key" => Some("sk-secret".to_owned()),
            "model.name" => Some("default".to_owned()),
            _ => None,
        };
        Client::new(config::load_from("model", &lookup)?, model)
    }

    #[test]
    fn the_settings_choose_the_model_before_the_config() {
        assert_eq!(client(None).unwrap().model(), "default");
        assert_eq!(client(Some("other")).unwrap().model(), "other");
    }

    #[test]
    fn a_base_url_that_cannot_be_used_is_found_at_once() {
        let lookup = |key: &str| (key == "model.base-url").then(|| "nonsense".to_owned());
        let settings = config::load_from("model", &lookup).unwrap();
        let error = Client::new(settings, Some("m")).err().unwrap();
        assert_eq!(error.key, "model.base-url");
    }

    #[test]
    fn the_url_is_joined_with_one_slash() {
        let client = client(None).unwrap();
        assert_eq!(client.url(), "http://localhost:9100/v1/chat/completions");
    }

    #[test]
    fn a_key_that_the_server_quotes_is_taken_out() {
        let error = client(None).unwrap().bad(Problem::Reported("bad key sk-secret".into(), None));
        let error = AgentError::from(error);
        assert!(!error.message.contains("sk-secret"), "{}", error.message);
        assert!(error.message.contains("http://localhost:9100"), "{}", error.message);
        assert!(!error.fatal);
    }

    #[test]
    fn what_a_server_asks_for_is_waited_for_within_a_bound() {
        let client = client(None).unwrap();
        let after = |seconds| Error::Refused {
            url: String::new(),
            status: 429,
            message: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let (seconds, left) = (Duration::from_secs, Duration::from_secs(300));
        assert_eq!(client.pause(&after(3), 0, left), Some(seconds(3)));
        assert_eq!(client.pause(&after(0), 1, left), Some(FIRST_BACKOFF * 2));
        assert_eq!(client.pause(&after(61), 0, left), None);
        assert_eq!(client.pause(&after(3), 0, seconds(4)), None);
        assert!(after(61).to_string().contains("61000 ms"));
        let cut = client.bad(Problem::CutOff);
        assert_eq!(client.pause(&cut, 0, left), Some(FIRST_BACKOFF));
        assert_eq!(client.pause(&cut, 0, FIRST_BACKOFF * 4), None);
    }

    #[test]
    fn a_request_without_tools_does_not_mention_them() {
        let message = Message::user("hi");
        let body = Body { model: "m", messages: &[&message], stream: true, tools: &[] };
        let json = serde_json::to_value(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "model": "m", "stream": true,
                "messages": [{"role": "user", "content": "hi"}],
            })
        );
    }
}
