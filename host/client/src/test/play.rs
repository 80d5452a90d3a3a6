//! Playing a script: each step is a message, and what came of it by the time its turns are over.

use std::cell::Cell;
use std::time::Duration;

use bulkhead_api::{EventsPage, MessageAnswer, StartRequest, StopAnswer};
use bulkhead_types::time::millis;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::model::Model;
use super::observed::{End, Observed, Seen, Until};
use super::script::{Script, Step};
use super::verdict::{self, Problem};
use crate::author::fact::Thrown;
use crate::author::start::{self, is_down};
use crate::failure::{Failure, Refusal};
use crate::http::Answer;
use crate::session::{Call, LONG, QUICK, Session, agent_path};

/// Between two looks at the events of an agent whose turn is over.
const POLL: Duration = Duration::from_millis(10);

/// How long the events of a turn may take that is over.
const SETTLED: Duration = Duration::from_secs(5);

/// A script that failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// Which step, from 1.
    pub(super) step: usize,
    pub(super) line: usize,
    /// What was done in it.
    pub(super) doing: Doing,
    /// At least one.
    pub(super) problems: Vec<Problem>,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(super) enum Doing {
    Send(String),
    Restart,
    /// After the last step.
    Stop,
}

/// Plays a script with a new agent, up to the first step that fails. Whatever comes of it the agent is stopped. An error
/// is the host's.
pub(super) async fn play(
    script: &Script,
    agent: StartRequest,
    session: &Session,
    model: &Model,
) -> Result<Option<Failed>, Failure> {
    let player = Player { agent, session, model, after: Cell::new(0) };
    let mut failed = player.steps(&script.steps).await?;
    let last = player.stop_at_end().await?;
    if let (None, Some(step)) = (&failed, script.steps.last()) {
        let (number, line) = (script.steps.len(), step.line);
        failed = Some(Failed { step: number, line, doing: Doing::Stop, problems: last });
    }
    Ok(failed.filter(|failed| !failed.problems.is_empty()))
}

struct Player<'a> {
    /// How it is started.
    agent: StartRequest,
    session: &'a Session,
    model: &'a Model,
    /// The last event that was seen.
    after: Cell<u64>,
}

/// How a turn ended, and what its last event is.
type Ended = (End, Wait);

/// Until when events belong to a step.
enum Wait {
    Now,
    Message(String),
    Exit,
}

