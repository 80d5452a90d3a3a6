//! A fault beside a bystander that must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::Client;
use crate::host::CLEAN;
use crate::{Host, HostBuilder, PATIENCE};

/// The bystander's agent id.
const BYSTANDER: &str = "bystander";

/// Between two of its messages: many in the time of a fault, and still room for other tests.
const PAUSE: Duration = Duration::from_millis(2);

/// Answers that the bystander must give after a fault.
const ANSWERS_AFTER: u64 = 5;

/// An echo agent that answers one message after the other on a thread of its own.
pub struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    answered: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Bystander {
    /// Starts the agent and its stream of messages.
    pub fn begin(client: &Client) -> Self {
        client.start(BYSTANDER, "echo");
        let shared = Arc::new(Shared::default());
        let (client, for_thread) = (client.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || for_thread.run(&client));
        let bystander = Self { shared, thread: Some(thread) };
        bystander.wait_for_more();
        bystander
    }

    /// Messages answered so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Acquire)
    }

    /// Waits until a few more messages were answered.
    pub fn wait_for_more(&self) {
        let (until, target) = (Instant::now() + PATIENCE, self.answered() + ANSWERS_AFTER);
        while self.answered() < target {
            self.check();
            assert!(Instant::now() < until, "the bystander does not answer any more");
            std::thread::sleep(PAUSE);
        }
    }

    /// Panics when one of its messages was not answered as it should be.
    pub fn check(&self) {
        if let Some(failure) = self.shared.failure.lock().as_ref() {
            panic!("the bystander was disturbed: {failure}");
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, client: &Client) {
        while !self.over.load(Ordering::Acquire) {
            let body = format!("message {}", self.answered.load(Ordering::Acquire));
            let answer = client.try_send_wait(BYSTANDER, &body);
            let right = answer.as_ref().is_ok_and(|answer| {
                answer.status == 200 && answer.body["reply"].as_str() == Some(&body)
            });
            if !right {
                *self.failure.lock() = Some(format!("{body:?} got {answer:?}"));
                return;
            }
            self.answered.fetch_add(1, Ordering::Release);
            std::thread::sleep(PAUSE);
        }
    }
}

/// A host, a bystander, and what every fault has in common.
pub struct Trial {
    /// Dropped before the host.
    bystander: Bystander,
    host: Host,
}

impl Trial {
    /// Starts a host that has these guests beside `echo`.
    pub fn of(guests: &[&str]) -> Self {
        Self::begin(guests.iter().fold(Host::builder(), |builder, guest| builder.guest(guest)))
    }

