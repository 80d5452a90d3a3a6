//! What holds for all tools of a host.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::layers::Layer;

/// What holds for all tools of a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Files and directories that every sandbox has at the same path, read-only, beside the system's: toolchains. What
    /// is not there is left out. New tools see within a second what is replaced. What is mounted later below one of them,
    /// or below a directory of the system, they see after a restart.
    pub read_only: Vec<PathBuf>,
    /// The launcher does not start where one of these is missing.
    pub require: Vec<Layer>,
    /// Layers that are not tried.
    pub without: Vec<Layer>,
    /// Tools at a time, at most 256.
    pub tools: u32,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// With version 2 of cgroups, the processes of this process's cgroup may have to move to a cgroup below it before
    /// tools can have cgroups.
    pub may_move_processes: bool,
}

/// Of any settings: a bound of the launcher's descriptors.
pub(crate) const MOST_TOOLS: u32 = 256;
/// User ids of tools: as many again may have ended while their sandboxes are not gone yet.
pub(crate) const SLOTS: u32 = 2 * MOST_TOOLS;

impl Default for Settings {
    /// Nothing more than the system's programs, whatever layers there are, 64 tools, a second of grace.
    fn default() -> Self {
        Self {
            read_only: Vec::new(),
            require: Vec::new(),
            without: Vec::new(),
            tools: 64,
            grace: Duration::from_secs(1),
            may_move_processes: true,
        }
    }
}
