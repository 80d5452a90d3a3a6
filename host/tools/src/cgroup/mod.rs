//! Cgroups of tools: one each, in one of this host.
//!
//! ```text
//! the launcher's cgroup
//! ├─ bulkhead-host                          version 2, if processes had to move
//! └─ bulkhead-tools-<pidns>-<pid>-<start>   which monitor owns it
//!    └─ <number of the tool>
//! ```
//!
//! The name says whether the owner is alive: a launcher removes what dead ones of its namespace left.

mod controllers;
mod file;
mod owner;
mod place;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub use owner::Owner;

use crate::command::Limits;
use crate::layers::Cgroup;
use controllers::{Controllers, Group};

/// The cgroups of this host's tools.
#[derive(Debug)]
pub struct Cgroups {
    controllers: Controllers,
}

/// The cgroup of a tool. It stays until [`ToolGroup::remove`] succeeds.
#[derive(Debug)]
pub struct ToolGroup {
    group: Group,
    dir: Option<OwnedFd>,
}

impl Cgroups {
    /// Finds what can be used, and removes what others left. Otherwise says why it cannot be.
    pub fn find(owner: &Owner, may_move: bool) -> Result<Self, String> {
        let places = place::find()?;
        let controllers = Controllers::prepare(&places, owner, may_move)?;
        Ok(Self { controllers })
    }

    /// Which version limits memory.
    pub fn version(&self) -> Cgroup {
        self.controllers.version()
    }

    /// Whether it limits how many processes there are.
    pub fn limits_pids(&self) -> bool {
        self.controllers.limits_pids()
    }

    /// What no controller limits, in words.
    pub fn missing(&self) -> Vec<String> {
        self.controllers.missing()
    }

    /// Removes all cgroups of tools, and kills what is in them.
    pub fn clear(&self) {
        self.controllers.clear();
    }

    /// The same, and the cgroup of this host's tools.
    pub fn remove(&self) {
        self.controllers.remove();
    }

    /// All tools together may take so many bytes more than they have. Above that the kernel kills among them, and not in the
    /// whole container.
    pub fn give_room(&self, bytes: u64) -> io::Result<()> {
        self.controllers.give_room(bytes)
    }

    /// A cgroup for a tool, without limits. Each has a number of its own.
    pub fn make(&self, number: u64) -> io::Result<ToolGroup> {
        let group = self.controllers.make(number)?;
        let dir = group.unified_dir()?;
        Ok(ToolGroup { group, dir })
    }
}

impl ToolGroup {
    /// What may be in it.
    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        self.group.limit(limits)
    }

    /// To clone into, with version 2.
    pub fn dir(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(AsFd::as_fd)
    }

    /// To join, with version 1: a thread that writes 0 to each is in.
    pub fn tasks(&self) -> io::Result<Vec<OwnedFd>> {
        self.group.tasks()
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Option<Duration> {
        self.group.cpu()
    }

    /// What it has now, page cache and files in memory among it.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.group.memory_bytes()
    }

    /// The most memory so far, page cache and files in memory among it.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.group.peak_bytes()
    }

    /// Processes killed because the limit was reached.
    pub fn oom_kills(&self) -> u64 {
        self.group.oom_kills().unwrap_or(0)
    }

    /// Whether its own limit was reached, and not that of all tools.
    pub fn is_at_limit(&self) -> bool {
        self.group.is_at_limit()
    }

    /// Processes that could not be made because the limit was reached.
    pub fn refused_forks(&self) -> u64 {
        self.group.refused_forks().unwrap_or(0)
    }

    /// Kills all in it.
    pub fn kill(&self) {
        self.group.kill();
    }

    /// Removes it. False while something is in it.
    pub fn remove(&self) -> bool {
        self.group.remove()
    }
}
