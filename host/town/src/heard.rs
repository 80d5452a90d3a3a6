//! What happened in the container that the town has to know, until a loop takes it from here.
//!
//! Everything has a bound, and what finds no room is counted. To leave something here takes a short lock.

use std::collections::{HashSet, VecDeque};

use bulkhead_types::event::AgentTag;
use bulkhead_types::{AgentId, Event, ExitClass};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::client::Client;
use crate::figures::Droppable;

/// Ends of agents that wait to be reported.
const MAX_ENDS: usize = 4096;

/// Agents whose nudges wait to be asked for.
const MAX_IDLE: usize = 4096;

/// Nonces that are remembered, so that each is answered once.
const MAX_NONCES: usize = 64;

/// Longest nonce, in bytes.
const MAX_NONCE_BYTES: usize = 512;

/// An end that may have to be reported to the town.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) agent: AgentTag,
    pub(crate) reason: String,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Heard {
    inner: Mutex<Inner>,
    pub(crate) ended: Notify,
    pub(crate) idle: Notify,
    pub(crate) nonce: Notify,
}

#[derive(Default)]
struct Inner {
    ends: VecDeque<End>,
    idle: VecDeque<AgentId>,
    is_idle: HashSet<AgentId>,
    nonces: VecDeque<String>,
    /// Of them, those that were not answered yet.
    unanswered: VecDeque<String>,
}

impl Heard {
    /// Hears a fact on its way to the log.
    pub(crate) fn hear(&self, event: &Event, client: &Client) {
        match event {
            Event::AgentExit { agent, reason, message, .. } => {
                let is_of_the_agent = match reason.class() {
                    ExitClass::Done | ExitClass::Fault | ExitClass::Halted => true,
                    // What somebody asked for, and what the host or other agents did to it, says nothing of its
                    // work.
                    ExitClass::Asked | ExitClass::Forced | ExitClass::Host | ExitClass::Evicted => {
                        false
                    }
                };
                if !is_of_the_agent || &*agent.role == "mayor" {
                    return;
                }
                let reason = crate::fault::one_line(&format!("{}: {message}", reason.as_str()));
                self.end(End { agent: agent.clone(), reason }, client);
            }
            // Who has just begun waits as well as who is through with a turn.
            Event::AgentStart { agent, .. } | Event::AgentTurn { agent, .. } => {
                self.is_idle(&agent.agent_id, client);
            }
            _ => {}
        }
    }

    /// Leaves an end, and wakes the loop that reports it.
    fn end(&self, end: End, client: &Client) {
        self.end_again(end, client);
        self.ended.notify_one();
    }

    /// Leaves an end that could not be reported yet.
    pub(crate) fn end_again(&self, end: End, client: &Client) {
        let mut inner = self.inner.lock();
        let is_full = inner.ends.len() >= MAX_ENDS;
        if is_full {
            inner.ends.pop_front();
        }
        inner.ends.push_back(end);
        drop(inner);
        if is_full {
            client.dropped(Droppable::Completions, 1);
        }
    }

    fn is_idle(&self, id: &AgentId, client: &Client) {
        let mut inner = self.inner.lock();
        if inner.is_idle.contains(id) {
            return;
        }
        if inner.idle.len() >= MAX_IDLE {
            drop(inner);
            client.dropped(Droppable::Nudges, 1);
            return;
        }
        inner.is_idle.insert(id.clone());
        inner.idle.push_back(id.clone());
        drop(inner);
        self.idle.notify_one();
    }

    /// The town asks to be notified when the container is ready.
    pub(crate) fn nonce(&self, nonce: &str) {
        if nonce.is_empty() || nonce.len() > MAX_NONCE_BYTES {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.nonces.iter().any(|seen| seen == nonce) {
            return;
        }
        if inner.nonces.len() >= MAX_NONCES {
            inner.nonces.pop_front();
        }
        inner.nonces.push_back(nonce.to_owned());
        if inner.unanswered.len() >= MAX_NONCES {
            inner.unanswered.pop_front();
        }
        inner.unanswered.push_back(nonce.to_owned());
        drop(inner);
        self.nonce.notify_one();
    }

    pub(crate) fn take_ends(&self) -> Vec<End> {
        self.inner.lock().ends.drain(..).collect()
    }

    pub(crate) fn take_idle(&self) -> Vec<AgentId> {
        let mut inner = self.inner.lock();
        inner.is_idle.clear();
        inner.idle.drain(..).collect()
    }

    pub(crate) fn take_nonces(&self) -> Vec<String> {
        self.inner.lock().unanswered.drain(..).collect()
    }

    /// How many ends and agents wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.ends.len(), inner.idle.len())
    }
}
