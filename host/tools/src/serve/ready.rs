//! What the next tool needs and takes a while to make. It is made when there is nothing else to do: a tool that comes
//! before makes its own.

use std::io;
use std::os::fd::OwnedFd;

use crate::cgroup::{Cgroups, ToolGroup};
use crate::command::Limits;
use crate::sandbox::new_network;

/// Each part is for one tool.
#[derive(Default)]
pub struct Ready {
    group: Option<ToolGroup>,
    network: Option<OwnedFd>,
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
        if self.network.is_none() && isolates {
            self.network = new_network().ok();
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

    /// A namespace with a loopback interface that is up, if there is one.
    pub fn network(&mut self) -> Option<OwnedFd> {
        self.is_complete = false;
        self.network.take()
    }

    fn make_group(&mut self, cgroups: Option<&Cgroups>) -> io::Result<Option<ToolGroup>> {
        self.groups += 1;
        cgroups.map(|it| it.make(self.groups)).transpose()
    }
}
