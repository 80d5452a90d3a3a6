//! An answer that is being received.
//!
//! ```text
//!   frames ─▶ wire ─▶ parts ─▶ finish reason ─▶ usage and the stream's own end, within 1 s ─▶ End
//!     └─ silence, size, time, a broken connection ─▶ Failure, after the parts that arrived
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bulkhead_types::error::chain;
use bytes::Bytes;
use hyper::body::{Frame, Incoming};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::Connection;
use crate::failure::{Failure, Retry, Texts};
use crate::wire::Wire;
use crate::{End, Finish, Part, Usage};

/// After the finish reason, for the usage and the end of the stream. What came is an answer without them.
const AFTER_REASON: Duration = Duration::from_secs(1);

/// The same where text or a call stood beside the finish reason or after it, and after each more of them: some servers
/// give every chunk a reason.
const BETWEEN_REASONS: Duration = Duration::from_secs(5);

/// Frames that are taken at a time: what is behind them comes with the next call.
const FRAMES: usize = 256;

/// The limits of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The first byte of the body comes before this.
    pub(crate) first_byte: Instant,
    /// An answer begins before this, and within so much time from the beginning of the try.
    pub(crate) attempt: (Instant, Duration),
    /// Silence.
    pub(crate) idle: Duration,
    /// The end of the call.
    pub(crate) until: Instant,
    /// Size on the wire.
    pub(crate) bytes: usize,
}

/// An answer that is being received.
pub(crate) struct Receiving {
    connection: Connection,
    /// `None` when it was read to its end.
    body: Option<Incoming>,
    wire: Wire,
    texts: Texts,
    limits: Limits,
    may_be_silent: bool,
    received_bytes: usize,
    /// Of these, what is no part yet.
    unfinished_bytes: Arc<AtomicU64>,
    /// Silence is too long then.
    silent_at: Instant,
    /// After the finish reason nothing is waited for beyond this.
    over_at: Option<Instant>,
    /// What was said when that was set.
    said: u64,
    /// Somebody waits since a call that took nothing.
    is_waiting: bool,
    timer: Pin<Box<Sleep>>,
    /// What follows the parts.
    end: Option<Result<End, Failure>>,
    /// Its response comes to an end of its own.
    is_orderly: bool,
}

/// A try is over before an answer began.
pub(crate) fn no_part(texts: &Texts, within: Duration) -> Failure {
    let text = format!("no part of an answer within {} ms", within.as_millis());
    texts.timeout(&text, Retry::Later(None))
}

impl Receiving {
    pub(crate) fn new(
        connection: Connection,
        body: Incoming,
        texts: Texts,
        limits: Limits,
        may_be_silent: bool,
        unfinished_bytes: Arc<AtomicU64>,
    ) -> Self {
        let silent_at = limits.first_byte.max(Instant::now() + limits.idle);
        Self {
            connection,
            body: Some(body),
            wire: Wire::default(),
            texts,
            limits,
            may_be_silent,
            received_bytes: 0,
            unfinished_bytes,
            silent_at,
            over_at: None,
            said: 0,
            is_waiting: true,
            timer: Box::pin(sleep_until(silent_at)),
            end: None,
            is_orderly: false,
        }
    }

