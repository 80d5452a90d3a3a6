//! What a store holds, for unit tests of what guests call.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::AgentSpec;
use parking_lot::Mutex;

use super::{Shared, State};
use crate::Logs;
use crate::descriptors::Descriptors;
use crate::instance_context::InstanceContext;
use crate::interfaces::http::{Carrier, Resolver};
use crate::port::fake::FakePort;

/// The state of an agent with that workspace, whose files are some of `descriptors`.
pub(crate) fn state(
    spec: AgentSpec,
    port: FakePort,
    workspace: Option<PathBuf>,
    descriptors: Arc<Descriptors>,
) -> State {
    let log_budget = Arc::new(Mutex::new(Logs::budget(10)));
    let context = InstanceContext::new(
        Arc::new(spec),
        Arc::new(port),
        workspace,
        log_budget,
        Arc::default(),
        Arc::default(),
        Arc::default(),
    );
    let shared = Shared {
        connector: Default::default(),
        tools: None,
        workspaces: None,
        models: Default::default(),
        http_secrets: Default::default(),
        carrier: Arc::new(Carrier::start(1).unwrap()),
        resolver: Arc::new(Resolver::start().unwrap()),
        blocking: Arc::new(crate::blocking::shares()),
        disk: Arc::default(),
        growth_budget: Arc::default(),
        bounds: crate::InstanceBounds::default(),
        descriptors,
        large_bytes: u64::MAX,
        slow_slice: Duration::from_millis(10),
    };
    State::new(&context, &shared).unwrap()
}
