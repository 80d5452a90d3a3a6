//! What workspaces may use.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use crate::remote::Protocols;
use crate::run::Limits;

/// Limits and choices for all rigs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which protocols remotes may use.
    pub protocols: Protocols,
    /// Rigs whose mirrors leave out the contents of files until a workspace needs them, if their remotes allow that. It
    /// applies to mirrors that are made from here on.
    pub partial: BTreeSet<String>,
    /// Longest [`prepare`](crate::Workspaces::prepare), waiting included.
    pub prepare_wall: Duration,
    /// Longest call of git that talks to a remote.
    pub network_wall: Duration,
    /// Longest call of git that does not.
    pub local_wall: Duration,
    /// How long to wait for a rig or workspace that is in use.
    pub lock_wait: Duration,
    /// Memory of one call of git.
    pub memory_bytes: u64,
    /// Output of one call of git: lists of files and refs.
    pub output_bytes: usize,
    /// What a workspace may push at once, packed. The host holds it in memory meanwhile.
    pub pack_bytes: usize,
    /// A mirror, packed.
    pub mirror_bytes: u64,
    /// The files of a branch when a workspace is made.
    pub checkout_bytes: u64,
    /// Checkpoints that are kept per workspace; the oldest are dropped.
    pub checkpoints: usize,
    /// More environment for calls that talk to a remote: proxies, CAs. No secrets.
    pub environment: Vec<(OsString, OsString)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocols: Protocols::HTTPS,
            partial: BTreeSet::new(),
            prepare_wall: Duration::from_secs(900),
            network_wall: Duration::from_secs(600),
            local_wall: Duration::from_secs(120),
            lock_wait: Duration::from_secs(600),
            memory_bytes: 1 << 30,
            output_bytes: 16 << 20,
            pack_bytes: 64 << 20,
            mirror_bytes: 8 << 30,
            checkout_bytes: 4 << 30,
            checkpoints: 20,
            environment: Vec::new(),
        }
    }
}

impl Settings {
    /// Of calls in a workspace.
    pub(crate) fn tree(&self) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes,
            wall: self.local_wall,
            output_bytes: self.output_bytes,
            file_bytes: self.checkout_bytes,
        }
    }

    /// Of calls in a mirror. The mirror's size is measured; this is so much more that it stops only what grows faster.
    pub(crate) fn mirror(&self) -> Limits {
        Limits { file_bytes: self.mirror_bytes.saturating_add(1 << 30), ..self.tree() }
    }

    pub(crate) fn network(&self) -> Limits {
        Limits { wall: self.network_wall, ..self.mirror() }
    }
}
