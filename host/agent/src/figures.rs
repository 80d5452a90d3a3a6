//! An agent in numbers.

use std::sync::Arc;

use bulkhead_account::Account;
use bulkhead_memory::AgentReading;
use bulkhead_runtime::Meter;
use bulkhead_types::AgentState;
use bulkhead_types::event::AgentTag;

use crate::handle::AgentHandle;

/// What one agent is and holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Its state.
    pub state: AgentState,
    /// Messages and nudges that wait in its mailbox.
    pub mailbox_messages: usize,
    /// Their bytes.
    pub mailbox_bytes: usize,
    /// Linear memories and tables of its guest, in bytes. 0 when no incarnation is active.
    pub memory_bytes: u64,
    /// What the host holds for it beside that, in bytes. What is kept of an agent that ended is part of it.
    pub host_bytes: u64,
    /// The largest sum of both in this incarnation, in bytes.
    pub memory_peak_bytes: u64,
    /// The hard limit of the sum, in bytes.
    pub memory_limit_bytes: u64,
    /// Growths of the guest that were denied in this incarnation.
    pub denied_growths: u64,
}

impl AgentHandle {
    /// Reads them. Waits for nobody and allocates nothing.
    pub fn figures(&self) -> Figures {
        let state = self.publisher().state();
        let (mailbox_messages, mailbox_bytes) = self.state.start.mailbox.waiting();
        let usage = self.state.instance_context.meter.usage();
        Figures {
            state,
            mailbox_messages,
            mailbox_bytes,
            // The meter keeps the last reading of a store that is gone.
            memory_bytes: if state.is_live() { usage.guest_bytes } else { 0 },
            host_bytes: self.state.start.account.reading().host.total(),
            memory_peak_bytes: usage.memory_peak_bytes,
            memory_limit_bytes: usage.memory_limit_bytes,
            denied_growths: usage.denied_growths,
        }
    }

    /// The way to its memory, as it is now.
    pub fn memory_probe(&self) -> MemoryProbe {
        let state = &self.state;
        let (meter, account) =
            (Arc::clone(&state.instance_context.meter), Arc::clone(&state.start.account));
        MemoryProbe { tag: state.tag(), meter, account, is_live: self.is_live() }
    }
}

/// The short way to the memory of one incarnation: its meter, and no lock before it. Holds until the
/// incarnation begins or ends: see [`Changes`](crate::Changes).
pub struct MemoryProbe {
    tag: AgentTag,
    meter: Arc<Meter>,
    account: Arc<Account>,
    is_live: bool,
}

impl MemoryProbe {
    /// Reads it. Waits for nobody and allocates nothing.
    pub fn read(&self) -> AgentReading<'_> {
        let reading = AgentReading {
            agent_id: &self.tag.agent_id,
            role: &self.tag.role,
            incarnation: self.tag.incarnation,
            used_bytes: None,
            host_bytes: 0,
            peak_bytes: 0,
            limit_bytes: 0,
        };
        if self.is_live {
            let sums = self.account.sums();
            // A start that waits or compiles is live and has no store yet.
            let used = (sums.guest_bytes > 0).then_some(sums.guest_bytes + sums.host_bytes);
            let (peak_bytes, limit_bytes) = (sums.peak_bytes, sums.limit_bytes);
            let host_bytes = sums.host_bytes;
            return AgentReading {
                used_bytes: used,
                host_bytes,
                peak_bytes,
                limit_bytes,
                ..reading
            };
        }
        // The meter keeps the last reading of a store that is gone.
        let usage = self.meter.usage();
        AgentReading {
            host_bytes: usage.host.total(),
            peak_bytes: usage.memory_peak_bytes,
            limit_bytes: usage.memory_limit_bytes,
            ..reading
        }
    }
}
