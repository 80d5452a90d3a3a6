//! Counts by role. There are as many as the configuration has roles.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_types::Event;
use bulkhead_types::event::RestartScheduled;
use bulkhead_types::time::micros;

/// What happened to agents of one role, by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleFigures {
    /// Incarnations that got to running.
    pub starts: u64,
    /// Abnormal ends.
    pub crashes: u64,
    /// Restarts that followed an end.
    pub restarts: u64,
    /// Time in which guests waited for CPU time, because of the bound of their role.
    pub cpu_throttled: Duration,
}

#[derive(Default)]
struct RoleCounts {
    starts: AtomicU64,
    crashes: AtomicU64,
    restarts: AtomicU64,
    cpu_throttled_us: AtomicU64,
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
            Event::RestartScheduled(RestartScheduled { agent, .. }) => {
                (&agent.role, |counts| &counts.restarts)
            }
            _ => return,
        };
        if let Some(counts) = self.0.get().and_then(|roles| roles.get(&**role)) {
            which(counts).fetch_add(1, Relaxed);
        }
    }

    /// A guest waited for so long for CPU time.
    pub(crate) fn throttled(&self, role: &str, time: Duration) {
        if let Some(counts) = self.0.get().and_then(|roles| roles.get(role)) {
            counts.cpu_throttled_us.fetch_add(micros(time), Relaxed);
        }
    }

    /// All roles, by name.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (&Arc<str>, RoleFigures)> {
        self.0.get().into_iter().flatten().map(|(role, counts)| {
            let RoleCounts { starts, crashes, restarts, cpu_throttled_us } = counts;
            let [starts, crashes, restarts, throttled_us] =
                [starts, crashes, restarts, cpu_throttled_us].map(|count| count.load(Relaxed));
            let cpu_throttled = Duration::from_micros(throttled_us);
            (role, RoleFigures { starts, crashes, restarts, cpu_throttled })
        })
    }
}
