//! What earlier runs left in the database.

use std::collections::HashSet;

use bulkhead_agent::{StartError, StartFailure};
use bulkhead_store::database::{AgentRow, UnreadableAgent};
use bulkhead_types::previous::{Cause, InFlight};
use bulkhead_types::{AgentId, StartPhase, Timestamp, UsageDay, UsageRow};

/// What earlier runs left in the database.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    /// What is known of agents.
    pub agents: Vec<AgentRow>,
    /// Of them, those whose rows came from elsewhere, because this disk had none: they have numbers and histories, and are
    /// started only if somebody else wants them.
    pub from_elsewhere: HashSet<AgentId>,
    /// Agents of which something is there that cannot be read.
    pub unreadable: Vec<UnreadableAgent>,
    /// Why the database could not be read, if it could not: then nothing of this is known.
    pub unread: Option<String>,
    /// Deaths of the host that agents may have caused, oldest first, at most one for each run whose end is reported now.
    pub deaths: Vec<HostDeath>,
    /// Calls of language models, counted.
    pub usage: Vec<UsageRow>,
    /// The days that their budgets are measured by.
    pub usage_days: Vec<UsageDay>,
}

/// A death of the host that an agent may have caused.
#[derive(Debug, Clone, PartialEq)]
pub struct HostDeath {
    /// The run that ended.
    pub run_id: String,
    /// Of what.
    pub cause: Cause,
    /// When its last heartbeat was.
    pub at: Timestamp,
    /// What was at hand.
    pub suspects: Vec<Suspect>,
}

/// Work that was at hand when the host died.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Whose, and in which call.
    pub work: InFlight,
    /// When its incarnation began to run, if it did and that is still known.
    pub began: Option<Timestamp>,
}

impl From<Vec<AgentRow>> for Earlier {
    fn from(agents: Vec<AgentRow>) -> Self {
        Self { agents, ..Self::default() }
    }
}

/// Of an agent whose row in the database says nothing. The next start gives it a new one.
pub(crate) fn unreadable() -> StartError {
    let text = "its row in the database cannot be read; a start takes its place";
    StartError::new(StartPhase::Admission, StartFailure::Host, text)
}
