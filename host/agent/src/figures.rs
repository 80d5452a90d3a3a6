//! An agent in numbers.

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
        let state = self.board().state();
        let (mailbox_messages, mailbox_bytes) = self.shared.start.mailbox.waiting();
        let usage = self.shared.birth.meter.usage();
        Figures {
            state,
            mailbox_messages,
            mailbox_bytes,
            // The meter keeps the last reading of a store that is gone.
            memory_bytes: if state.is_live() { usage.guest_bytes } else { 0 },
            host_bytes: self.shared.start.account.reading().host.total(),
            memory_peak_bytes: usage.memory_peak_bytes,
            memory_limit_bytes: usage.memory_limit_bytes,
            denied_growths: usage.denied_growths,
        }
    }
}
