//! What was acknowledged to workers, and what must therefore be so after the host was killed.

use std::collections::BTreeMap;

use harness::{Host, Value};
use parking_lot::Mutex;

use crate::report::Report;

/// What is known of an agent from answers alone.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whether it is desired. `None`: a request about that had no answer.
    pub runs: Option<bool>,
    /// The highest number of an incarnation that an answer named.
    pub incarnation: u64,
}

/// All agents, by id.
#[derive(Default)]
pub struct Ledger(Mutex<BTreeMap<String, Known>>);

impl Ledger {
    /// What is known of an agent.
    pub fn of(&self, agent: &str) -> Known {
        self.0.lock().get(agent).cloned().unwrap_or_default()
    }

    /// This is known of an agent from now on.
    pub fn put(&self, agent: &str, known: Known) {
        self.0.lock().insert(agent.to_owned(), known);
    }

    /// All ids.
    pub fn agents(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// Holds what the host shows against what was acknowledged, and learns what it could not know.
    pub fn check(&self, host: &Host, report: &mut Report) {
        let list = host.client().list();
        for (agent, known) in self.0.lock().iter_mut() {
            let shown = list.iter().find(|view| view.agent_id.as_str() == agent);
            let status = shown.map_or("absent", |view| &*view.status);
            let is_there = matches!(status, "running" | "starting" | "backoff" | "stopping");
            match known.runs {
                Some(true) if !is_there => {
                    report.found(format!("{agent} was acknowledged to run and is {status}"));
                }
                Some(false) if is_there => {
                    report.found(format!("{agent} was acknowledged to be stopped and is {status}"));
                }
                _ => report.count("acknowledged facts checked"),
            }
            known.runs = Some(is_there);
            let number = shown.map_or(0, |view| view.incarnation.0);
            if number != 0 && number < known.incarnation {
                let before = known.incarnation;
                report.found(format!("{agent} is incarnation {number} after {before}"));
            }
            known.incarnation = known.incarnation.max(number);
        }
    }

    /// The number of an incarnation that a start was answered with.
    pub fn began(&self, agent: &str, answer: &Value) -> Result<(), String> {
        let number = answer["incarnation"].as_u64().unwrap_or(0);
        let joined = answer["joined"] == true;
        let mut agents = self.0.lock();
        let known = agents.entry(agent.to_owned()).or_default();
        let before = std::mem::replace(&mut known.incarnation, number);
        known.runs = Some(true);
        match joined {
            true if number >= before => Ok(()),
            false if number > before => Ok(()),
            _ => Err(format!("{agent} began as incarnation {number} after {before}: {answer}")),
        }
    }
}
