//! What a start makes its incarnations from.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_log::Budget;
use bulkhead_runtime::{InstanceContext, Logs};
use bulkhead_telemetry::{CurrentTurn, TraceContext};
use bulkhead_types::Incarnation;
use parking_lot::Mutex;

use super::delivery::First;
use crate::container::Container;
use crate::credentials::Credentials;
use crate::engine::Code;
use crate::handle::AgentHandle;
use crate::incarnation::{IncarnationState, StartContext};
use crate::mailbox::Mailbox;
use crate::model_use::ModelUse;
use crate::order::{AgentScope, AgentSlot, StartOrder};
use crate::port::AgentPort;
use crate::settings::LiveSettings;
use crate::slot::RestartIntent;
use crate::state_publisher::StatePublisher;
use crate::upgrade::Upgrade;

/// A start: what its incarnations are made from.
pub(crate) struct StartTask {
    pub start: Arc<StartContext>,
    pub slot: Arc<AgentSlot>,
    pub code: Code,
    pub workspace: Option<PathBuf>,
    /// Shared by all incarnations: an agent that dies in a loop cannot flood the log.
    pub log_budget: Arc<Mutex<Budget>>,
    /// The host is to have it there: a start that fails shows, and is made again.
    pub stays: bool,
    /// How long the first of its incarnations has to start.
    pub patience: Duration,
    /// What it wants of the slot when it is made again.
    pub restart_intent: RestartIntent,
    pub prompt_message_id: String,
    /// The span that asked for it.
    pub trace: Option<TraceContext>,
    /// It goes on with what an earlier run of the host began.
    pub resumes: bool,
    /// What it begins with.
    pub(super) first: Mutex<First>,
}

impl StartTask {
    pub(crate) fn new(
        order: StartOrder,
        scope: &AgentScope,
        slot: &Arc<AgentSlot>,
        container: &Arc<Container>,
    ) -> Self {
        let AgentScope { ring, account, probation, left_mail } = scope;
        let StartOrder { spec, code, workspace, prompt_message_id, record, .. } = order;
        let (changed, resumes, stays) = (order.settings, order.resumes, order.stays);
        let (patience, trace) = (order.patience, order.trace);
        let restart_intent = RestartIntent { force: order.force, resumes };
        let limits = &spec.limits;
        let log_budget = Arc::new(Mutex::new(Logs::budget(limits.log_lines_per_second)));
        let start = Arc::new(StartContext {
            mailbox: Mailbox::new(
                limits.mailbox_messages,
                limits.mailbox_bytes,
                Arc::clone(account),
            ),
            journal: OnceLock::new(),
            adopted: OnceLock::new(),
            left_mail: Arc::clone(left_mail),
            inherits: AtomicBool::new(false),
            set_aside: Mutex::default(),
            credentials: Credentials::new(&spec, record),
            settings: LiveSettings::new(&spec, Arc::clone(&container.town_values), changed),
            spec,
            code: Mutex::default(),
            upgrade: Upgrade::default(),
            ring: Arc::clone(ring),
            probation: Arc::clone(probation),
            is_suspect: AtomicBool::new(slot.with_restarts(|it| it.host_deaths > 0)),
            account: Arc::clone(account),
            container: Arc::clone(container),
        });
        let slot = Arc::clone(slot);
        let first = Mutex::default();
        Self {
            start,
            slot,
            code,
            workspace,
            log_budget,
            stays,
            patience,
            restart_intent,
            prompt_message_id,
            trace,
            resumes,
            first,
        }
    }

    /// An incarnation in `starting`, without a number until the slot gives it one. It does nothing by itself.
    /// `attempt` is 1 for the first of the start.
    pub(crate) fn incarnation(&self, number: Option<Incarnation>, attempt: u32) -> AgentHandle {
        let publisher = Arc::new(StatePublisher::new(number, self.start.container.changes.clone()));
        let model_use = Arc::new(ModelUse::new(
            Arc::clone(&self.start.spec),
            Arc::clone(&publisher),
            Arc::clone(&self.start.ring),
            Arc::clone(&self.start.container),
        ));
        let turn = CurrentTurn::default();
        let (start, used) = (Arc::clone(&self.start), Arc::clone(&model_use));
        let port = AgentPort::new(Arc::clone(&publisher), start, turn.clone(), used);
        let (spec, log_budget) = (Arc::clone(&self.start.spec), Arc::clone(&self.log_budget));
        let account = Arc::clone(&self.start.account);
        let (switch, throttle) = (self.start.probation.switch(), self.start.probation.throttle());
        let mut instance_context = InstanceContext::new(
            spec,
            Arc::new(port),
            self.workspace.clone(),
            log_budget,
            account,
            switch,
            throttle,
        );
        instance_context.turn = turn;
        let start = Arc::clone(&self.start);
        let state = IncarnationState::new(attempt, start, publisher, instance_context, model_use);
        AgentHandle { state: Arc::new(state) }
    }
}