impl Player<'_> {
    async fn steps(&self, steps: &[Step]) -> Result<Option<Failed>, Failure> {
        for (index, step) in steps.iter().enumerate() {
            self.model.begin(&step.model);
            let observed = self.step(step, index == 0).await?;
            let problems = verdict::of(step, observed);
            if !problems.is_empty() {
                let doing = step.send.clone().map_or(Doing::Restart, Doing::Send);
                let (step, line) = (index + 1, step.line);
                return Ok(Some(Failed { step, line, doing, problems }));
            }
        }
        Ok(None)
    }

    async fn step(&self, step: &Step, is_first: bool) -> Result<Observed, Failure> {
        let until = Instant::now() + step.deadline;
        let (end, wait) = self.act(step, is_first).await?;
        // A turn that ended in time is in the events a moment later.
        let until = until.max(Instant::now() + SETTLED);
        let seen = match &wait {
            Wait::Now => self.events(Until::Now, until).await?,
            Wait::Message(id) => self.events(Until::TurnsOf(id), until).await?,
            Wait::Exit => self.events(Until::Exit, Instant::now() + QUICK).await?,
        };
        let is_over = match &wait {
            Wait::Message(id) => seen.has(Until::TurnsOf(id)),
            Wait::Now | Wait::Exit => true,
        };
        let end = if is_over { self.or_crash(end, &seen).await? } else { End::Late(step.deadline) };
        Ok(self.observed(end, seen))
    }

    fn observed(&self, end: End, seen: Seen) -> Observed {
        let Seen { emitted: events, rejections, lost: events_lost, .. } = seen;
        Observed { end, events, events_lost, rejections, asked: self.model.end() }
    }

    async fn act(&self, step: &Step, is_first: bool) -> Result<Ended, Failure> {
        if step.restart && !is_first {
            self.stop().await?;
        }
        if (step.restart || is_first)
            && let Some(end) = self.start().await?
        {
            return Ok(end);
        }
        match &step.send {
            None => Ok((End::NoTurn, Wait::Now)),
            Some(text) => self.send(text, step.deadline).await,
        }
    }

    /// Starts the agent. A host that compiles its component is waited for. An end: it does not run.
    async fn start(&self) -> Result<Option<Ended>, Failure> {
        loop {
            match start::start(&self.agent, self.session).await {
                Ok(_) => return Ok(None),
                Err(Failure::Failed(refusal)) if is(&refusal, "still-compiling") => {}
                Err(Failure::Failed(refusal) | Failure::Refused(refusal)) => {
                    return self.refused(refusal).await.map(Some);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Stops the agent, where it runs.
    async fn stop(&self) -> Result<(), Failure> {
        let id = &self.agent.agent_id;
        let call = Call::post(agent_path(id, "stop"), format!("stop of {id}"), Vec::new());
        match self.session.call(call.within(LONG)).await {
            Ok(answer) => self.session.read::<StopAnswer>(&answer).map(drop),
            Err(Failure::Refused(_) | Failure::Failed(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// What is wrong with the end of an agent whose steps were all right.
    async fn stop_at_end(&self) -> Result<Vec<Problem>, Failure> {
        self.model.begin(&[]);
        self.stop().await?;
        let seen = self.events(Until::Now, Instant::now()).await?;
        let end = self.or_crash(End::NoTurn, &seen).await?;
        Ok(verdict::of(&Step::default(), self.observed(end, seen)))
    }

    /// Sends a message. An agent that ended before is started first.
    async fn send(&self, text: &str, deadline: Duration) -> Result<Ended, Failure> {
        match self.say(text, deadline).await {
            Err(Failure::Refused(refusal)) if is_down(&refusal) => match self.start().await? {
                Some(end) => Ok(end),
                None => self.ended(self.say(text, deadline).await, deadline).await,
            },
            answer => self.ended(answer, deadline).await,
        }
    }

    async fn say(&self, text: &str, deadline: Duration) -> Result<Answer, Failure> {
        let id = &self.agent.agent_id;
        let path = agent_path(id, "message") + &format!("?wait={}", millis(deadline));
        let body = json!({ "prompt": text }).to_string().into_bytes();
        let call = Call::post(path, format!("turn of {id}"), body);
        self.session.call(call.within(deadline + QUICK)).await
    }

    async fn ended(
        &self,
        answer: Result<Answer, Failure>,
        deadline: Duration,
    ) -> Result<Ended, Failure> {
        match answer {
            Ok(answer) if answer.status == 202 => Ok((End::Late(deadline), Wait::Now)),
            Ok(answer) => {
                let answer: MessageAnswer = self.session.read(&answer)?;
                let reply = answer.turn.and_then(|turn| turn.reply).unwrap_or_default();
                Ok((End::Reply(reply), Wait::Message(answer.message_id)))
            }
            Err(Failure::Failed(refusal) | Failure::Refused(refusal)) => {
                self.refused(refusal).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// The end that a refusal stands for: of a turn, of the agent, or none because the host does not do it.
    async fn refused(&self, refusal: Box<Refusal>) -> Result<Ended, Failure> {
        let body = &refusal.body;
        let message = body.error.clone();
        match (&body.crash_id, &body.exit_reason, &body.message_id, &body.error_type) {
            (Some(crash_id), reason, ..) => {
                let thrown = self.thrown(crash_id).await?;
                let reason = reason.clone().or_else(|| thrown.reason.clone()).unwrap_or_default();
                Ok((End::Ended { reason, message, thrown: Some(Box::new(thrown)) }, Wait::Exit))
            }
            (None, Some(reason), ..) => {
                Ok((End::Ended { reason: reason.clone(), message, thrown: None }, Wait::Exit))
            }
            (None, None, Some(id), Some(code)) => {
                let end = End::Failed { code: code.clone(), message };
                Ok((end, Wait::Message(id.clone())))
            }
            _ => {
                let words = Failure::Refused(refusal).words();
                Ok((End::Refused(words.unwrap_or_default()), Wait::Now))
            }
        }
    }

    /// An agent that ended without being asked for a turn, as in `shutdown`, crashed as well.
    async fn or_crash(&self, end: End, seen: &Seen) -> Result<End, Failure> {
        match (&seen.crash_id, end) {
            (Some(crash_id), End::Reply(_) | End::Failed { .. } | End::NoTurn) => {
                let thrown = self.thrown(crash_id).await?;
                let reason = thrown.reason.clone().unwrap_or_default();
                let message = thrown.message.clone();
                Ok(End::Ended { reason, message, thrown: Some(Box::new(thrown)) })
            }
            (_, end) => Ok(end),
        }
    }

    async fn thrown(&self, crash_id: &str) -> Result<Thrown, Failure> {
        let call = Call::get(format!("/crashes/{crash_id}"), format!("crash record {crash_id}"));
        self.session.read(&self.session.call(call).await?)
    }

    /// The events since the last time: those that are there, and then those that are waited for.
    async fn events(&self, until: Until<'_>, deadline: Instant) -> Result<Seen, Failure> {
        let id = &self.agent.agent_id;
        let mut seen = Seen::default();
        loop {
            let after = self.after.get();
            let path = agent_path(id, "events") + &format!("?after={after}");
            let answer = self.session.call(Call::get(path, format!("events of {id}"))).await?;
            let page: EventsPage = self.session.read(&answer)?;
            seen.lost |= after > 0 && page.dropped_before.is_some_and(|first| first > after + 1);
            for event in &page.events {
                seen.add(event, id, &self.agent.role);
                self.after.set(event.id);
            }
            if seen.has(until) || Instant::now() >= deadline {
                return Ok(seen);
            }
            sleep(POLL).await;
        }
    }
}

fn is(refusal: &Refusal, kind: &str) -> bool {
    refusal.body.error_type.as_deref() == Some(kind)
}
