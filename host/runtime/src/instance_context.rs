//! What belongs to an instance from before its store to after it.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_account::Account;
use bulkhead_log::Budget;
use bulkhead_tasks::{Switch, Throttle};
use bulkhead_telemetry::CurrentTurn;
use bulkhead_types::AgentSpec;
use parking_lot::Mutex;

use crate::logs::Logs;
use crate::meter::Meter;
use crate::port::Port;

/// What an incarnation is instantiated with. Outlives its store, so that the end can be reported.
pub struct InstanceContext {
    /// What the agent is asked to be.
    pub spec: Arc<AgentSpec>,
    /// What it uses.
    pub meter: Arc<Meter>,
    /// What it says.
    pub logs: Arc<Logs>,
    /// The way to the rest of the host.
    pub port: Arc<dyn Port>,
    /// A directory that becomes its `/workspace`.
    pub workspace: Option<PathBuf>,
    /// The turn that it is in, if that is traced.
    pub turn: CurrentTurn,
    pub(crate) limited: bool,
}

impl InstanceContext {
    /// An instance_context with nothing used and nothing said yet. What it may say it shares with the incarnations
    /// before and after, through `log_budget`, what it holds through `account`, and what it burns through `switch` and
    /// `throttle`.
    pub fn new(
        spec: Arc<AgentSpec>,
        port: Arc<dyn Port>,
        workspace: Option<PathBuf>,
        log_budget: Arc<Mutex<Budget>>,
        account: Arc<Account>,
        switch: Arc<Switch>,
        throttle: Arc<Throttle>,
    ) -> Self {
        Self {
            meter: Arc::new(Meter::new(&spec.limits, account, switch, throttle)),
            logs: Arc::new(Logs::new(Arc::clone(&port), log_budget)),
            spec,
            port,
            workspace,
            turn: CurrentTurn::default(),
            limited: true,
        }
    }

    /// The same without a limiter, to measure what one costs.
    #[doc(hidden)]
    #[must_use]
    pub fn unlimited(self) -> Self {
        Self { limited: false, ..self }
    }
}
