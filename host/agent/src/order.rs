//! What a start asks for, and the slot that it asks for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_account::Account;
use bulkhead_feed::{Ring, RingLimits};
use bulkhead_store::database::Private;
use bulkhead_telemetry::TraceContext;
use bulkhead_types::{AgentId, AgentSpec, IfRunning};
use tokio::sync::OwnedSemaphorePermit;

use crate::container::Container;
use crate::engine::Code;
use crate::handle::AgentHandle;
use crate::left_mail::LeftMail;
use crate::probation::Probation;
use crate::settings::SettingsChange;
use crate::slot::Slot;

/// One agent id's slot; its permits are those of the container.
pub(crate) type AgentSlot = Slot<AgentHandle, OwnedSemaphorePermit>;

/// What all starts of one agent share.
#[derive(Clone)]
pub(crate) struct AgentScope {
    /// Its events.
    pub ring: Arc<Ring>,
    /// What it holds.
    pub account: Arc<Account>,
    /// Which lane its tasks are on: a start costs the host as much as a restart does, no matter who asks for it.
    pub probation: Arc<Probation>,
    /// What waits for its next start.
    pub left_mail: Arc<LeftMail>,
}

impl AgentScope {
    /// Of an agent that nothing is known of but its events of earlier runs.
    pub(crate) fn new(id: &AgentId, container: &Container) -> Self {
        let account = Arc::new(Account::default());
        let ring = Ring::new(&container.feed, id.clone(), RingLimits::default(), &account);
        let probation = Arc::new(Probation::new(container.engine_facts.bucket));
        Self { ring: Arc::new(ring), account, probation, left_mail: Arc::default() }
    }
}

/// What a start asks for.
pub struct StartOrder {
    /// What the agent is asked to be.
    pub spec: Arc<AgentSpec>,
    /// What it is made from.
    pub code: Code,
    /// A directory that becomes its `/workspace`.
    pub workspace: Option<PathBuf>,
    /// What becomes of an incarnation that is up.
    pub if_running: IfRunning,
    /// Also out of quarantine.
    pub force: bool,
    /// What to write down of it, so that a later run of the host can start it again.
    pub record: Private,
    /// What was changed since it was asked for.
    pub settings: Option<SettingsChange>,
    /// It is desired, no matter who asks: a start that fails shows, and is made again as its
    /// restart policy says.
    pub stays: bool,
    /// It was there in an earlier run of the host: what happened before counts, and the start that came first in this
    /// run stays.
    pub resumes: bool,
    /// When the start has to be through.
    pub deadline: Instant,
    /// How long it has. Its restarts have what the spec says.
    pub patience: Duration,
    /// Names the prompt's message.
    pub prompt_message_id: String,
    /// The span that asked for it, for the prompt's turn.
    pub trace: Option<TraceContext>,
}
