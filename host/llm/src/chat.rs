//! A call: tries until an answer begins, and then its parts.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bulkhead_net::{Addresses, Boxed};
use bulkhead_types::Secret;
use bulkhead_types::backoff::Backoff;
use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::attempt::Attempt;
use crate::endpoint::{Dialect, Endpoint};
use crate::failure::{Failure, Retry, Texts};
use crate::receive::Receiving;
use crate::{End, Error, Finish, Part, Request, Role, Usage, anthropic, openai};

/// Between two tries.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(16));

/// An answer, from the request to its end. Dropping it closes its connection.
pub struct Chat {
    state: State,
    endpoint: Arc<Endpoint>,
    tries: Arc<AtomicU32>,
    unfinished_bytes: Arc<AtomicU64>,
    usage: Option<Usage>,
    ended_by: Option<Finish>,
    /// Who is asked.
    model: String,
}

enum State {
    /// Until the answer begins. Kept here, so that a dropped [`Chat::next`] loses nothing.
    Beginning(Boxed<'static, Result<Receiving, Failure>>),
    Receiving(Box<Receiving>),
    Over,
}

impl Endpoint {
    /// Begins an answer; nothing is sent before [`Chat::next`]. It ends by `deadline` at the latest. `key` replaces the
    /// endpoint's own. `addresses` finds the server's addresses, unless a connection is there already. A key in use
    /// never appears in an error's text.
    pub fn chat(
        self: &Arc<Self>,
        request: Request,
        key: Option<Secret>,
        deadline: Instant,
        addresses: Arc<dyn Addresses + Send>,
    ) -> Chat {
        let tries = Arc::new(AtomicU32::new(0));
        let unfinished_bytes = Arc::new(AtomicU64::new(0));
        let call = Call {
            endpoint: Arc::clone(self),
            key,
            deadline,
            addresses,
            tries: Arc::clone(&tries),
            unfinished_bytes: Arc::clone(&unfinished_bytes),
        };
        let model = request.model.clone();
        let state = State::Beginning(Box::pin(call.begin(request)));
        Chat {
            state,
            endpoint: Arc::clone(self),
            tries,
            unfinished_bytes,
            usage: None,
            ended_by: None,
            model,
        }
    }
}

impl Chat {
    /// Waits for the next part; all text that has arrived is one part. Cancel-safe: dropping the future loses nothing.
    /// After `End` or an error: `None`.
    pub async fn next(&mut self) -> Option<Result<Part, Error>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for those who look at [`Chat::unfinished_bytes`] in the meantime.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        if let State::Beginning(beginning) = &mut self.state {
            match ready!(beginning.as_mut().poll(cx)) {
                Ok(answer) => self.state = State::Receiving(Box::new(answer)),
                Err(failure) => {
                    self.state = State::Over;
                    return Poll::Ready(Some(Err(failure.error)));
                }
            }
        }
        let State::Receiving(answer) = &mut self.state else { return Poll::Ready(None) };
        let mut part = ready!(answer.poll(cx));
        if let Ok(Part::End(End { reasoning_state: Some(state), .. })) = &mut part {
            state.model.clone_from(&self.model);
        }
        self.usage = answer.usage();
        self.ended_by = answer.ended_by();
        if matches!(part, Ok(Part::End(_)) | Err(_)) {
            self.close(part.is_ok());
        }
        Poll::Ready(Some(part.map_err(|failure| failure.error)))
    }

    /// Whether the next part or the end has arrived already, so that [`Chat::next`] returns without waiting.
    pub fn has_more(&self) -> bool {
        match &self.state {
            State::Beginning(_) => false,
            State::Receiving(answer) => answer.has_more(),
            State::Over => true,
        }
    }

    /// What has arrived and is no part yet: tool calls that are not whole, and what the server wants back.
    pub fn unfinished_bytes(&self) -> u64 {
        self.unfinished_bytes.load(Ordering::Relaxed)
    }

    /// How many tries were begun.
    pub fn tries(&self) -> u32 {
        self.tries.load(Ordering::Relaxed)
    }

    /// What the server counted so far, also for an answer that ends in an error. None: it said nothing of it yet.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Why the model ended its answer, also for an answer that ends in an error. None: it said nothing of it yet.
    pub fn ended_by(&self) -> Option<Finish> {
        self.ended_by
    }

    fn close(&mut self, is_whole: bool) {
        let State::Receiving(answer) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        if let Some((connection, rest)) = answer.into_connection().filter(|_| is_whole) {
            self.endpoint.pool.put(connection, rest);
        }
    }
}

/// What begins an answer.
struct Call {
    endpoint: Arc<Endpoint>,
    key: Option<Secret>,
    deadline: Instant,
    addresses: Arc<dyn Addresses + Send>,
    tries: Arc<AtomicU32>,
    unfinished_bytes: Arc<AtomicU64>,
}

