//! The sandbox of one tool, and its init: process 1 of the sandbox, which makes it, gives up all rights, starts the
//! tool, and reports its end.

mod calls;
mod failure;
mod files;
mod identity;
mod init;
mod limits;
mod mounts;
mod network;
mod orphans;
mod report;
mod space;
mod template;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use calls::{CALLS_INTO_PROCESSES, Filter, REFUSED_CALLS};
pub use failure::Failure;
pub use files::{Rights, confine};
pub use identity::{Owner, mapping, uids};
pub use init::{ENTER, EXECUTE, KILL_ALL, TERMINATE};
pub use limits::Alone;
pub use mounts::{Binds, Piece, points, take};
pub use network::{is_clean, new_network};
pub use orphans::kill_all as kill_orphans;
pub use report::{InitReport, Reports};
pub use space::exceeds;
pub use template::Templates;

use crate::command::{Command, Network};
use crate::settings::Settings;
use crate::system::{Cloned, LeaveOnPanic, Process, clone, leave};

/// Which namespaces a sandbox is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// Made by root, who leaves for a user id without rights.
    Root,
    /// With a user namespace.
    User,
    /// None can be made here.
    None,
}

/// What this machine has for sandboxes.
#[derive(Debug)]
pub struct Means {
    pub namespaces: Namespaces,
    /// A `/proc` can be mounted.
    pub proc: bool,
    /// Landlock is there and wanted.
    pub landlock: bool,
    pub filter: Option<Filter>,
    /// The user ids that tools may have, one each.
    pub first_uid: Option<u32>,
    /// What cgroups do not limit.
    pub alone: Alone,
}

/// A tool to start.
#[derive(Debug)]
pub struct Launch<'a> {
    pub means: &'a Means,
    pub settings: &'a Settings,
    pub command: &'a Command,
    /// Made by root, for [`Namespaces::Root`].
    pub root: Option<Root<'a>>,
    /// A namespace of [`new_network`] that no other tool has. Otherwise the clone gets one.
    pub network: Option<BorrowedFd<'a>>,
    /// Who the launcher is, for [`Namespaces::User`].
    pub user: Owner,
    pub stdio: [BorrowedFd<'a>; 3],
    /// Takes [`InitReport`]s.
    pub report: BorrowedFd<'a>,
    /// At its end when the worker is gone.
    pub lifeline: BorrowedFd<'a>,
    /// Of version 2.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Of version 1: the init joins each by writing 0, which costs less than to be moved by its number.
    pub tasks: &'a [OwnedFd],
    /// Makes the sandbox, and starts nothing.
    pub trial: bool,
}

/// What a tool gets from root.
#[derive(Debug, Clone, Copy)]
pub struct Root<'a> {
    /// Who it is.
    pub owner: Owner,
    /// The namespace of the root that it gets a copy of: see [`Templates`].
    pub template: BorrowedFd<'a>,
    /// Its binds.
    pub pieces: &'a [Piece],
}

impl Launch<'_> {
    /// Clones the init, which makes the sandbox and starts the tool.
    pub fn start(&self) -> io::Result<Process> {
        match clone(self.flags(), self.cgroup)? {
            Cloned::Parent(process) => Ok(process),
            Cloned::Child => {
                let _guard = LeaveOnPanic;
                init::run(self);
                leave(0)
            }
        }
    }

    fn flags(&self) -> libc::c_int {
        let kind = match self.means.namespaces {
            Namespaces::None => return 0,
            // The init enters a mount namespace by itself.
            Namespaces::Root => 0,
            Namespaces::User => libc::CLONE_NEWUSER | libc::CLONE_NEWNS,
        };
        let network = match self.command.sandbox.network {
            Network::None if self.network.is_none() => libc::CLONE_NEWNET,
            Network::None | Network::Open => 0,
        };
        let always = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        always | libc::CLONE_NEWCGROUP | kind | network
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let root = self
            .root
            .iter()
            .flat_map(|root| root.pieces.iter().map(Piece::descriptor).chain([root.template]));
        let tasks = self.tasks.iter().map(AsFd::as_fd).chain(self.network);
        self.stdio
            .into_iter()
            .chain([self.report, self.lifeline])
            .chain(root)
            .chain(tasks)
            .collect()
    }
}
