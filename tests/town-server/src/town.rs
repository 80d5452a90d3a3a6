//! What the stand-in keeps of a town. A test reads it, and changes it as a control plane would.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::kept::Kept;
use crate::tokens::Tokens;

/// A town.
#[derive(Debug, Clone, Default)]
pub struct Town {
    /// Its tokens.
    pub tokens: Tokens,
    /// The epoch of the newest run that it was called by, and that run. Calls of older ones are refused.
    pub newest_run: Option<(u64, String)>,
    /// The registry as it was posted last, or as a test wants it: entries of `agentId`, `request`, `workdir`,
    /// `env`.
    pub registry: Vec<Value>,
    /// Registries that were accepted.
    pub registry_posts: u64,
    /// Values of environment variables, by agent. What is set here comes with the registry.
    pub env: BTreeMap<String, BTreeMap<String, String>>,
    /// The last heartbeat of each agent.
    pub heartbeats: BTreeMap<String, Value>,
    /// The last heartbeat of the container.
    pub container_heartbeat: Option<Value>,
    /// Comes with every heartbeat's answer when it is there.
    pub drain_nonce: Option<String>,
    /// The nonces of `container-ready`.
    pub ready: Kept<String>,
    /// The bodies of `container-eviction`.
    pub evictions: Kept<Value>,
    /// The bodies of `completed`, with the agent's id.
    pub completed: Kept<(String, Value)>,
    /// The last eviction context of each agent.
    pub contexts: BTreeMap<String, Value>,
    /// The last snapshot of each agent.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Events, as objects of `agent_id`, `event_type`, `data`.
    pub events: Kept<Value>,
    /// How many events came in each accepted call.
    pub event_batches: Kept<usize>,
    /// Arrays of events get 400.
    pub refuses_batches: bool,
    /// Nudges by their ids.
    pub nudges: BTreeMap<String, Nudge>,
    /// What callers did wrong.
    pub problems: Kept<String>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What was taken.
    pub bytes: Bytes,
    /// `X-Snapshot-Taken-At`, milliseconds since 1970.
    pub taken_at_ms: Option<u64>,
    /// `X-Snapshot-Sha256`, in hexadecimal.
    pub sha256: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// A nudge.
#[derive(Debug, Clone)]
pub struct Nudge {
    /// Whom it is for.
    pub agent: String,
    /// What it says.
    pub message: String,
    /// Who sent it.
    pub source: String,
    /// How often it was asked for.
    pub fetched: u32,
    /// How often it was called delivered.
    pub delivered: u32,
}

impl Town {
    /// The ids of the registry.
    pub fn agents(&self) -> Vec<String> {
        let id = |entry: &Value| entry["agentId"].as_str().map(str::to_owned);
        let mut agents: Vec<_> = self.registry.iter().filter_map(id).collect();
        agents.sort();
        agents
    }

    /// Puts an agent into the registry: its start request, which names it.
    pub fn list(&mut self, request: Value) {
        let agent = request["agentId"].clone();
        self.registry.retain(|entry| entry["agentId"] != agent);
        self.registry
            .push(json!({"agentId": agent, "request": request, "workdir": null, "env": []}));
    }

    /// Takes an agent out of the registry.
    pub fn unlist(&mut self, agent: &str) {
        self.registry.retain(|entry| entry["agentId"] != agent);
    }

    /// Sets the value of a variable.
    pub fn know(&mut self, agent: &str, name: &str, value: &str) {
        self.env.entry(agent.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// Leaves a nudge for an agent.
    pub fn nudge(&mut self, id: &str, agent: &str, message: &str) {
        self.nudges.insert(id.to_owned(), Nudge::new(agent, message));
    }

    /// The registry as it is sent: an entry's `env` is a map where values of it are known, else as it is.
    pub(crate) fn known_registry(&self) -> Vec<Value> {
        self.registry.iter().map(|entry| self.with_values(entry)).collect()
    }

    fn with_values(&self, entry: &Value) -> Value {
        let mut entry = entry.clone();
        let known = entry["agentId"].as_str().and_then(|agent| self.env.get(agent));
        if let (Some(known), Some(names)) = (known, entry["env"].as_array()) {
            let value = |name: &Value| {
                let name = name.as_str()?;
                Some((name.to_owned(), Value::from(known.get(name)?.as_str())))
            };
            entry["env"] = names.iter().filter_map(value).collect::<Map<_, _>>().into();
        }
        entry
    }
}

impl Nudge {
    /// One of the town's own.
    pub fn new(agent: &str, message: &str) -> Self {
        let (agent, message) = (agent.to_owned(), message.to_owned());
        Self { agent, message, source: "town".to_owned(), fetched: 0, delivered: 0 }
    }
}

impl Snapshot {
    /// A good one.
    pub fn new(bytes: impl Into<Bytes>, taken_at_ms: u64) -> Self {
        let bytes = bytes.into();
        let sha256 = Some(sha256_hex(&bytes));
        Self { bytes, taken_at_ms: Some(taken_at_ms), sha256, last_modified: None }
    }

    /// One of an old town, which says neither when it was taken nor what its hash is.
    pub fn bare(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), taken_at_ms: None, sha256: None, last_modified: None }
    }
}

/// The SHA-256 of these bytes in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
