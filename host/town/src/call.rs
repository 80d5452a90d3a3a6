//! The calls of the town API: what each is called, and whether it may be repeated.

use std::time::Duration;

use bulkhead_api::town_snapshot::ENVELOPE_BYTES;
use bulkhead_types::AgentId;
use bytes::Bytes;
use http::Method;

/// One call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    RegistryGet,
    RegistryPost,
    Heartbeat,
    ContainerHeartbeat,
    ContainerReady,
    ContainerEviction,
    RefreshToken,
    SnapshotGet,
    SnapshotPost,
    AgentEvents,
    PendingNudges,
    NudgeDelivered,
    Completed,
    EvictionContext,
}

/// Which agent a call is about.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) agent_id: AgentId,
    pub(crate) rig_id: Option<String>,
}

/// A call to be made.
pub(crate) struct Request<'a> {
    pub(crate) call: Call,
    /// From the root of the API.
    pub(crate) path: String,
    pub(crate) payload: Payload,
    /// The agent that it is about; else the container.
    pub(crate) about: Option<&'a About>,
    /// The time for all attempts together; else the client's own.
    pub(crate) within: Option<Duration>,
    /// Its silence is the town's, also if it is about an agent.
    pub(crate) finds_out: bool,
}

impl<'a> Request<'a> {
    /// A call about the container, in the usual time.
    pub(crate) fn new(call: Call, path: String, payload: Payload) -> Self {
        Self { call, path, payload, about: None, within: None, finds_out: false }
    }

    /// The same about an agent.
    pub(crate) fn about(self, about: &'a About) -> Self {
        Self { about: Some(about), ..self }
    }

    /// The same, which finds out whether the town is there.
    pub(crate) fn finds_out(self, finds_out: bool) -> Self {
        Self { finds_out, ..self }
    }

    /// The same in this time.
    pub(crate) fn within(self, within: Duration) -> Self {
        Self { within: Some(within), ..self }
    }
}

/// Whether a call goes again when nobody knows if it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It says a state, or asks: twice is once.
    Always,
    /// Only when it cannot have arrived.
    Unsent,
}

impl Call {
    /// All of them, for tables.
    pub(crate) const ALL: [Self; 14] = [
        Self::RegistryGet,
        Self::RegistryPost,
        Self::Heartbeat,
        Self::ContainerHeartbeat,
        Self::ContainerReady,
        Self::ContainerEviction,
        Self::RefreshToken,
        Self::SnapshotGet,
        Self::SnapshotPost,
        Self::AgentEvents,
        Self::PendingNudges,
        Self::NudgeDelivered,
        Self::Completed,
        Self::EvictionContext,
    ];

    /// Its name in lines and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RegistryGet => "registry_get",
            Self::RegistryPost => "registry_post",
            Self::Heartbeat => "heartbeat",
            Self::ContainerHeartbeat => "container_heartbeat",
            Self::ContainerReady => "container_ready",
            Self::ContainerEviction => "container_eviction",
            Self::RefreshToken => "refresh_token",
            Self::SnapshotGet => "snapshot_get",
            Self::SnapshotPost => "snapshot_post",
            Self::AgentEvents => "agent_events",
            Self::PendingNudges => "pending_nudges",
            Self::NudgeDelivered => "nudge_delivered",
            Self::Completed => "completed",
            Self::EvictionContext => "eviction_context",
        }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::RegistryGet | Self::SnapshotGet | Self::PendingNudges => Method::GET,
            _ => Method::POST,
        }
    }

    /// Whether the town need not have it: nothing that it has to know depends on it.
    pub(crate) fn is_optional(self) -> bool {
        match self {
            Self::ContainerHeartbeat
            | Self::SnapshotPost
            | Self::AgentEvents
            | Self::PendingNudges
            | Self::NudgeDelivered
            | Self::EvictionContext => true,
            Self::RegistryGet
            | Self::RegistryPost
            | Self::Heartbeat
            | Self::ContainerReady
            | Self::ContainerEviction
            | Self::RefreshToken
            | Self::SnapshotGet
            | Self::Completed => false,
        }
    }

    /// Whether another token is asked for when it is refused with 401. A town that does not have an optional call may
    /// answer it so as well.
    pub(crate) fn renews(self) -> bool {
        !(self.is_optional() || self == Self::RefreshToken)
    }

    pub(crate) fn repeat(self) -> Repeat {
        match self {
            // The town has a new token after it, and would take the old one no more; events would be there
            // twice.
            Self::RefreshToken | Self::AgentEvents => Repeat::Unsent,
            _ => Repeat::Always,
        }
    }

    /// Largest answer, in bytes.
    pub(crate) fn max_reply_bytes(self) -> usize {
        match self {
            Self::RegistryGet => 32 * 1024 * 1024,
            // The largest state that a role may keep, in its envelope.
            Self::SnapshotGet => 16 * 1024 * 1024 + ENVELOPE_BYTES,
            _ => 1024 * 1024,
        }
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Nothing,
    Json(Bytes),
    Octets {
        bytes: Bytes,
        /// `X-Snapshot-Taken-At`, in milliseconds since 1970.
        taken_at_ms: i64,
        /// `X-Snapshot-Sha256`, in hex.
        sha256: String,
    },
}

impl Payload {
    /// A value of ours as JSON.
    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        // Strings, numbers, lists and maps with string keys: nothing of it can fail.
        Self::Json(serde_json::to_vec(value).unwrap_or_default().into())
    }

    pub(crate) fn bytes(&self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Json(bytes) | Self::Octets { bytes, .. } => bytes.clone(),
        }
    }
}
