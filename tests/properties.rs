//! Random sequences of commands against the real host, beside a model of what should come of them.
//!
//! One host serves all cases, each with agents of its own. After each command the answer and the status
//! must be what the model says; at the end of a case the log is checked, and at the end of all that
//! nothing is left behind. A case that fails is made smaller, and its seed goes into
//! `properties.proptest-regressions`, which belongs into the repository: it is tried first from then on.
//!
//! `PROPTEST_CASES=1000` runs more of them.

mod command;
mod model;

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::Barrier;

use bulkhead_api::{AgentView, MessageAnswer, NudgeAnswer, StartAnswer, StopAnswer};
use command::{AGENTS, Body, Case, Command, IfRunning, Spec, Start};
use harness::client::Client;
use harness::incarnations::{all_ended, check_one_at_a_time, check_one_end_each, events_of};
use harness::metrics::{is_empty, wait_for_metrics};
use harness::trial::incarnation;
use harness::{Answer, Host, ModelServer, Value, json, model_server, wait_until};
use model::{Agent, Logged, RESTARTS, Sent, Started, State};
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

/// Cases of an ordinary run: some seconds.
const CASES: u32 = 32;

/// Seeds of cases that failed once.
const REGRESSIONS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/properties.proptest-regressions");

/// A host with a role for each restart policy and each of two backoffs.
fn host(model: &ModelServer) -> Host {
    let builder = Host::builder().guest("trap").guest("polecat").model(model, "");
    let builder = builder.toml("[limits]\nkeep_ended = 1000000");
    let role = |builder: harness::HostBuilder, role: command::Role| {
        let policy = role.name().split('-').next().expect("a word");
        // The wait is random, below three thousand years, or it is none.
        let backoff_ms: u64 = if role.is_quick() { 1 } else { 31_536_000_000 };
        let settings = format!(
            "models = [\"default\"]\nrestart = {policy:?}\nmax_attempts = 1\nrestart_max = {RESTARTS}\n\
             restart_window_ms = 3600000\nrestart_healthy_ms = 3600000\n\
             restart_backoff_ms = {backoff_ms}\nrestart_backoff_max_ms = {backoff_ms}"
        );
        builder.role(role.name(), "trap", &settings)
    };
    command::Role::ALL.into_iter().fold(builder, role).start()
}

#[test]
fn whatever_is_done_every_answer_and_every_state_is_as_the_model_says() {
    let model = model_server();
    let host = host(&model);
    wait_for_metrics(host.client(), "boot is through", |now| {
        now["bulkhead_ready"] == 1.0 && is_empty(now)
    });
    let number = Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        // Some shrinking waits for a fact that does not come.
        max_shrink_time: 120_000,
        ..Config::default()
    });
    let result = runner.run(&command::cases(), |case| {
        number.set(number.get() + 1);
        Run::new(&host, number.get(), &case).run(&case);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}\nits seed is in {REGRESSIONS}");
    }
    wait_for_metrics(host.client(), "nothing is left", is_empty);
    host.finish();
}

/// A case under way.
struct Run<'a> {
    host: &'a Host,
    client: &'a Client,
    ids: [String; AGENTS],
    specs: [[Spec; 2]; AGENTS],
    agents: [Agent; AGENTS],
}

impl<'a> Run<'a> {
    fn new(host: &'a Host, number: u32, case: &Case) -> Self {
        let ids = ["a", "b", "c"].map(|name| format!("case-{number}-{name}"));
        let agents = [(); AGENTS].map(|()| Agent::unknown());
        Self { host, client: host.client(), ids, specs: case.specs, agents }
    }

    fn run(mut self, case: &Case) {
        for command in &case.commands {
            self.obey(command);
            for agent in 0..AGENTS {
                self.check_status(agent, command);
            }
        }
        for agent in 0..AGENTS {
            self.stop(agent);
            self.check_status(agent, &"the last stop");
            self.check_log(agent);
        }
    }

    fn obey(&mut self, command: &Command) {
        match command {
            Command::Start { agent, start } => self.start(*agent, *start),
            Command::Pair { agent, starts } => self.pair(*agent, *starts),
            Command::Stop { agent } => self.stop(*agent),
            Command::Message { agent, body } => self.message(*agent, *body),
            Command::Nudge { agent } => self.nudge(*agent),
        }
    }

    fn spec(&self, agent: usize, start: Start) -> Spec {
        self.specs[agent][usize::from(start.second)]
    }

