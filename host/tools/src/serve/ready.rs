//! What the next tool needs and takes a while to make. It is made when there is nothing else to do: a tool that comes
//! before makes its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::cgroup::{Cgroups, ToolGroup};
use crate::command::Limits;
use crate::sandbox::{is_clean, new_network};

/// Networks that wait for a tool. What tools of one moment had beyond them is removed.
const NETWORKS: usize = 8;

/// Each part is for one tool at a time.
#[derive(Default)]
pub struct Ready {
    group: Option<ToolGroup>,
    networks: Vec<OwnedFd>,
    /// Cgroups made so far.
    groups: u64,
    /// All was made that can be, since a tool took something.
    is_complete: bool,
}

impl Ready {
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Makes what is missing. What cannot be made is not tried again before the next tool, which says why.
    pub fn complete(&mut self, cgroups: Option<&Cgroups>, isolates: bool) {
        self.is_complete = true;
        if self.group.is_none() {
            self.group = self.make_group(cgroups).ok().flatten();
        }
        if self.networks.is_empty() && isolates {
            self.networks.extend(new_network());
        }
    }

    /// A cgroup with these limits. None is left if it cannot have them.
    pub fn group(
        &mut self,
        cgroups: Option<&Cgroups>,
        limits: &Limits,
    ) -> io::Result<Option<ToolGroup>> {
        self.is_complete = false;
        let made = match self.group.take() {
            Some(group) => Some(group),
            None => self.make_group(cgroups)?,
        };
        if let Some(group) = &made {
            group.limit(limits).inspect_err(|_| _ = group.remove())?;
        }
        Ok(made)
    }

    /// A namespace with a loopback interface that is up and nothing else. `None` if it cannot be made here.
    pub fn network(&mut self) -> Option<OwnedFd> {
        self.is_complete = false;
        self.networks.pop().or_else(|| new_network().ok())
    }

    /// A tool of which no process is left had this one.
    pub fn take_back(&mut self, network: OwnedFd) {
        if self.networks.len() < NETWORKS && is_clean(network.as_fd()) {
            self.networks.push(network);
        }
    }

    fn make_group(&mut self, cgroups: Option<&Cgroups>) -> io::Result<Option<ToolGroup>> {
        self.groups += 1;
        cgroups.map(|it| it.make(self.groups)).transpose()
    }
}
