//! What confines tools on this machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A layer of confinement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Memory, processes and CPU time are counted for a tool with all that it starts.
    Cgroup,
    /// It sees its own processes only, and all of them end with it.
    PidNamespace,
    /// It sees chosen files only.
    MountNamespace,
    /// It has no network, unless it should.
    NetworkNamespace,
    /// A user id of its own, or one without rights in a namespace of its own.
    Identity,
    /// Landlock.
    Landlock,
    /// A filter of system calls.
    Seccomp,
}

/// Which cgroups limit a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroup {
    /// All controllers.
    V2,
    /// Those of version 1 that are writable, memory among them.
    V1,
    /// None: limits hold for each process by itself.
    Rlimits,
}

/// As whom a tool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// A user id that nothing else has. Its writable binds are mapped to it where the file system can; otherwise it
    /// runs as the owner of the first writable one.
    OwnUid,
    /// The host's user, as an ordinary user of a namespace without rights.
    UserNamespace,
    /// The host's user, without capabilities.
    HostUid,
}

/// What confines tools on this machine: what the launcher found by trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// What counts.
    pub cgroup: Cgroup,
    /// Otherwise its processes are searched and killed one by one.
    pub pid_namespace: bool,
    /// Otherwise Landlock alone guards files, a tool's binds lie where the host has them, and it has no `/tmp`.
    pub mount_namespace: bool,
    /// Otherwise Landlock alone refuses TCP.
    pub network_namespace: bool,
    /// It has a `/proc`. The kernel refuses one to user namespaces in most containers.
    pub proc: bool,
    /// As whom it runs.
    pub identity: Identity,
    /// `full`, `partial` on an older kernel, `none`.
    pub landlock: String,
    /// The filter of system calls is there.
    pub seccomp: bool,
    /// What is missing, and why. One sentence each.
    pub problems: Vec<String>,
}

impl Layers {
    /// Whether it is there.
    pub fn has(&self, layer: Layer) -> bool {
        match layer {
            Layer::Cgroup => self.cgroup != Cgroup::Rlimits,
            Layer::PidNamespace => self.pid_namespace,
            Layer::MountNamespace => self.mount_namespace,
            Layer::NetworkNamespace => self.network_namespace,
            Layer::Identity => self.identity != Identity::HostUid,
            Layer::Landlock => self.landlock == "full",
            Layer::Seccomp => self.seccomp,
        }
    }

    /// The first of `required` that is missing, with the reasons.
    pub(crate) fn missing(&self, required: &[Layer]) -> Option<String> {
        let layer = required.iter().find(|layer| !self.has(**layer))?;
        let why = self.problems.join("; ");
        Some(format!("{layer} is required for tools and is missing: {why}"))
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "cgroup",
            Self::PidNamespace => "pid_namespace",
            Self::MountNamespace => "mount_namespace",
            Self::NetworkNamespace => "network_namespace",
            Self::Identity => "identity",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        })
    }
}
