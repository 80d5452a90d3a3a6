//! A call from its beginning to what is logged of it.
//!
//! ```text
//!   call ─▶ fenced? ─▶ exchange ─▶ 2xx ─▶ answer
//!                        ▲   │
//!                        │   ├─ 401: another token, asked for by one caller at a time; once more
//!                        │   ├─ 409 fenced: logged once; no call of this run goes out any more
//!                        └───┴─ passing, and safe to repeat: after a random pause, while there is time
//! ```
//!
//! One deadline holds for all of it. Every call that failed is one `town.call_failed`, as far as the
//! same one was not logged just now; from the first one that met silence to the next answer the town counts
//! as unreachable. The silence that a call about one agent meets may be about that agent alone: it only makes the
//! client ask about the container, or about another agent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use bulkhead_log::{RunContext, SharedSink, now};
use bulkhead_net::retry_after;
use bulkhead_types::event::{
    RefreshTokenReceived, TownCallFailed, TownCallGivenUp, TownCallSwitchedOff, TownDropped,
    TownFenced, TownReachable, TownTokenRefreshed, TownUnreachable,
};
use bulkhead_types::time::millis;
use bulkhead_types::{AgentId, Backoff, Event, Secret, Timestamp};
use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http_body_util::Full;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant as Deadline, sleep};

use crate::address::{Paths, segment};
use crate::answers::{self, Refusal};
use crate::call::{About, Call, Payload, Repeat, Request};
use crate::fault::{Cause, Fault};
use crate::figures::{Counters, Droppable};
use crate::optional::{Optional, SwitchedOff};
use crate::token::{self, Current, Token};
use crate::transport::{Reply, Transport};

/// Most exchanges of one call, those after another token not counted.
const MAX_ATTEMPTS: u32 = 4;

/// The pause between two tries of one call.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(400), Duration::from_millis(12_800));

/// Names the run that calls. The town keeps the newest that it has seen.
const RUN_ID: &str = "x-bulkhead-run-id";
/// Of the lease, for a town that refuses older ones.
const EPOCH: &str = "x-bulkhead-epoch";

/// Makes calls. One for the whole container.
pub(crate) struct Client {
    pub(crate) transport: Transport,
    pub(crate) paths: Paths,
    pub(crate) token: Token,
    pub(crate) counters: Counters,
    pub(crate) sink: SharedSink,
    pub(crate) context: Arc<RunContext>,
    /// For a call without a deadline of its own.
    pub(crate) patience: Duration,
    pub(crate) fenced: watch::Sender<bool>,
    pub(crate) optional: Optional,
    /// A call about one agent met silence: somebody has to find out if that is the town's.
    pub(crate) doubt: Notify,
    /// The town answers again.
    pub(crate) is_back: Notify,
    /// Answers so far, whatever they were.
    answers: AtomicU64,
    /// Since when the town is silent.
    silent_since: Mutex<Option<Instant>>,
    fence_logged: AtomicBool,
}

impl Client {
    pub(crate) fn new(
        transport: Transport,
        paths: Paths,
        token: Secret,
        patience: Duration,
        sink: SharedSink,
        context: Arc<RunContext>,
    ) -> Self {
        Self {
            transport,
            paths,
            token: Token::new(token),
            counters: Counters::default(),
            sink,
            context,
            patience,
            fenced: watch::Sender::new(false),
            optional: Optional::default(),
            doubt: Notify::new(),
            is_back: Notify::new(),
            answers: AtomicU64::new(0),
            silent_since: Mutex::default(),
            fence_logged: AtomicBool::new(false),
        }
    }

