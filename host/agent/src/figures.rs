//! An agent in numbers.

use bulkhead_memory::AgentReading;
use bulkhead_model::AgentState;

use crate::AgentHandle;

/// What one agent is and holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Where it is in its life.
    pub state: AgentState,
    /// Messages and nudges that wait in its mailbox.
    pub mailbox_messages: usize,
    /// Their bytes.
    pub mailbox_bytes: usize,
    /// Linear memories and tables of its guest, in bytes. 0 when nothing of it lives.
    pub memory_bytes: u64,
    /// The largest `memory_bytes` of this life.
    pub memory_peak_bytes: u64,
    /// The hard limit.
    pub memory_limit_bytes: u64,
}

impl AgentHandle {
    /// Reads them. Waits for nobody and allocates nothing.
    pub fn figures(&self) -> Figures {
        let state = self.board().state();
        let (mailbox_messages, mailbox_bytes) = self.shared.start.mailbox.waiting();
        // The meter keeps the last reading of a store that is gone.
        let usage = self.shared.birth.meter.usage();
        Figures {
            state,
            mailbox_messages,
            mailbox_bytes,
            memory_bytes: if state.is_live() { usage.memory_bytes } else { 0 },
            memory_peak_bytes: usage.memory_peak_bytes,
            memory_limit_bytes: usage.memory_limit_bytes,
        }
    }

    /// Its memory, as samples are taken of it. Waits for nobody and allocates nothing.
    pub fn memory(&self) -> AgentReading<'_> {
        let tag = &self.shared.tag;
        let usage = self.shared.birth.meter.usage();
        // A start that waits or compiles is live and has no store yet.
        let lives = self.is_live() && usage.memory_bytes > 0;
        AgentReading {
            agent_id: &tag.agent_id,
            role: &tag.role,
            incarnation: tag.incarnation,
            used_bytes: lives.then_some(usage.memory_bytes),
            host_bytes: 0,
            peak_bytes: usage.memory_peak_bytes,
            limit_bytes: usage.memory_limit_bytes,
        }
    }
}