    fn send_start(&self, agent: usize, start: Start) -> Answer {
        let spec = self.spec(agent, start);
        let more = json!({
            "model": spec.model,
            "component": if spec.works { "polecat" } else { "trap" },
            "ifRunning": start.if_running.name(),
            "force": start.force,
        });
        self.client.start_with(&self.ids[agent], spec.role.name(), more)
    }

    fn start(&mut self, agent: usize, start: Start) {
        let answer = self.send_start(agent, start);
        let spec = self.spec(agent, start);
        let model = &mut self.agents[agent];
        let next = model.incarnation + 1;
        match model.start(spec, start) {
            Started::Again => {
                let new: StartAnswer = answer.read(201);
                assert_eq!((new.agent.incarnation.0, new.joined), (next, false), "{new:?}");
            }
            started @ (Started::Joined | Started::Kept) => {
                let kept: StartAnswer = answer.read(200);
                let expected = (model.incarnation, started == Started::Joined);
                assert_eq!((kept.agent.incarnation.0, kept.joined), expected);
            }
            Started::Quarantined => check_quarantined(&answer, model),
        }
    }

    /// Two starts at the same time. Which comes first is not known: the answers have to fit together, and
    /// the model goes on from them.
    fn pair(&mut self, agent: usize, starts: [Start; 2]) {
        if !self.agents[agent].waiting.is_empty() || self.agents[agent].nudges > 0 {
            // Which incarnation it would be that works on the mail is not known either.
            self.stop(agent);
        }
        let barrier = Barrier::new(2);
        let answers = std::thread::scope(|scope| {
            let calls = starts.map(|start| {
                let (this, barrier) = (&*self, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    this.send_start(agent, start)
                })
            });
            calls.map(|call| call.join().expect("a caller"))
        });
        let specs = starts.map(|start| self.spec(agent, start));
        let status = self.client.status(&self.ids[agent]);
        self.fit(agent, starts, specs, &answers, &status);
    }

    fn fit(
        &mut self,
        agent: usize,
        starts: [Start; 2],
        specs: [Spec; 2],
        answers: &[Answer; 2],
        status: &AgentView,
    ) {
        let model = &mut self.agents[agent];
        let shown = || format!("{model:?} {starts:?} {specs:?} {answers:?} {status:?}");
        let fresh = [0, 1].map(|n| model.is_fresh(specs[n], starts[n]));
        let refused = |answer: &Answer| answer.body["error_type"] == "quarantined";
        for (n, answer) in answers.iter().enumerate() {
            let other = &answers[1 - n];
            let same = specs[0] == specs[1];
            let fits = match (answer.status, answer.body["error_type"].as_str()) {
                (200, _) if answer.body["joined"] == true => {
                    let of_other = same && answer.body["incarnation"] == other.body["incarnation"];
                    let was_there = model.spec == Some(specs[n]);
                    of_other || was_there && incarnation(&answer.body) == model.incarnation
                }
                (200, _) => starts[n].if_running == IfRunning::Keep,
                (201, _) => true,
                (409, Some("quarantined")) => model.state == State::Quarantined && !fresh[n],
                (409, Some("superseded")) => !same && other.status < 300,
                _ => false,
            };
            assert!(fits, "start {n} got {}: {}", answer.text, shown());
        }
        if answers.iter().all(refused) {
            return;
        }
        let last = answers.iter().filter(|answer| answer.status < 300);
        let last = last.map(|answer| incarnation(&answer.body)).max();
        let last = last.unwrap_or_else(|| panic!("nobody was started: {}", shown()));
        let was_quarantined = model.state == State::Quarantined;
        let attempts = u64::from(status.restart.attempts_in_window);
        let old = attempts == model.attempts && !was_quarantined;
        assert!(old || attempts == 0 && fresh.contains(&true), "{}", shown());
        let began = (0..2).find(|n| {
            let body = &answers[*n].body;
            answers[*n].status == 201 && body["joined"] != true && incarnation(body) == last
        });
        match began {
            Some(n) => {
                let most = model.incarnation + 2;
                assert!((model.incarnation + 1..=most).contains(&last), "{}", shown());
                model.take_over(specs[n], last);
            }
            None => assert_eq!(last, model.incarnation, "both were kept: {}", shown()),
        }
        model.attempts = attempts;
    }

    fn stop(&mut self, agent: usize) {
        let answer = self.client.stop(&self.ids[agent]);
        match self.agents[agent].stop() {
            Some(reason) => assert_eq!(answer.read::<StopAnswer>(200).exit_reason, reason),
            None => drop(answer.expect_error(404, &["no-such-agent"])),
        }
    }

    fn message(&mut self, agent: usize, body: Body) {
        let (id, model) = (&self.ids[agent], &mut self.agents[agent]);
        let answer = match model.state {
            // Its turn may be far away.
            State::Backoff => self.client.send(id, body.text()),
            _ => self.client.send_wait(id, body.text()),
        };
        match model.message(body) {
            Sent::Answered => assert_eq!(answer.reply(), body.text()),
            Sent::Done => assert_eq!(answer.turn().outcome, "done"),
            Sent::Waits => assert!(answer.read::<MessageAnswer>(200).sent),
            Sent::Crashed => {
                let body = answer.expect_error(502, &[]);
                assert_eq!(body.exit_reason.as_deref(), Some("trap"), "{body:?}");
                assert!(body.crash_id.is_some(), "{body:?}");
            }
            Sent::NotRunning => drop(answer.expect_error(409, &["not-running"])),
            Sent::Nobody => drop(answer.expect_error(404, &["no-such-agent"])),
        }
    }

    fn nudge(&mut self, agent: usize) {
        let answer = self.client.nudge(&self.ids[agent], "hint", Body::Hello.text());
        match self.agents[agent].nudge() {
            Some(true) => assert!(answer.read::<NudgeAnswer>(200).queued),
            Some(false) => drop(answer.expect_error(409, &["not-running"])),
            None => drop(answer.expect_error(404, &["no-such-agent"])),
        }
    }

    /// The status comes to what the model says. What a command began may still go on: a restart that is
    /// due, mail that is worked off, an agent that said that it is done.
    fn check_status(&self, agent: usize, after: &dyn Debug) {
        let (id, model) = (&self.ids[agent], &self.agents[agent]);
        if model.state == State::Unknown {
            self.client.get(&format!("/agents/{id}/status")).expect_error(404, &["no-such-agent"]);
            return;
        }
        let expected = expected(model);
        let what = || format!("{id} comes to {expected} after {after:?}");
        let last = Shown(Cell::new(Value::Null));
        wait_until(&what(), || {
            let status = seen(&self.client.status(id));
            let is_right = status == expected;
            last.0.set(status);
            is_right
        });
    }

    fn check_log(&self, agent: usize) {
        let (id, model) = (&self.ids[agent], &self.agents[agent]);
        let lines = Cell::new(Vec::new());
        // The writer is a moment behind the facts.
        wait_until(&format!("the log of {id} is {:?}", model.logged), || {
            let now = self.host.lines_of(id);
            let is_whole =
                all_ended(&now, id, model.incarnation) && logged(&now, id) == model.logged;
            lines.set(now);
            is_whole
        });
        let lines = lines.take();
        check_one_at_a_time(&lines, id);
        check_one_end_each(&lines, id, model.incarnation);
    }
}