    /// Waits for a part, or for the end. Adjacent text that has arrived is one part.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failure>> {
        ready!(self.poll_counted(cx));
        self.is_waiting = false;
        if let Some(part) = self.wire.parts().pop_front() {
            return Poll::Ready(Ok(part));
        }
        let closed = || Err(self.texts.bad("the answer is over"));
        Poll::Ready(self.end.take().unwrap_or_else(closed).map(Part::End))
    }

    /// Whether [`Receiving::poll`] has something to return without the network.
    pub(crate) fn has_more(&self) -> bool {
        self.end.is_some() || self.wire.has_parts()
    }

    /// Waits until the answer has begun, or failed before that.
    pub(crate) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        ready!(self.poll_counted(cx));
        if self.wire.parts().is_empty() && matches!(self.end, Some(Err(_))) {
            let failed = self.end.take().map_or(Ok(()), |end| end.map(|_| ()));
            return Poll::Ready(failed);
        }
        Poll::Ready(Ok(()))
    }

    /// What the server counted so far.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.wire.usage()
    }

    /// Why the model ended its answer.
    pub(crate) fn ended_by(&self) -> Option<Finish> {
        self.wire.ended_by()
    }

    /// The connection for another request, with what is left of this response.
    pub(crate) fn into_connection(self) -> Option<(Connection, Option<Incoming>)> {
        self.is_orderly.then_some((self.connection, self.body))
    }

    fn poll_counted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.poll_filled(cx);
        self.unfinished_bytes.store(self.wire.unfinished_bytes(), Relaxed);
        polled
    }

    fn poll_filled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_waiting {
            // Nobody listened in the meantime.
            let now = Instant::now();
            self.silent_at = self.silent_at.max(now + self.limits.idle);
            self.over_at = self.over_at.map(|at| at.max(now + self.patience()));
            self.is_waiting = true;
        }
        let mut has_more = true;
        for _ in 0..FRAMES {
            // One part may still grow.
            if self.end.is_some() || self.wire.parts().len() > 1 {
                return Poll::Ready(());
            }
            match self.poll_frame(cx) {
                Poll::Ready(frame) => self.take(frame),
                Poll::Pending => {
                    has_more = false;
                    break;
                }
            }
        }
        if self.end.is_some() || !self.wire.parts().is_empty() {
            return Poll::Ready(());
        }
        let mut deadline = self.limits.until.min(self.over_at.unwrap_or(self.silent_at));
        if !self.wire.has_begun() {
            deadline = deadline.min(self.limits.attempt.0);
        }
        self.timer.as_mut().reset(deadline);
        if self.timer.as_mut().poll(cx).is_ready() {
            self.run_out();
            return Poll::Ready(());
        }
        if has_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.body {
            Some(body) => self.connection.poll_frame(body, cx),
            None => Poll::Ready(None),
        }
    }

    fn take(&mut self, frame: Option<hyper::Result<Frame<Bytes>>>) {
        match frame {
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    self.take_bytes(&bytes);
                }
            }
            // Whatever the connection does, the answer is here, unless no reason is its end.
            Some(Err(_)) if self.wire.is_answered() && !self.wire.goes_on() => self.finish(),
            Some(Err(error)) => {
                let text = format!("the connection broke off: {}", chain(&error));
                self.fail(|texts, has_begun| texts.cut_off(&text, has_begun));
            }
            None => {
                self.body = None;
                self.is_orderly = true;
                match self.wire.end() {
                    Ok(()) => self.finish(),
                    Err(problem) => {
                        self.fail(|texts, has_begun| texts.problem(&problem, has_begun))
                    }
                }
            }
        }
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        self.silent_at = Instant::now() + self.limits.idle;
        self.received_bytes += bytes.len();
        if self.received_bytes > self.limits.bytes {
            if self.wire.is_answered() && !self.wire.goes_on() {
                return self.finish();
            }
            let text = format!("the answer has more than {} bytes", self.limits.bytes);
            return self.fail(|texts, _| texts.bad(&text));
        }
        if let Err(problem) = self.wire.push(bytes) {
            return self.fail(|texts, has_begun| texts.problem(&problem, has_begun));
        }
        if self.wire.is_complete() {
            self.is_orderly = true;
            self.finish();
        } else if self.wire.is_answered()
            && (self.over_at.is_none() || self.said != self.wire.said())
        {
            self.said = self.wire.said();
            self.over_at = Some(Instant::now() + self.patience());
        }
    }

    /// How long after the finish reason something may still come.
    fn patience(&self) -> Duration {
        let most = if self.wire.may_go_on() { BETWEEN_REASONS } else { AFTER_REASON };
        most.min(self.limits.idle)
    }

    /// A time is over.
    fn run_out(&mut self) {
        // Where a reason is no end, the pause after it is one, and the deadline is none.
        let is_quiet = self.over_at.is_some_and(|at| at <= self.limits.until);
        if self.wire.is_answered() && (is_quiet || !self.wire.goes_on()) {
            return self.finish();
        }
        if Instant::now() >= self.limits.until {
            return self
                .fail(|texts, _| texts.timeout("the time for the call is over", Retry::Never));
        }
        let (attempt, within) = self.limits.attempt;
        if !self.wire.has_begun() && Instant::now() >= attempt {
            let failure = no_part(&self.texts, within);
            return self.fail(|_, _| failure);
        }
        let text = match self.received_bytes {
            0 => "no answer in time after the head of the response".to_owned(),
            _ => format!(
                "silent for {} ms in the middle of the answer",
                self.limits.idle.as_millis()
            ),
        };
        self.fail(|texts, _| texts.timeout(&text, Retry::Later(None)));
    }

    fn finish(&mut self) {
        match self.wire.finish(self.may_be_silent) {
            Ok(end) => self.end = Some(Ok(end)),
            Err(problem) => self.fail(|texts, has_begun| texts.problem(&problem, has_begun)),
        }
    }

    fn fail(&mut self, failure: impl FnOnce(&Texts, bool) -> Failure) {
        self.end = Some(Err(failure(&self.texts, self.wire.has_begun())));
    }
}
