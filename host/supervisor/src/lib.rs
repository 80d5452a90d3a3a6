//! All agents. SKELETON of the facade: signatures are settled, bodies come.

use std::sync::Arc;

pub use bulkhead_agent::{Delivery, SendError, StartError, StartFailure, StopError, TurnReport};
use bulkhead_api::{AgentList, AgentView, EventsPage, Health, StartAnswer, StartRequest, StopAnswer};
use bulkhead_model::{AgentId, Body, Sender};

/// The way from an id to its agent. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<()>);

/// A start that led to a running agent.
#[derive(Debug)]
pub struct Started {
    /// The answer.
    pub answer: StartAnswer,
    /// False when a live agent was kept (`ifRunning: "keep"`): the edge answers 200 and not 201.
    pub created: bool,
}

impl Supervisor {
    /// Starts an agent; resolves when it is running.
    pub async fn start(&self, _request: StartRequest) -> Result<Started, StartError> {
        unimplemented!()
    }
    /// Stops an agent; resolves when its incarnation is gone. `by` says who asked.
    pub async fn stop(&self, _id: &AgentId, _by: &str) -> Result<StopAnswer, StopError> {
        unimplemented!()
    }
    /// Puts a message into an agent's mailbox. Does not wait.
    pub fn send(&self, _id: &AgentId, _sender: Sender, _body: Body) -> Result<Delivery, SendError> {
        unimplemented!()
    }
    /// All agents that are known, ended ones included, by id.
    pub fn list(&self) -> AgentList {
        unimplemented!()
    }
    /// One agent.
    pub fn status(&self, _id: &AgentId) -> Option<AgentView> {
        unimplemented!()
    }
    /// An agent's events; empty for an unknown agent, as the original answers.
    pub fn events_after(&self, _id: &AgentId, _after: u64) -> EventsPage {
        unimplemented!()
    }
    /// `GET /health`.
    pub fn health(&self) -> Health {
        unimplemented!()
    }
    /// Whether new starts are taken: boot is through and the container does not drain.
    pub fn is_ready(&self) -> bool {
        unimplemented!()
    }
}
