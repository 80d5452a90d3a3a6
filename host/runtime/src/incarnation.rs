//! One incarnation of an agent: its store, and the calls into it.

use std::sync::Arc;

use bulkhead_account::{Account, Charge};
use bulkhead_types::HostKind;

use crate::executor::Executor;
use crate::guest_instance::{AgentFailure, Guest, GuestInstance};
use crate::instance_context::InstanceContext;
use crate::meter::Meter;

/// An active incarnation. Every call consumes it and gives it back only when the guest returned.
pub struct Incarnation {
    pub(crate) instance: GuestInstance,
    pub(crate) context: Arc<InstanceContext>,
    pub(crate) executor: Executor,
}

/// What `lifecycle.start` gets beyond the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartInfo {
    /// Which incarnation.
    pub incarnation: u64,
    /// `restore` succeeded before.
    pub restored: bool,
    /// The town, once known.
    pub town_id: Option<String>,
}

/// What an agent returned from `snapshot`. Its bytes count as the agent's until this is dropped.
pub struct Snapshot {
    bytes: Vec<u8>,
    _held: Charge,
}

impl Snapshot {
    pub(crate) fn hold(bytes: Vec<u8>, account: &Arc<Account>) -> Result<Self, AgentFailure> {
        match account.charge(HostKind::Snapshot, bytes.capacity() as u64) {
            Ok(held) => Ok(Self { bytes, _held: held }),
            Err(over) => Err(AgentFailure {
                code: "snapshot-too-large".into(),
                message: format!("the snapshot is refused: {over}"),
                fatal: false,
                thrown: None,
            }),
        }
    }

    /// Its bytes. Opaque to the host.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why the agent is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    /// Somebody asked for it.
    Stopped,
    /// The container is going away.
    Drained,
    /// A newer start takes over.
    Superseded,
    /// The container is short of memory.
    Evicted,
    /// Nothing came for the role's idle time.
    Idle,
}

impl Incarnation {
    pub(crate) fn new(
        instance: GuestInstance,
        context: Arc<InstanceContext>,
        executor: Executor,
    ) -> Self {
        Self { instance, context, executor }
    }

    /// What it uses.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.context.meter
    }

    /// Whether it is a stock component, whose `run` is its whole incarnation.
    pub fn is_command(&self) -> bool {
        matches!(self.instance.guest, Guest::Command(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_held_by_its_agent_and_refused_without_room() {
        let account = Arc::new(Account::default());
        account.begin(1000, 80, None);
        let snapshot = Snapshot::hold(vec![1; 600], &account).unwrap();
        assert_eq!((snapshot.bytes().len(), account.reading().host.snapshot), (600, 600));
        let refused = Snapshot::hold(vec![1; 600], &account).err().unwrap();
        assert!(!refused.fatal && refused.message.contains("600 bytes more"), "{refused:?}");
        drop(snapshot);
        assert_eq!(account.reading().host.snapshot, 0);
    }
}
