//! What a guest reaches through its host interface, as its agent sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bulkhead_events::{Ring, SharedSink};
use bulkhead_model::event::AgentTag;
use bulkhead_model::{AgentId, Body, Event, Level, Sender};
use bulkhead_runtime::{Nudge, Port, PortError};
use serde_json::value::RawValue;

use crate::board::Board;
use crate::refusal::SendError;

/// The other agents, as a guest may reach them. The supervisor implements it.
pub trait Peers: Send + Sync + 'static {
    /// Puts a message into an agent's mailbox and returns its id. Does not wait.
    fn send(&self, to: &AgentId, sender: Sender, body: Body) -> Result<String, SendError>;
}

/// Events and messages that an agent may send a second, with a burst of ten times as many.
const SENDS_PER_SECOND: f64 = 100.0;
const SEND_BURST: f64 = 10.0 * SENDS_PER_SECOND;

pub(crate) struct AgentPort {
    tag: AgentTag,
    board: Arc<Board>,
    ring: Arc<Ring>,
    sink: SharedSink,
    peers: Arc<dyn Peers>,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl AgentPort {
    pub(crate) fn new(
        tag: AgentTag,
        board: Arc<Board>,
        ring: Arc<Ring>,
        sink: SharedSink,
        peers: Arc<dyn Peers>,
    ) -> Self {
        let bucket = Mutex::new(Bucket { tokens: SEND_BURST, filled_at: Instant::now() });
        Self { tag, board, ring, sink, peers, bucket }
    }

    fn take_token(&self) -> Result<(), PortError> {
        let mut bucket = self.bucket.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        let elapsed = now.duration_since(bucket.filled_at).as_secs_f64();
        bucket.filled_at = now;
        bucket.tokens = (bucket.tokens + elapsed * SENDS_PER_SECOND).min(SEND_BURST);
        if bucket.tokens < 1.0 {
            let wait_ms = (1.0 - bucket.tokens) / SENDS_PER_SECOND * 1000.0;
            return Err(PortError::RateLimited(wait_ms.ceil() as u64));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

impl Port for AgentPort {
    fn emit(&self, name: &str, data: Box<RawValue>) -> Result<(), PortError> {
        self.take_token()?;
        self.board.touch();
        self.ring.push(name, data);
        Ok(())
    }

    fn send(&self, agent_id: &str, body: Body) -> Result<String, PortError> {
        self.take_token()?;
        let to = AgentId::parse(agent_id).map_err(|error| PortError::Invalid(error.to_string()))?;
        let sender = Sender::Agent(self.tag.agent_id.clone());
        self.peers.send(&to, sender, body).map_err(|error| match error {
            SendError::NoSuchAgent(id) => PortError::NotFound(id.to_string()),
            refused => PortError::Unavailable(refused.to_string()),
        })
    }

    fn set_active_tools(&self, tools: Vec<String>) {
        self.board.set_active_tools(tools);
    }

    fn nudges(&self) -> Vec<Nudge> {
        // Nudges come with the town API; until then nobody sends one.
        Vec::new()
    }

    fn log_line(
        &self,
        level: Level,
        stream: &'static str,
        message: String,
        fields: BTreeMap<String, String>,
        dropped: u64,
    ) {
        let agent = self.tag.clone();
        self.sink.record(Event::AgentLog { agent, level, stream, message, fields, dropped });
    }

    fn memory_soft_limit(&self, used_bytes: u64, limit_bytes: u64) {
        let agent = self.tag.clone();
        self.sink.record(Event::MemorySoftLimit { agent, used_bytes, limit_bytes });
    }
}