    /// How long a call may take that sets no time of its own.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Makes a call, with several attempts where that is safe. A failure was logged and counted.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Reply, Fault> {
        let Request { call, about, .. } = request;
        let agent = about.map(|about| &about.agent_id);
        if self.optional.is_off(call, agent) {
            return Err(Fault::switched_off());
        }
        let (mut attempts, answers) = (0, self.answers.load(Relaxed));
        let deadline = Deadline::now() + request.within.unwrap_or(self.patience);
        let result = self.attempt(&request, deadline, &mut attempts).await;
        // A snapshot that is not there is an answer.
        let result = match result {
            Err(fault) if call == Call::SnapshotGet && fault.status == Some(404) => {
                self.counters.count(call, Ok(()));
                return Err(fault);
            }
            other => other,
        };
        self.counters.count(call, result.as_ref().map(|_| ()));
        match &result {
            Ok(_) => self.optional.taken(call, agent),
            Err(fault) => {
                // Who answered others meanwhile is there.
                if fault.cause.is_silence() && self.answers.load(Relaxed) == answers {
                    let is_of_all = about.is_none() || request.finds_out;
                    match is_of_all || fault.cause.is_before_sending() {
                        true => self.is_silent(fault),
                        false => self.doubt.notify_one(),
                    }
                }
                // One line says that it is off, and none that it may be.
                if !call.is_optional() || fault.status != Some(401) {
                    self.log_failure(call, fault, attempts, about);
                }
                self.switch_off(call, fault, about);
            }
        }
        result
    }

    /// Switches an optional call off that is refused, and logs it once.
    fn switch_off(&self, call: Call, fault: &Fault, about: Option<&About>) {
        let agent = about.map(|about| &about.agent_id);
        let off = self.optional.refused(call, agent, fault);
        if off == SwitchedOff::Nothing {
            return;
        }
        let agent_id = agent.filter(|_| off == SwitchedOff::ForAgent).cloned();
        let fingerprint = format!("town:switched_off:{}", call.name());
        // One town may refuse thousands of agents, one after the other.
        if agent_id.is_none() || self.context.take_repeat(&fingerprint).is_some() {
            let (call, status) = (call.name(), fault.status);
            self.sink.record(Event::TownCallSwitchedOff(TownCallSwitchedOff {
                call,
                status,
                agent_id,
            }));
        }
    }

    /// A call about an agent is not tried any more, after so many tries and this time.
    pub(crate) fn gave_up(
        &self,
        call: Call,
        agent: &AgentId,
        attempts: u32,
        tried_for: Duration,
        fault: &Fault,
    ) {
        self.counters.give_up(call);
        self.sink.record(Event::TownCallGivenUp(TownCallGivenUp {
            call: call.name(),
            agent_id: agent.clone(),
            attempts,
            tried_ms: millis(tried_for),
            message: fault.to_string(),
        }));
    }

    /// The `data` of an answer. One of another shape is a failed call.
    pub(crate) fn data<T: DeserializeOwned>(
        &self,
        call: Call,
        reply: &Reply,
        about: Option<&About>,
    ) -> Result<Option<T>, Fault> {
        answers::data(&reply.body).map_err(|fault| self.failed(call, fault, about))
    }

    /// Counts and logs an answer that is no use.
    pub(crate) fn failed(&self, call: Call, fault: Fault, about: Option<&About>) -> Fault {
        self.counters.count(call, Err(&fault));
        self.log_failure(call, &fault, 1, about);
        fault
    }

    pub(crate) fn is_fenced(&self) -> bool {
        *self.fenced.borrow()
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.silent_since.lock().is_none()
    }

    /// Counts a loss, and logs it as far as that was not done just now.
    pub(crate) fn dropped(&self, what: Droppable, dropped: u64) {
        self.counters.drop(what, dropped);
        let name = what.name();
        if self.context.take_repeat(&format!("town:dropped:{name}")).is_some() {
            let (dropped, total) = self.counters.take_dropped(what);
            self.sink.record(Event::TownDropped(TownDropped { what: name, dropped, total }));
        }
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        deadline: Deadline,
        attempts: &mut u32,
    ) -> Result<Reply, Fault> {
        let call = request.call;
        let mut renewed = false;
        loop {
            if self.is_fenced() && call != Call::RefreshToken {
                return Err(Fault::fenced());
            }
            *attempts += 1;
            let token = self.token.current();
            let fault = match self.exchange(request, &token, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            if fault.status == Some(401) && call.renews() && !renewed {
                renewed = true;
                if self.renew(token.generation, "unauthorized", deadline).await {
                    continue;
                }
                return Err(fault);
            }
            let repeats = fault.is_passing()
                && (call.repeat() == Repeat::Always || fault.cause.is_before_sending());
            let doublings = *attempts - 1;
            let pause = BACKOFF.pause_when_asked(doublings, fastrand::f64(), fault.retry_after);
            if !repeats || *attempts >= MAX_ATTEMPTS || Deadline::now() + pause >= deadline {
                return Err(fault);
            }
            sleep(pause).await;
        }
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        token: &Current,
        deadline: Deadline,
    ) -> Result<Reply, Fault> {
        let call = request.call;
        let http = self.http_request(request, token)?;
        let reply = self.transport.exchange(http, call.max_reply_bytes(), deadline).await?;
        self.is_heard();
        if reply.status.is_success() {
            return check_success(call, reply);
        }
        let Refusal { error, newer_run_id } = answers::refusal(&reply.body);
        let text = error.as_deref();
        if reply.status == StatusCode::CONFLICT && text == Some("fenced") {
            self.fence(newer_run_id);
            return Err(Fault::fenced());
        }
        let fault = Fault::refused(reply.status, text.unwrap_or_default());
        let retry_after = retry_after(&reply.headers, jiff::Timestamp::now());
        Err(Fault { retry_after, ..fault })
    }

    fn http_request(
        &self,
        request: &Request<'_>,
        token: &Current,
    ) -> Result<http::Request<Full<bytes::Bytes>>, Fault> {
        let Request { call, path, payload, about, .. } = request;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.secret.expose()))
            .map_err(|_| Fault::new(Cause::NotHttp, "the token cannot be sent in a header"))?;
        bearer.set_sensitive(true);
        let mut request = http::Request::builder()
            .method(call.method())
            .uri(path.as_str())
            .header(USER_AGENT, concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, application/octet-stream")
            .header(AUTHORIZATION, bearer)
            .header(RUN_ID, self.context.run_id());
        if let Some(epoch) = bulkhead_fence::epoch() {
            request = request.header(EPOCH, epoch);
        }
        if let Some(About { agent_id, rig_id }) = about {
            request = request
                .header("x-gastown-agent-id", agent_id.as_str())
                .header("x-gastown-rig-id", segment(rig_id.as_deref().unwrap_or_default()));
        }
        match payload {
            Payload::Nothing => {}
            Payload::Json(_) => request = request.header(CONTENT_TYPE, "application/json"),
            Payload::Octets { taken_at_ms, sha256, .. } => {
                request = request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header("x-snapshot-taken-at", *taken_at_ms)
                    .header("x-snapshot-sha256", sha256.as_str());
            }
        }
        request
            .body(Full::new(payload.bytes()))
            .map_err(|error| Fault::new(Cause::NotHttp, format!("make the request: {error}")))
    }

    /// Gets another token than the one of `generation`, unless somebody else did. Says whether there is one.
    pub(crate) async fn renew(
        &self,
        generation: u64,
        why: &'static str,
        deadline: Deadline,
    ) -> bool {
        let Ok(_guard) = tokio::time::timeout_at(deadline, self.token.refreshing.lock()).await
        else {
            return false;
        };
        if self.token.current().generation != generation {
            return true;
        }
        if self.token.is_backing_off(generation, Instant::now()) {
            return false;
        }
        // Its line is the one of a failed call.
        let Ok(secret) = self.ask_for_token(deadline).await else {
            self.token.refresh_failed(generation, Instant::now());
            return self.token.current().generation != generation;
        };
        let (in_place, expires_at) = self.token.refreshed(generation, secret);
        if in_place {
            self.sink.record(Event::TownTokenRefreshed(TownTokenRefreshed { why, expires_at }));
        }
        true
    }

    /// In a box, because it is a call inside a call.
    fn ask_for_token(
        &self,
        deadline: Deadline,
    ) -> Pin<Box<dyn Future<Output = Result<Secret, Fault>> + Send + '_>> {
        Box::pin(async move {
            let call = Call::RefreshToken;
            let within = deadline.saturating_duration_since(Deadline::now());
            let path = self.paths.town("refresh-container-token");
            let payload = Payload::json(&NoFields {});
            let reply = self.send(Request::new(call, path, payload).within(within)).await?;
            let secret = answers::token(&reply.body);
            let secret = secret.map_err(|fault| self.failed(call, fault, None))?;
            secret.filter(|secret| token::check(secret).is_ok()).ok_or_else(|| {
                let text = "the answer has no token that could be used";
                self.failed(call, Fault::new(Cause::NotJson, text), None)
            })
        })
    }

    /// The town sent a token.
    pub(crate) fn swap_token(&self, secret: Secret) -> Option<Timestamp> {
        let expires_at = self.token.swap(secret);
        self.sink.record(Event::RefreshTokenReceived(RefreshTokenReceived { expires_at }));
        expires_at
    }

    fn fence(&self, newer_run_id: Option<String>) {
        self.fenced.send_replace(true);
        if !self.fence_logged.swap(true, AcqRel) {
            let newer_run_id = newer_run_id.map(|id| crate::fault::one_line(&id));
            self.sink.record(Event::TownFenced(TownFenced {
                newer_run_id,
                action: "another container serves this town; stop this one, or restart it to take over",
            }));
        }
    }

    fn log_failure(&self, call: Call, fault: &Fault, attempts: u32, about: Option<&About>) {
        // That is logged once, when it is found out.
        if fault.cause == Cause::Fenced {
            return;
        }
        let fingerprint = fault.fingerprint(call.name());
        let Some(repeated) = self.context.take_repeat(&fingerprint) else { return };
        self.sink.record(Event::TownCallFailed(TownCallFailed {
            call: call.name(),
            cause: fault.cause.as_str(),
            status: fault.status,
            attempts,
            message: fault.message.clone(),
            agent_id: about.map(|about| about.agent_id.clone()),
            fingerprint,
            repeated,
        }));
    }

    fn is_silent(&self, fault: &Fault) {
        let mut since = self.silent_since.lock();
        if since.is_none() {
            *since = Some(Instant::now());
            let (cause, message) = (fault.cause.as_str(), fault.message.clone());
            self.sink.record(Event::TownUnreachable(TownUnreachable { cause, message }));
        }
    }

    fn is_heard(&self) {
        self.answers.fetch_add(1, Relaxed);
        let mut since = self.silent_since.lock();
        if let Some(since) = since.take() {
            self.sink
                .record(Event::TownReachable(TownReachable { down_ms: millis(since.elapsed()) }));
            self.is_back.notify_one();
        }
    }

    /// How long until the token has to be replaced.
    pub(crate) fn token_due_in(&self) -> Option<Duration> {
        self.token.due_in(now())
    }
}