#[track_caller]
fn check_quarantined(answer: &Answer, model: &Agent) {
    let body = answer.expect_error(409, &["quarantined"]);
    assert_eq!(body.error_type.as_deref(), Some("quarantined"), "{body:?}");
    assert_eq!(body.history.len() as u64, model.attempts, "{body:?}");
}

/// What the status should show of an agent.
fn expected(model: &Agent) -> Value {
    let spec = model.spec.expect("a known agent has one");
    json!({
        "status": model.state.name(),
        "busy": false,
        "incarnation": model.incarnation,
        "role": spec.role.name(),
        "model": spec.model,
        "exitReason": model.exit_reason,
        "mailboxDepth": model.waiting.len(),
        "nudges": model.nudges,
        "attemptsInWindow": model.attempts,
        "quarantine": model.state == State::Quarantined,
        "nextRestartAt": model.state == State::Backoff,
    })
}

/// The same of what it does show.
fn seen(status: &AgentView) -> Value {
    json!({
        "status": status.status,
        "busy": status.busy,
        "incarnation": status.incarnation,
        "role": status.role,
        "model": status.model,
        "exitReason": status.exit_reason,
        "mailboxDepth": status.mailbox_depth,
        "nudges": status.nudges,
        "attemptsInWindow": status.restart.attempts_in_window,
        "quarantine": status.restart.quarantine.is_some(),
        "nextRestartAt": status.restart.next_restart_at.is_some(),
    })
}

/// The last status of a wait. A wait that fails shows it.
struct Shown(Cell<Value>);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last status: {}", self.0.take());
        }
    }
}

fn logged(lines: &[Value], id: &str) -> Logged {
    let count = |event| events_of(lines, id, event).count();
    Logged {
        crashes: count("agent.crash"),
        scheduled: count("agent.restart_scheduled"),
        cancelled: count("agent.restart_cancelled"),
        quarantined: count("agent.quarantined"),
    }
}
