//! Who works: each worker starts, stops, messages and crashes agents of its own, one after the other.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::{Answer, json};
use hyper::Method;
use parking_lot::Mutex;

use crate::ledger::{Known, Ledger};
use crate::report::Report;

/// Workers beside each other.
pub const WORKERS: usize = 4;

/// Agents of each.
const AGENTS: usize = 4;

/// A pause of at most this long between two calls, so that the host is busy and not full.
const PAUSE: Duration = Duration::from_millis(4);

/// Answers of crashes that are searched for again later.
const REMEMBERED: usize = 64;

/// The role of an agent, by its index among those of its worker.
const ROLES: [&str; AGENTS] = ["crasher", "keeper", "leaky", "one-off"];

/// What workers share.
pub struct Work<'a> {
    /// What was acknowledged.
    pub ledger: &'a Ledger,
    /// The host may go away in the middle of a call.
    pub may_lose_calls: &'a AtomicBool,
    /// The host may answer that it has no room (503) or no connection to give.
    pub may_be_refused: &'a AtomicBool,
    /// The round is over.
    pub over: &'a AtomicBool,
    /// What was wrong, and counted.
    pub report: &'a Mutex<Report>,
    /// Crash records that answers named, and when.
    pub crashes: &'a Mutex<Vec<(Instant, String)>>,
}

impl Work<'_> {
    /// Works until the round is over. The id of each agent is that of the worker and an index.
    pub fn run(&self, client: &Client, worker: usize, mut dice: fastrand::Rng) {
        while !self.over.load(Relaxed) {
            let place = dice.usize(0..AGENTS);
            let agent = format!("w{worker}-{place}");
            self.act(client, &agent, ROLES[place], &mut dice);
            std::thread::sleep(PAUSE.mul_f64(dice.f64()));
        }
    }

    fn act(&self, client: &Client, agent: &str, role: &str, dice: &mut fastrand::Rng) {
        let known = self.ledger.of(agent);
        match (known.runs, dice.u8(0..10)) {
            (Some(true), 0..2) => self.stop(client, agent, known),
            (Some(true), 2) => self.start(client, agent, role, known, "join"),
            (Some(true), 3) => self.start(client, agent, role, known, "restart"),
            (Some(true), _) => {
                let text = match (role, dice.u8(0..4)) {
                    ("crasher", 0) => "panic",
                    ("leaky", 0) => "leak 40000",
                    ("one-off", 0) => "done",
                    _ => "hello",
                };
                self.send(client, agent, known, text);
            }
            _ => self.start(client, agent, role, known, "join"),
        }
    }

    fn start(&self, client: &Client, agent: &str, role: &str, known: Known, if_running: &str) {
        self.ledger.put(agent, Known { runs: None, ..known });
        let body = json!({"agentId": agent, "role": role, "ifRunning": if_running});
        match self.call(client, "/agents/start", &body.to_string(), "starts") {
            Some(answer) if matches!(answer.status, 200 | 201) => {
                if let Err(wrong) = self.ledger.began(agent, &answer.body) {
                    self.found(wrong);
                }
            }
            Some(answer) if answer.status == 503 && self.may_be_refused.load(Relaxed) => {}
            Some(answer) => self.found(format!("start of {agent} was refused: {}", answer.text)),
            None => {}
        }
    }

    fn stop(&self, client: &Client, agent: &str, known: Known) {
        self.ledger.put(agent, Known { runs: None, ..known.clone() });
        match self.call(client, &format!("/agents/{agent}/stop"), "{}", "stops") {
            Some(answer) if answer.status == 200 => {
                self.ledger.put(agent, Known { runs: Some(false), ..known });
            }
            Some(answer) if answer.status == 503 && self.may_be_refused.load(Relaxed) => {}
            Some(answer) => self.found(format!("stop of {agent} was refused: {}", answer.text)),
            None => {}
        }
    }

    fn send(&self, client: &Client, agent: &str, known: Known, text: &str) {
        if text == "done" {
            // It ends by itself, and nobody is notified.
            self.ledger.put(agent, Known { runs: None, ..known });
        }
        let path = format!("/agents/{agent}/message?wait=50000");
        let body = json!({"prompt": text}).to_string();
        let Some(answer) = self.call(client, &path, &body, "messages") else { return };
        match (text, answer.status) {
            ("hello", 200) if answer.body["reply"] == "hello" => {}
            ("done", 200) => {}
            // A drain that came first ended the agent before the turn.
            (_, 502) if self.may_lose_calls.load(Relaxed) && was_drained(&answer) => {}
            ("panic" | "leak 40000", 502) => self.remember_crashes(&answer),
            // A process that went away took the turn with it, or a drain refused it.
            (_, 404 | 409 | 502 | 503) if self.may_lose_calls.load(Relaxed) => {}
            (_, 503) if self.may_be_refused.load(Relaxed) => {}
            _ => self.found(format!("{text:?} to {agent}: {} {}", answer.status, answer.text)),
        }
    }

    fn remember_crashes(&self, answer: &Answer) {
        let one = answer.body["crashId"].as_str();
        let many = answer.body["crashIds"].as_array();
        let many = many.into_iter().flatten().filter_map(|id| id.as_str());
        let mut crashes = self.crashes.lock();
        let before = crashes.len();
        let now = Instant::now();
        crashes.extend(one.into_iter().chain(many).map(|id| (now, id.to_owned())));
        if crashes.len() == before {
            drop(crashes);
            return self.found(format!("a crash was answered without its record: {}", answer.text));
        }
        let excess = crashes.len().saturating_sub(REMEMBERED);
        crashes.drain(..excess);
    }

    /// The answer. None where the host went away, which is a finding unless it may.
    fn call(&self, client: &Client, path: &str, body: &str, what: &str) -> Option<Answer> {
        let began = Instant::now();
        let answered = client.try_request(Method::POST, path, body.to_owned());
        match answered {
            Ok(answer) => {
                let mut report = self.report.lock();
                report.count(&format!("{what} answered"));
                Some(answer)
            }
            Err(_) if self.may_lose_calls.load(Relaxed) => {
                // The next host listens at the same address; a call to nobody is refused at once.
                std::thread::sleep(PAUSE);
                None
            }
            Err(_)
                if self.may_be_refused.load(Relaxed)
                    && began.elapsed() < Duration::from_secs(5) =>
            {
                None
            }
            Err(error) => {
                self.found(format!(
                    "POST {path} had no answer after {:?}: {error}",
                    began.elapsed()
                ));
                None
            }
        }
    }

    fn found(&self, what: String) {
        self.report.lock().found(what);
    }
}

/// Whether the agent was asked to end, and did not crash.
fn was_drained(answer: &Answer) -> bool {
    answer.body["exitReason"] == "drained"
}
