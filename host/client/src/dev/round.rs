//! The time of one child: what comes from all sides, and what follows from it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_api::{EventFrame, StartRequest, StreamFrame};
use bulkhead_terminal::words;
use bulkhead_types::{AgentId, Incarnation};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{self, FuturesUnordered, LocalBoxStream};
use futures_util::{FutureExt, StreamExt};
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::events::Emitted;
use super::input::{Input, Typed};
use super::output::Output;
use super::watch::{Change, Owner, POLL, Watch};
use super::{Next, agents};
use crate::author::crash;
use crate::author::fact::{Complaint, Fact, Thrown, Timings};
use crate::author::process::{Process, Said, ended};
use crate::author::project::Project;
use crate::author::start::{self, is_down};
use crate::commands::chat;
use crate::failure::Failure;
use crate::following::{Followed, Following};
use crate::session::Session;
use crate::target;
use crate::waiting::Waiting;

/// A start that takes longer is explained.
const SLOW: Duration = Duration::from_secs(2);

/// How long the events are waited for, should the host not answer.
const PATIENCE: Duration = Duration::from_secs(60);

type Work<'a> = LocalBoxFuture<'a, Result<(), Failure>>;

pub(super) struct Round<'a> {
    config: &'a Path,
    project: &'a Project,
    /// Whom lines are sent to.
    agent: Option<StartRequest>,
    session: Session,
    output: &'a Output,
    /// That one runs, or has failed to.
    is_settled: Cell<bool>,
    /// The child was asked to end.
    is_ending: Cell<bool>,
    /// Components that are ready.
    loaded: RefCell<BTreeSet<String>>,
    /// Agents that are started because of a file.
    edited: RefCell<BTreeMap<AgentId, String>>,
    /// Events of the turn that is shown.
    emitted: RefCell<Emitted>,
    /// The last log line of an agent that was shown: one that repeats itself is shown once.
    last_log: RefCell<String>,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        config: &'a Path,
        project: &'a Project,
        agent: Option<StartRequest>,
        listen: SocketAddr,
        output: &'a Output,
    ) -> Result<Self, Failure> {
        let target = target::own(listen, &project.control).map_err(Failure::Usage)?;
        let (screen, waiting) = (output.screen, Waiting::default());
        let session = Session { target, screen, waiting, timeout: None, json: false };
        Ok(Self {
            config,
            project,
            agent,
            session,
            output,
            is_settled: Cell::new(false),
            is_ending: Cell::new(false),
            loaded: RefCell::default(),
            edited: RefCell::default(),
            emitted: RefCell::default(),
            last_log: RefCell::default(),
        })
    }

    /// Runs until the child ends. What follows then is what it was asked to end for.
    pub(super) async fn run(
        &self,
        process: &mut Process,
        input: &mut Input,
    ) -> Result<Next, Failure> {
        let prompt = self.agent.as_ref().map(|agent| format!("{}> ", agent.agent_id));
        let mut watch = Watch::of_project(self.config, self.project);
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut slow = std::pin::pin!(sleep(SLOW).fuse());
        let mut events = self.follow().fuse();
        let mut turn: Option<Work<'_>> = None;
        let mut starts: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
        let mut next = None;
        self.greet()?;
        loop {
            let is_ready = self.is_settled.get() && turn.is_none() && starts.is_empty();
            // Where nobody is talked to, the end of stdin is the end all the same.
            let may_talk = (is_ready || self.agent.is_none()) && next.is_none();
            tokio::select! {
                said = process.next() => match said? {
                    Said::Log(line) => self.log_line(&line)?,
                    Said::Words(words) => self.output.wrong(&words)?,
                    Said::Ended(status) => return next.ok_or_else(|| ended(status)),
                },
                done = under_way(&mut turn) => {
                    turn = None;
                    self.report(done)?;
                    self.show_emitted()?;
                }
                Some(done) = starts.next() => if next.is_none() { self.report(done)? },
                Some(followed) = events.next() => self.event(followed, turn.is_some())?,
                typed = input.next(prompt.as_deref().unwrap_or_default(), self.output),
                    if may_talk => match typed? {
                    Typed::Line(line) if line.trim().is_empty() => {}
                    Typed::Line(_) if self.agent.is_none() => {
                        self.output.wrong("not sent: no agent is configured to talk to")?;
                    }
                    Typed::Line(line) => turn = Some(self.talk(line).boxed_local()),
                    Typed::Nobody => {}
                    Typed::End => {
                        next = Some(self.end(process, Next::End));
                    }
                },
                () = &mut slow => self.explain_wait()?,
                _ = polls.tick(), if next.is_none() => for change in watch.poll() {
                    match self.react(change) {
                        Some(work) => starts.push(work),
                        None => {
                            let file = self.config.display();
                            self.output.good(&format!("{file} changed: the host starts again"))?;
                            next = Some(self.end(process, Next::Round));
                        }
                    }
                },
            }
        }
    }

    fn end(&self, process: &mut Process, next: Next) -> Next {
        self.is_ending.set(true);
        process.ask_to_end();
        next
    }

    fn greet(&self) -> Result<(), Failure> {
        let url = &self.session.target.url;
        let to_whom = match &self.agent {
            Some(agent) => format!("what you type goes to {}", agent.agent_id),
            None => "no agent is configured to talk to".to_owned(),
        };
        self.output.aside(&format!("{url}/console; {to_whom}; Ctrl-C ends"))?;
        let role = self.agent.as_ref().and_then(|agent| self.project.role(&agent.role));
        match role.filter(|role| !role.has_model) {
            Some(role) => self.output.aside(&format!(
                "{} has no language model: set `models` of [roles.{}] and [models.default]; `bulkhead test` plays scripts with one",
                role.name, role.name
            )),
            None => Ok(()),
        }
    }

    fn explain_wait(&self) -> Result<(), Failure> {
        match &self.agent {
            Some(agent) if !self.is_settled.get() => {
                let role = self.project.role(&agent.role);
                let loaded = self.loaded.borrow();
                let is_loaded = role.is_some_and(|role| loaded.contains(&role.component));
                // From the cache it would have been loaded at once.
                let how = if is_loaded { "," } else { "; what runs it is compiled once," };
                self.output.aside(&format!("{} starts{how} which takes a while", agent.agent_id))
            }
            _ => Ok(()),
        }
    }

    /// The events of all agents. It goes on where it was when something else came first, and ends when the host is gone:
    /// its log says what is wrong.
    fn follow(&self) -> LocalBoxStream<'_, Followed> {
        let path = "/events/stream?deltas=false".to_owned();
        let following =
            Following::new(&self.session, path, "events".to_owned(), None, PATIENCE).patient();
        stream::unfold(following, async |mut following| {
            let followed = following.next().await.ok()?;
            Some((followed, following))
        })
        .boxed_local()
    }

    /// What a change makes necessary. `None`: another child.
    fn react(&self, change: Change) -> Option<Work<'_>> {
        match change.owner {
            Owner::Config => None,
            Owner::Role(role) => Some(self.start_role(role, change.path).boxed_local()),
        }
    }

    /// Starts the agents of a role again, one after the other.
    async fn start_role(&self, role: String, file: PathBuf) -> Result<(), Failure> {
        let talked_to = self.agent.as_ref();
        let shown = file.strip_prefix("./").unwrap_or(&file).display().to_string();
        for agent in agents::of_role(&role, self.project, talked_to, &self.session).await? {
            let id = agent.agent_id.clone();
            self.edited.borrow_mut().insert(id.clone(), shown.clone());
            let started = start::start(&agent, &self.session).await;
            if !matches!(started, Ok(true)) {
                self.edited.borrow_mut().remove(&id);
            }
            match started {
                // A host that ends refuses it, and the next one starts it.
                Err(failure) if !self.is_ending.get() => self.report(Err(failure))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends a line. An agent that does not run is started first.
    async fn talk(&self, line: String) -> Result<(), Failure> {
        let Some(agent) = &self.agent else { return Ok(()) };
        let send = async |line: String| {
            chat::turn(&agent.agent_id, line, &self.session, self.output.begin_turn()).await
        };
        match send(line.clone()).await {
            Err(Failure::Refused(refusal)) if is_down(&refusal) => {
                start::start(agent, &self.session).await?;
                send(line).await
            }
            sent => sent,
        }
    }

    /// Shows a failure, unless the host's log says the same with more words.
    fn report(&self, done: Result<(), Failure>) -> Result<(), Failure> {
        match done {
            Ok(()) => Ok(()),
            Err(Failure::NobodyReads) => Err(Failure::NobodyReads),
            Err(Failure::Failed(refusal)) => match &refusal.body.exit_reason {
                Some(reason) if refusal.body.crash_id.is_none() => {
                    self.output.aside(&format!("the turn was not finished: {reason}"))
                }
                _ => Ok(()),
            },
            Err(failure) => self.output.wrong(&failure.words().unwrap_or_default()),
        }
    }

    fn event(&self, followed: Followed, is_in_turn: bool) -> Result<(), Failure> {
        let Followed::Frame(StreamFrame::Event(EventFrame { agent_id, event, data, .. })) =
            followed
        else {
            return Ok(());
        };
        // Those of the host are in its log.
        let Some(id) = agent_id.filter(|_| !event.starts_with("agent.")) else { return Ok(()) };
        self.emitted.borrow_mut().add(&id, &event, data.get());
        if is_in_turn { Ok(()) } else { self.show_emitted() }
    }

    fn show_emitted(&self) -> Result<(), Failure> {
        let lines = self.emitted.take().into_lines();
        lines.iter().try_for_each(|line| self.output.aside(line))
    }

    /// Shows what the author should know of.
    fn log_line(&self, line: &str) -> Result<(), Failure> {
        let is_ending = self.is_ending.get();
        match Fact::parse(line) {
            Some(Fact::Crash(thrown)) => self.crashed(&thrown),
            Some(Fact::UnhandledRejection(thrown)) => self.rejected(&thrown),
            Some(Fact::SnapshotSetAside { agent_id, reason }) => {
                self.output.wrong(&format!("{agent_id} lost its newest state: {reason}"))
            }
            Some(Fact::SnapshotNotKept { agent_id, message }) => {
                self.output.wrong(&format!("the state of {agent_id} is not saved: {message}"))
            }
            Some(Fact::Turn { agent_id, error: Some(error) }) => {
                self.output.wrong(&format!("{agent_id} failed this turn: {error}"))
            }
            Some(Fact::Log { agent_id, level, message, fields }) => {
                self.logged(&agent_id, &level, &message, &fields)
            }
            Some(_) if is_ending => Ok(()),
            Some(Fact::Start { agent_id, incarnation, timings }) => {
                self.started(&agent_id, incarnation, timings)
            }
            Some(Fact::StartFailed { agent_id, error, error_type }) => {
                self.settle(&agent_id);
                match &*error_type {
                    // It is a crash as well.
                    "guest-crashed" => Ok(()),
                    _ => self.output.wrong(&format!("{agent_id} does not start: {error}")),
                }
            }
            Some(Fact::Exit { agent_id, reason, message, crash_id: None })
                if reason != "superseded" =>
            {
                self.output.aside(&format!("{agent_id} ended ({reason}): {message}"))
            }
            Some(Fact::ComponentLoaded { component, source, duration_ms }) => {
                let took = words::millis(duration_ms);
                let words = format!("compiled {component} in {took}");
                self.loaded.borrow_mut().insert(component);
                if source == "compiled" { self.output.aside(&words) } else { Ok(()) }
            }
            Some(_) => Ok(()),
            None => match Complaint::parse(line).filter(|_| !is_ending) {
                Some(complaint) => self.output.aside(&complaint.words()),
                None => Ok(()),
            },
        }
    }

    fn started(&self, id: &AgentId, incarnation: Incarnation, it: Timings) -> Result<(), Failure> {
        self.settle(id);
        let file = self.edited.borrow_mut().remove(id);
        let why = file.map_or_else(String::new, |file| format!("{file} changed: "));
        let state = if it.restore_us > 0 { "state kept" } else { "new state" };
        let took = words::micros(it.total_us());
        self.output.good(&format!("{why}{id} is incarnation {incarnation}, {state}, {took}"))
    }

    /// Lines may be sent to it, whatever comes of them.
    fn settle(&self, id: &AgentId) {
        if self.agent.as_ref().is_some_and(|agent| agent.agent_id == *id) {
            self.is_settled.set(true);
        }
    }

    fn crashed(&self, thrown: &Thrown) -> Result<(), Failure> {
        self.thrown(thrown, &crash::what(thrown))?;
        let id = &thrown.agent_id;
        let is_talked_to = self.agent.as_ref().is_some_and(|agent| agent.agent_id == *id);
        let or = if is_talked_to { ", or at the next message" } else { "" };
        self.output.aside(&format!("  {id} starts again when its code changes{or}"))
    }

    fn rejected(&self, thrown: &Thrown) -> Result<(), Failure> {
        self.thrown(thrown, crash::REJECTED)
    }

    fn thrown(&self, thrown: &Thrown, what: &str) -> Result<(), Failure> {
        let base = self.project.role(&thrown.role).map(|role| &*role.base);
        self.output.lines(&crash::page(thrown, what, base, self.output.screen))
    }

    fn logged(
        &self,
        id: &AgentId,
        level: &str,
        message: &str,
        fields: &Map<String, Value>,
    ) -> Result<(), Failure> {
        let mut line = format!("{id} {level}: {message}");
        for (name, value) in fields {
            let name = name.strip_prefix("guest.").unwrap_or(name);
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line += &format!(" {name}={value}");
        }
        if *self.last_log.borrow() == line {
            return Ok(());
        }
        self.last_log.replace(line.clone());
        self.output.logged(&line)
    }
}

async fn under_way(work: &mut Option<Work<'_>>) -> Result<(), Failure> {
    match work {
        None => std::future::pending().await,
        Some(work) => work.await,
    }
}
