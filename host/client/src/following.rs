//! Following a stream of events: opened again where it broke off.
//!
//! ```text
//!  bytes ─▶ Lines ─▶ EventStream ─▶ Following ─▶ a command
//!           data of   StreamFrame    goes on after the last event when the host
//!           a frame                  went away, for as long as a caller waits
//! ```

use std::time::Duration;

use bulkhead_api::StreamFrame;
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::session::{Call, Session};
use crate::stream::EventStream;

/// Between two tries to open a stream.
pub(crate) const AGAIN: Duration = Duration::from_millis(500);

/// What a follower is given.
#[derive(Debug)]
pub(crate) enum Followed {
    Frame(StreamFrame),
    /// The host went away, and is waited for. Said once.
    Away(Failure),
    /// It answers again.
    Back,
}

/// Follows a stream of events over restarts of the host: each event comes once, because the numbers of events rise over
/// all of its runs.
pub(crate) struct Following<'a> {
    session: &'a Session,
    /// Without `after`.
    path: String,
    asked: String,
    /// The last event that came, or the one to begin after.
    after: Option<u64>,
    /// How long a host that went away is waited for.
    patience: Duration,
    open: Option<EventStream>,
    /// Whether this is not the first try.
    tried: bool,
    /// Whether the host ever answered: one that never did is not waited for.
    answered: bool,
    away_since: Option<Instant>,
}

impl<'a> Following<'a> {
    /// Of a route with a query. `after`: the event to begin after, else the next one comes first.
    pub(crate) fn new(
        session: &'a Session,
        path: String,
        asked: String,
        after: Option<u64>,
        patience: Duration,
    ) -> Self {
        let (open, tried, answered, away_since) = (None, false, false, None);
        Self { session, path, asked, after, patience, open, tried, answered, away_since }
    }

    /// Waits also for a host that has not answered yet.
    pub(crate) fn patient(mut self) -> Self {
        self.answered = true;
        self
    }

    /// What comes next. An agent that does not exist, or not yet, is waited for. Fails when the host refuses the stream,
    /// or is away for too long. Cancelled, it loses nothing but the time it waited.
    pub(crate) async fn next(&mut self) -> Result<Followed, Failure> {
        loop {
            let Some(stream) = &mut self.open else {
                if let Some(followed) = self.connect().await? {
                    return Ok(followed);
                }
                continue;
            };
            match stream.next().await {
                Ok(Some(frame)) => {
                    if let StreamFrame::Event(event) = &frame {
                        self.after = Some(event.id);
                    }
                    return Ok(Followed::Frame(frame));
                }
                // It ends with the host, or with an agent that is forgotten.
                Ok(None) => self.open = None,
                Err(failure) => {
                    self.open = None;
                    if let Some(away) = self.away(failure)? {
                        return Ok(away);
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Option<Followed>, Failure> {
        if std::mem::replace(&mut self.tried, true) {
            sleep(AGAIN).await;
        }
        let call = Call::get(self.path.clone(), self.asked.clone());
        let opened = self.session.open(call, self.after).await;
        let is_there = match opened {
            Ok(stream) => {
                self.open = Some(stream);
                true
            }
            Err(Failure::Refused(refusal)) if refusal.status == 404 => true,
            Err(Failure::Refused(refusal)) if refusal.is_early() => {
                self.answered = true;
                return self.away(Failure::Refused(refusal));
            }
            Err(failure) if self.answered && is_away(&failure) => return self.away(failure),
            Err(failure) => return Err(failure),
        };
        self.answered |= is_there;
        Ok(self.away_since.take().map(|_| Followed::Back))
    }

    fn away(&mut self, failure: Failure) -> Result<Option<Followed>, Failure> {
        match self.away_since {
            None => {
                self.away_since = Some(Instant::now());
                Ok(Some(Followed::Away(failure)))
            }
            Some(since) if since.elapsed() >= self.patience => Err(failure),
            Some(_) => Ok(None),
        }
    }
}

/// Whether the host is not there, and may yet be.
pub(crate) fn is_away(failure: &Failure) -> bool {
    match failure {
        Failure::NoAnswer(_) => true,
        Failure::Refused(refusal) => refusal.status == 503,
        _ => false,
    }
}
