//! Counts by role. There are as many as the configuration has roles.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bulkhead_types::Event;

/// What happened to agents of one role, by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleFigures {
    /// Incarnations that got to running.
    pub starts: u64,
    /// Abnormal ends.
    pub crashes: u64,
    /// Restarts that followed an end.
    pub restarts: u64,
}

#[derive(Default)]
struct RoleCounts {
    starts: AtomicU64,
    crashes: AtomicU64,
    restarts: AtomicU64,
}

/// Counts by role, once the roles are known.
#[derive(Default)]
pub(crate) struct Roles(OnceLock<BTreeMap<Arc<str>, RoleCounts>>);

impl Roles {
    /// These are all. Who knows them first is right.
    pub(crate) fn set(&self, roles: impl IntoIterator<Item = Arc<str>>) {
        let counts = roles.into_iter().map(|role| (role, RoleCounts::default())).collect();
        let _ = self.0.set(counts);
    }

    /// Counts a fact about an agent. A role that is not configured, as one of an earlier run, has no counts.
    pub(crate) fn count(&self, event: &Event) {
        let (role, which): (_, fn(&RoleCounts) -> &AtomicU64) = match event {
            Event::AgentStart { agent, .. } => (&agent.role, |counts| &counts.starts),
            Event::AgentCrash(record) => (&record.role, |counts| &counts.crashes),
            Event::RestartScheduled { agent, .. } => (&agent.role, |counts| &counts.restarts),
            _ => return,
        };
        if let Some(counts) = self.0.get().and_then(|roles| roles.get(&**role)) {
            which(counts).fetch_add(1, Relaxed);
        }
    }

    /// All roles, by name.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (&Arc<str>, RoleFigures)> {
        self.0.get().into_iter().flatten().map(|(role, counts)| {
            let RoleCounts { starts, crashes, restarts } = counts;
            let [starts, crashes, restarts] =
                [starts, crashes, restarts].map(|count| count.load(Relaxed));
            (role, RoleFigures { starts, crashes, restarts })
        })
    }
}
