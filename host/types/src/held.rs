//! What the host holds for an agent beside its linear memories and tables.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of bytes that the host holds for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// Messages and nudges that wait, and the one whose turn it is.
    Mailbox,
    /// Events that are kept for those who follow it.
    Events,
    /// Its log lines that wait for the writer.
    Log,
    /// Buffers of its requests under way.
    Http,
    /// What native programs wrote, until the agent has it.
    Tools,
    /// A snapshot of it on the way to where it is kept.
    Snapshot,
    /// What it has open in the host: files, streams, header fields, bodies that are not sent yet.
    Resources,
    /// What the engine keeps of the instances that its component is made of.
    Instances,
}

impl HostKind {
    /// Every kind, in the order of [`HostKind::index`].
    pub const ALL: [Self; 8] = [
        Self::Mailbox,
        Self::Events,
        Self::Log,
        Self::Http,
        Self::Tools,
        Self::Snapshot,
        Self::Resources,
        Self::Instances,
    ];

    /// Its index in [`HostKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The words for it in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mailbox => "mailbox",
            Self::Events => "events",
            Self::Log => "log",
            Self::Http => "HTTP requests",
            Self::Tools => "output of tools",
            Self::Snapshot => "snapshot",
            Self::Resources => "open resources",
            Self::Instances => "records of its instances",
        }
    }
}

/// Bytes that the host holds for an agent, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostBytes {
    /// Messages and nudges that wait, and the one whose turn it is.
    pub mailbox: u64,
    /// Events that are kept for those who follow it.
    pub events: u64,
    /// Its log lines that wait for the writer.
    pub log: u64,
    /// Buffers of its requests under way, as much as they can become.
    pub http: u64,
    /// What native programs wrote, until the agent has it.
    #[serde(default)]
    pub tools: u64,
    /// A snapshot of it on the way to where it is kept.
    pub snapshot: u64,
    /// What it has open in the host, estimated.
    pub resources: u64,
    /// What the engine keeps of the instances of its component, beyond 64 KiB, estimated.
    #[serde(default)]
    pub instances: u64,
}

impl HostBytes {
    /// Made of what `bytes` says for each kind.
    pub fn of(bytes: impl Fn(HostKind) -> u64) -> Self {
        Self {
            mailbox: bytes(HostKind::Mailbox),
            events: bytes(HostKind::Events),
            log: bytes(HostKind::Log),
            http: bytes(HostKind::Http),
            tools: bytes(HostKind::Tools),
            snapshot: bytes(HostKind::Snapshot),
            resources: bytes(HostKind::Resources),
            instances: bytes(HostKind::Instances),
        }
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        let Self { mailbox, events, log, http, tools, snapshot, resources, instances } = self;
        mailbox + events + log + http + tools + snapshot + resources + instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_part_of_the_total() {
        for kind in HostKind::ALL {
            assert_eq!(HostKind::ALL[kind.index()], kind);
            let bytes = HostBytes::of(|other| u64::from(other == kind));
            assert_eq!(bytes.total(), 1, "{}", kind.as_str());
        }
    }
}