    /// Starts a host and its bystander.
    pub fn begin(builder: HostBuilder) -> Self {
        let host = builder.start();
        let bystander = Bystander::begin(host.client());
        Self { bystander, host }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Calls of the control API.
    pub fn client(&self) -> &Client {
        self.host.client()
    }

    /// The bystander.
    pub fn bystander(&self) -> &Bystander {
        &self.bystander
    }

    /// Starts an agent named like its role, sends it a message that ends it, checks everything that is
    /// notified of the end, starts it again, and checks that it answers. Returns the crash record.
    #[track_caller]
    pub fn ends_by(&self, role: &str, message: &str, reason: &str) -> Value {
        let incarnation = self.client().start(role, role).agent.incarnation.0;
        let crash = self.crashes(role, incarnation, message, reason);
        self.starts_again(role, incarnation);
        crash
    }

    /// Sends a running agent a message that ends it. Returns the crash record.
    #[track_caller]
    pub fn crashes(&self, agent: &str, incarnation: u64, message: &str, reason: &str) -> Value {
        let answer = self.client().send_wait(agent, message);
        let answer = answer.expect_error(502, &[]);
        assert_eq!(answer.exit_reason.as_deref(), Some(reason), "{answer:?}");
        let crash = self.reported(agent, incarnation, reason);
        assert_eq!(answer.crash_id.as_deref(), crash["crashId"].as_str(), "{answer:?}");
        assert_eq!(answer.message_id.as_deref(), crash["messageId"].as_str(), "{answer:?}");
        assert_eq!(crash["phase"], "handle", "{crash}");
        crash
    }

    /// Checks status, log and health after an abnormal end. Returns the crash record.
    #[track_caller]
    pub fn reported(&self, agent: &str, incarnation: u64, reason: &str) -> Value {
        let of_this_incarnation = |line: &Value, event: &str| {
            line["event"] == event
                && line["agentId"] == agent
                && line["incarnation"].as_u64() == Some(incarnation)
        };
        let exit = self.host.wait_for_line(&format!("agent.exit of {agent}"), |line| {
            of_this_incarnation(line, "agent.exit")
        });
        let crash = self.host.wait_for_line(&format!("agent.crash of {agent}"), |line| {
            of_this_incarnation(line, "agent.crash")
        });
        assert_eq!(exit["reason"], reason, "{exit}");
        assert_eq!(crash["reason"], reason, "{crash}");
        assert_eq!(exit["crashId"], crash["crashId"], "{exit}");
        for event in ["agent.exit", "agent.crash"] {
            let lines = self.host.events_of(agent, event);
            let count = lines.iter().filter(|line| of_this_incarnation(line, event)).count();
            assert_eq!(count, 1, "{count} lines of {event} for one end");
        }
        check_record(&crash);
        self.check_status(agent, incarnation, reason, &crash);
        self.client().health();
        self.bystander.check();
        crash
    }

    #[track_caller]
    fn check_status(&self, agent: &str, incarnation: u64, reason: &str, crash: &Value) {
        let status = self.client().ended(agent);
        assert_eq!(status.status, "failed", "{status:?}");
        assert_eq!(status.exit_reason.as_deref(), Some(reason), "{status:?}");
        assert_eq!(status.incarnation.0, incarnation, "{status:?}");
        assert!(!status.busy, "{status:?}");
        let exit = status.exit.expect("more about the end");
        assert_eq!(exit.reason, reason, "{exit:?}");
        assert_eq!(exit.crash_id.as_deref(), crash["crashId"].as_str(), "{exit:?}");
        assert_eq!(exit.message, crash["message"], "{exit:?}");
    }

    /// Starts an ended agent again: it must be the next incarnation, and answer.
    #[track_caller]
    pub fn starts_again(&self, role: &str, before: u64) -> u64 {
        let answer = self.client().start(role, role);
        let now = answer.agent.incarnation.0;
        assert_eq!(now, before + 1, "not the next incarnation: {answer:?}");
        assert_eq!(self.client().ask(role, "are you well?"), "are you well?");
        let status = self.client().status(role);
        assert_eq!(status.status, "running", "{status:?}");
        assert!(status.exit_reason.is_none() || status.incarnation.0 == now, "{status:?}");
        now
    }

    /// Waits for a few more answers of the bystander, ends the host and checks the run.
    #[track_caller]
    pub fn finish(self) -> Vec<Value> {
        self.finish_with(CLEAN)
    }

    /// The same with an exit code of the host.
    #[track_caller]
    pub fn finish_with(self, code: i32) -> Vec<Value> {
        self.bystander.wait_for_more();
        self.bystander.check();
        let health = self.client().health();
        assert!(health.agents >= 1, "{health:?}");
        let Self { bystander, host } = self;
        assert!(bystander.answered() >= ANSWERS_AFTER);
        drop(bystander);
        host.finish_with(Signal::TERM, code)
    }
}

/// The incarnation in an answer or a line.
#[track_caller]
pub fn incarnation(of: &Value) -> u64 {
    of["incarnation"].as_u64().unwrap_or_else(|| panic!("no incarnation: {of}"))
}

/// What every crash record holds.
#[track_caller]
fn check_record(crash: &Value) {
    for field in
        ["crashId", "fingerprint", "message", "startedAt", "crashedAt", "role", "component"]
    {
        let text = crash[field].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{field} is missing: {crash}");
    }
    assert_eq!(crash["level"], "error", "{crash}");
    assert_eq!(crash["componentSha256"].as_str().map(str::len), Some(64), "{crash}");
    assert!(crash["resources"]["memoryLimitBytes"].as_u64() > Some(0), "{crash}");
    assert!(crash["activeAgents"].as_u64() >= Some(1), "{crash}");
    assert!(crash["frames"].is_array() && crash["lastLogLines"].is_array(), "{crash}");
    let known = [json!("true"), json!("false"), json!("unknown")];
    assert!(known.contains(&crash["deterministic"]), "{crash}");
}

/// The functions of a record's frames, innermost first.
pub fn functions(crash: &Value) -> Vec<&str> {
    let frames = crash["frames"].as_array().into_iter().flatten();
    frames.filter_map(|frame| frame["function"].as_str()).collect()
}