impl Call {
    /// Tries until an answer begins.
    async fn begin(self, mut request: Request) -> Result<Receiving, Failure> {
        let until = self.deadline.min(Instant::now() + self.endpoint.settings.bounds.whole);
        let may_be_silent = request.messages.last().is_some_and(|last| last.role == Role::Tool);
        let headers = std::mem::take(&mut request.headers);
        let body = body(&self.endpoint, request);
        let attempt = Attempt {
            endpoint: &self.endpoint,
            body: &body,
            headers: &headers,
            addresses: &*self.addresses,
            until,
            may_be_silent,
            unfinished_bytes: &self.unfinished_bytes,
        };
        let mut tries = Tries::default();
        let mut key = self.first_key()?;
        let mut last = None;
        loop {
            if Instant::now() >= until {
                return Err(self.run_out(last));
            }
            if !tries.is_fresh {
                self.tries.fetch_add(1, Ordering::Relaxed);
            }
            let failure = match timeout_at(until, attempt.run(key.as_ref(), tries.is_fresh)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(self.run_out(last)),
            };
            tries.is_fresh = false;
            match failure.retry {
                Retry::NewConnection => tries.is_fresh = true,
                Retry::NewKey => match self.other_key(&mut tries, key.as_ref()) {
                    Some(other) => key = Some(other),
                    None => return Err(failure),
                },
                Retry::Never => return Err(failure),
                Retry::Later(asked) => {
                    let Some(pause) = self.pause(tries.repeats, asked, until) else {
                        let most = self.endpoint.settings.bounds.max_wait;
                        return Err(failure.unless_waited(asked.filter(|asked| *asked > most)));
                    };
                    self.warn(&failure, pause);
                    sleep(pause).await;
                    tries.repeats += 1;
                    last = Some(failure.error);
                }
            }
        }
    }

    fn first_key(&self) -> Result<Option<Secret>, Failure> {
        let key = match &self.key {
            Some(key) => Some(key.clone()),
            None => self.endpoint.key.current().map_err(|why| {
                let failure = self.texts().unavailable(&format!("its key cannot be read: {why}"));
                Failure { retry: Retry::Never, ..failure }
            })?,
        };
        Ok(key.filter(|key| !key.expose().is_empty()))
    }

    /// Another key than the refused one: once, and only if the call has none of its own.
    fn other_key(&self, tries: &mut Tries, refused: Option<&Secret>) -> Option<Secret> {
        if self.key.is_some() || std::mem::replace(&mut tries.has_reread, true) {
            return None;
        }
        let other = self.endpoint.key.other_than(refused)?;
        let endpoint = &*self.endpoint.settings.name;
        tracing::warn!(
            endpoint,
            "a model's server refused the key, trying the one that replaced it"
        );
        Some(other)
    }

    /// How long to wait before the next try; none: there is none that fits.
    fn pause(&self, repeats: u32, asked: Option<Duration>, until: Instant) -> Option<Duration> {
        let bounds = &self.endpoint.settings.bounds;
        if repeats >= bounds.retries || asked.is_some_and(|asked| asked > bounds.max_wait) {
            return None;
        }
        let pause = BACKOFF.pause_when_asked(repeats, fastrand::f64(), asked);
        (pause < until.saturating_duration_since(Instant::now())).then_some(pause)
    }

    fn warn(&self, failure: &Failure, pause: Duration) {
        let endpoint = &*self.endpoint.settings.name;
        let (error, pause_ms) = (&failure.error, pause.as_millis() as u64);
        tracing::warn!(endpoint, %error, pause_ms, "a model call failed, trying again");
    }

    fn run_out(&self, last: Option<Error>) -> Failure {
        let text = match last {
            Some(last) => format!("the time for the call is over, after: {last}"),
            None => "the time for the call is over".to_owned(),
        };
        self.texts().timeout(&text, Retry::Never)
    }

    /// For what was not sent: there is no key to leave out.
    fn texts(&self) -> Texts {
        Texts { name: Arc::clone(&self.endpoint.settings.name), secrets: Vec::new() }
    }
}

#[derive(Default)]
struct Tries {
    /// Those that count.
    repeats: u32,
    /// The next goes on a new connection, and is still the same try.
    is_fresh: bool,
    has_reread: bool,
}

fn body(endpoint: &Endpoint, request: Request) -> Bytes {
    let settings = &endpoint.settings;
    let mut body = match settings.dialect {
        Dialect::OpenAi => openai::body(&request, is_openai(&settings.base.destination.host)),
        Dialect::Anthropic => anthropic::body(&request),
    };
    let cannot_think = settings.dialect == Dialect::Anthropic && anthropic::cannot_think(&request);
    let is_limited = request.max_tokens.is_some() || request.extra.contains_key("max_tokens");
    for (name, value) in request.extra {
        // Null leaves a field out: some servers refuse what the dialect writes.
        match value {
            Value::Null => _ = body.remove(&name),
            value => _ = body.insert(name, value),
        }
    }
    if cannot_think && body.get("thinking").is_some_and(|it| it["type"] == "enabled") {
        body.remove("thinking");
    }
    if settings.dialect == Dialect::Anthropic && !is_limited {
        anthropic::make_room(&mut body);
    }
    Value::Object(body).to_string().into()
}

/// Whether OpenAI's own models are there, or Azure's.
fn is_openai(host: &str) -> bool {
    const AZURE: [&str; 3] =
        [".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"];
    let host = host.to_ascii_lowercase();
    host == "api.openai.com" || AZURE.iter().any(|domain| host.ends_with(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_has_many_names() {
        for host in ["api.openai.com", "A.openai.azure.com", "a.services.ai.azure.com"] {
            assert!(is_openai(host), "{host}");
        }
        assert!(!is_openai("openai.example") && !is_openai("azure.com"));
    }
}
