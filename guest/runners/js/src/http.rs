//! Requests of `fetch`: sent, waited for beside timers and other requests, and read part by part.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bulkhead_guest::http::{Error, ErrorKind, Method, Parts, Pending, Request, Wait};
use serde::{Deserialize, Serialize};
use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::{Pollable, poll};

use crate::natives::Reply;
use crate::natives::handles::Handles;

thread_local! {
    /// Whether there was a request in this turn. To read it writes nothing: what is written is no longer shared with other agents.
    static USED: Cell<bool> = const { Cell::new(false) };
    static EXCHANGES: Handles<Exchange> = const { Handles::new() };
    /// Those that a promise waits for.
    static AWAITED: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
}

enum Exchange {
    Sent(Pending),
    Body(Parts),
}

/// As `sdk/fetch.js` asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    has_body: bool,
}

/// The head of an answer, whose body has the number of the request.
#[derive(Serialize)]
pub struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

/// Why there is no answer, by a word for programs.
#[derive(Serialize)]
pub struct Failure {
    code: &'static str,
    message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error.kind {
            ErrorKind::InvalidUrl(_) | ErrorKind::InvalidHeader(_) => "invalid",
            ErrorKind::Denied | ErrorKind::Prohibited(_) => "denied",
            ErrorKind::Timeout { .. } => "timeout",
            // For `sdk/fetch.js`, which tries again.
            ErrorKind::Connect(why) if why == "connection limit reached" => "full",
            ErrorKind::Connect(_) => "unavailable",
            _ => "broken",
        };
        Self { code, message: error.to_string() }
    }
}

/// Sends one and returns its number.
pub fn send(ask: Ask, body: &[u8]) -> Reply {
    Reply::plain(begin(ask, body))
}

fn begin(ask: Ask, body: &[u8]) -> Result<u32, Failure> {
    let Ok(method) = Method::from_bytes(ask.method.as_bytes()) else {
        let message = format!("`{}` is no method", ask.method);
        return Err(Failure { code: "invalid", message });
    };
    // The turn's deadline bounds it, and the agent's memory what is read of it.
    let request = Request::new(method, ask.url)
        .timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .max_body_bytes(usize::MAX);
    // As `Headers` has them: a character is a byte.
    let bytes = |value: String| -> Vec<u8> { value.chars().map(|c| c as u8).collect() };
    let request = ask
        .headers
        .into_iter()
        .fold(request, |all, (name, value)| all.header_bytes(name, bytes(value)));
    let request = if ask.has_body { request.body(body) } else { request };
    let pending = request.begin()?;
    USED.set(true);
    Ok(EXCHANGES.with(|all| all.add(Exchange::Sent(pending))))
}

/// Somebody waits for this one: its head, or the next part of its body.
pub fn wait(id: u32) {
    AWAITED.with_borrow_mut(|awaited| awaited.insert(id));
}

/// The head, if it is here.
pub fn head(id: u32) -> Option<Result<Head, Failure>> {
    let answered = EXCHANGES.with(|all| {
        all.with(id, |exchange| {
            let Exchange::Sent(pending) = exchange else { return None };
            pending.answer()
        })
    });
    let response = match answered {
        None => return Some(Err(gone())),
        Some(None) => return None,
        Some(Some(Err(error))) => {
            close(id);
            return Some(Err(error.into()));
        }
        Some(Some(Ok(response))) => response,
    };
    let text = |value: &[u8]| value.iter().map(|byte| char::from(*byte)).collect();
    let head = Head {
        status: response.status(),
        headers: response.headers().map(|(name, value)| (name.to_owned(), text(value))).collect(),
    };
    EXCHANGES.with(|all| all.with(id, |exchange| *exchange = Exchange::Body(response.parts())));
    Some(Ok(head))
}

/// The next part: `"later"`, `"part"` with bytes, or `"end"`.
pub fn read(id: u32) -> Reply {
    let found = EXCHANGES.with(|all| {
        all.with(id, |exchange| match exchange {
            Exchange::Body(parts) if parts.wait().is_some() => Ok(("later", Vec::new())),
            Exchange::Body(parts) => match parts.next() {
                Some(Ok(part)) => Ok(("part", part)),
                Some(Err(error)) => Err(Failure::from(error)),
                None => Ok(("end", Vec::new())),
            },
            Exchange::Sent(_) => Ok(("later", Vec::new())),
        })
    });
    match found.unwrap_or_else(|| Err(gone())) {
        Ok((what, part)) => Reply::new(Ok::<_, Failure>(what), [part]),
        Err(failure) => Reply::new(Err::<&str, _>(failure), [Vec::new()]),
    }
}

fn gone() -> Failure {
    Failure {
        code: "broken",
        message: "the request was dropped at the end of a turn, or cancelled".to_owned(),
    }
}

/// Drops one with its connection.
pub fn close(id: u32) {
    EXCHANGES.with(|all| all.close(id));
    AWAITED.with_borrow_mut(|awaited| awaited.remove(&id));
}

/// Drops all, and returns how many of them somebody waited for. `None`: there was none.
pub fn drop_all() -> Option<usize> {
    if !USED.get() {
        return None;
    }
    USED.set(false);
    EXCHANGES.with(Handles::clear);
    Some(AWAITED.take().len())
}

/// Whether somebody waits for one.
pub fn is_awaited() -> bool {
    USED.get() && AWAITED.with_borrow(|awaited| !awaited.is_empty())
}

/// Waits until one that somebody waits for has news, or its time is over, or so long. Returns those that have.
pub fn arrived(longest: Duration) -> Vec<u32> {
    let ids: Vec<u32> = AWAITED.with_borrow(|awaited| awaited.iter().copied().collect());
    let waits: Vec<_> = ids.into_iter().map(|id| (id, wait_of(id))).collect();
    let is_late = |wait: &Wait| wait.until <= Instant::now();
    let ready = |waits: &[(u32, Option<Wait>)]| -> Vec<u32> {
        let has_news = |wait: &Option<Wait>| {
            wait.as_ref().is_none_or(|wait| wait.event.ready() || is_late(wait))
        };
        waits.iter().filter(|(_, wait)| has_news(wait)).map(|(id, _)| *id).collect()
    };
    let mut found = ready(&waits);
    if found.is_empty() {
        let left = |wait: &Wait| wait.until.saturating_duration_since(Instant::now());
        let at_most =
            waits.iter().flat_map(|(_, wait)| wait).map(left).fold(longest, Duration::min);
        let nanos = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
        let timer = monotonic_clock::subscribe_duration(nanos);
        let events: Vec<&Pollable> = waits
            .iter()
            .flat_map(|(_, wait)| wait)
            .map(|wait| &wait.event)
            .chain([&timer])
            .collect();
        poll(&events);
        found = ready(&waits);
    }
    AWAITED.with_borrow_mut(|awaited| awaited.retain(|id| !found.contains(id)));
    found
}

/// `None`: it has news already, or is gone.
fn wait_of(id: u32) -> Option<Wait> {
    EXCHANGES.with(|all| {
        all.with(id, |exchange| match exchange {
            Exchange::Sent(pending) => pending.wait(),
            Exchange::Body(parts) => parts.wait(),
        })
    })?
}
