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
}

impl AgentHandle {
    /// Reads them. Waits for nobody and allocates nothing.
    pub fn figures(&self) -> Figures {
        let state = self.board().state();
        let (mailbox_messages, mailbox_bytes) = self.shared.start.mailbox.waiting();
        // The meter keeps the last reading of a store that is gone.
        let memory_bytes =
            if state.is_live() { self.shared.birth.meter.usage().memory_bytes } else { 0 };
        Figures { state, mailbox_messages, mailbox_bytes, memory_bytes }
    }
}