/// Whether a success is the town's own word. A sign-in page on the way answers 200 as well, and what it took
/// reached nobody.
fn check_success(call: Call, reply: Reply) -> Result<Reply, Fault> {
    if call == Call::SnapshotGet {
        return match is_octets(&reply) {
            true => Ok(reply),
            false => Err(Fault::new(Cause::Corrupt, "the answer is a document and no snapshot")),
        };
    }
    if reply.status == StatusCode::NO_CONTENT {
        return Ok(reply);
    }
    match answers::outcome(&reply.body) {
        Ok(()) => Ok(reply),
        Err(Some(error)) => {
            let text = if error.is_empty() { "no success" } else { &error };
            Err(Fault::new(Cause::NotJson, Fault::refused(reply.status, text).message))
        }
        Err(None) => Err(Fault::new(Cause::NotJson, "the answer is no object of the town API")),
    }
}

/// Whether an answer can be a snapshot: it has a hash, or says of itself nothing else.
fn is_octets(reply: &Reply) -> bool {
    let content_type = reply.headers.get(CONTENT_TYPE);
    reply.headers.contains_key("x-snapshot-sha256")
        || content_type
            .is_none_or(|value| value.as_bytes().starts_with(b"application/octet-stream"))
}

/// `{}`.
#[derive(serde::Serialize)]
struct NoFields {}
