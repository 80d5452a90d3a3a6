//! Starts a tool.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, pipe_with};

use super::ready::Ready;
use super::tool::{Cloned, refusal_of};
use super::trial::this_user;
use crate::cgroup::{Cgroups, ToolGroup};
use crate::command::{Command, Network};
use crate::end::SpawnError;
use crate::sandbox::{
    Binds, Launch, Means, Namespaces, Owner, Piece, Reports, Root, Templates, mapping, points, take,
};
use crate::settings::{SLOTS, Settings};
use crate::wire::unseal;

/// What tools are started with.
pub struct Starter<'a> {
    pub settings: &'a Settings,
    pub means: Means,
    pub cgroups: Option<Cgroups>,
    /// At its end when this process is gone.
    pub lifeline: OwnedFd,
    maps: Maps,
    templates: Templates,
    ready: Ready,
}

/// User namespaces for owners of files, each made once.
#[derive(Default)]
struct Maps(HashMap<(Owner, u32), OwnedFd>);

impl<'a> Starter<'a> {
    pub fn new(
        settings: &'a Settings,
        means: Means,
        cgroups: Option<Cgroups>,
        lifeline: OwnedFd,
    ) -> Self {
        let templates = Templates::new(&settings.read_only);
        let (maps, ready) = (Maps::default(), Ready::default());
        Self { settings, means, cgroups, lifeline, maps, templates, ready }
    }

    /// Whether [`Starter::get_ready`] has something to do.
    pub fn is_ready(&self) -> bool {
        self.ready.is_complete()
    }

    /// Makes what the next tool needs, so that its start does not wait for it.
    pub fn get_ready(&mut self) {
        let isolates = self.means.namespaces == Namespaces::Root;
        self.ready.complete(self.cgroups.as_ref(), isolates);
    }

    /// Takes what a tool had of which no process is left.
    pub fn take_back(&mut self, network: Option<OwnedFd>) {
        network.into_iter().for_each(|it| self.ready.take_back(it));
    }

    /// Clones an init for the command in `files`, whose other files are the tool's stdin, stdout and stderr.
    pub fn start(
        &mut self,
        slot: u32,
        files: Vec<OwnedFd>,
    ) -> Result<(Command, Cloned), SpawnError> {
        let Ok([file, stdin, stdout, stderr]) = <[OwnedFd; 4]>::try_from(files) else {
            return Err(SpawnError::Unavailable("no descriptors are left".to_owned()));
        };
        let command: Command = unseal(file).map_err(|why| SpawnError::Invalid(why.to_string()))?;
        let cloned = self.clone(slot, &command, [stdin, stdout, stderr])?;
        Ok((command, cloned))
    }

    fn clone(
        &mut self,
        slot: u32,
        command: &Command,
        stdio: [OwnedFd; 3],
    ) -> Result<Cloned, SpawnError> {
        let (reports, report) =
            pipe_with(PipeFlags::CLOEXEC).map_err(unavailable("make a pipe"))?;
        ioctl_fionbio(&reports, true).map_err(unavailable("set up a pipe"))?;
        let (owner, pieces) = self.take_binds(slot, command)?;
        let refusal = |failure| refusal_of(&failure, &command.program);
        let root = match self.means.namespaces {
            Namespaces::Root => {
                let template = self.templates.of(owner, points(&pieces)).map_err(refusal)?;
                Some(Root { owner, template, pieces: &pieces })
            }
            _ => None,
        };
        let group = self.ready.group(self.cgroups.as_ref(), &command.limits);
        let group = group.map_err(unavailable("make a cgroup"))?;
        let is_alone =
            self.means.namespaces == Namespaces::Root && command.sandbox.network == Network::None;
        let network = is_alone.then(|| self.ready.network()).flatten();
        let tasks = group.as_ref().map_or(Ok(Vec::new()), ToolGroup::tasks);
        let launch = Launch {
            means: &self.means,
            settings: self.settings,
            command,
            root,
            network: network.as_ref().map(AsFd::as_fd),
            user: this_user(),
            stdio: [stdio[0].as_fd(), stdio[1].as_fd(), stdio[2].as_fd()],
            report: report.as_fd(),
            lifeline: self.lifeline.as_fd(),
            cgroup: group.as_ref().and_then(|group| group.dir()),
            tasks: tasks.as_deref().unwrap_or_default(),
            trial: false,
        };
        let started = match &tasks {
            Ok(_) => launch.start(),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        match started {
            Ok(init) => Ok(Cloned { init, reports: Reports::new(reports), group, network }),
            Err(why) => {
                group.map(|group| group.remove());
                Err(unavailable("clone")(why))
            }
        }
    }

    /// The command's binds, and who may own what is in them, where root takes them.
    fn take_binds(
        &mut self,
        slot: u32,
        command: &Command,
    ) -> Result<(Owner, Vec<Piece>), SpawnError> {
        let uid = self.means.first_uid.unwrap_or_default() + slot;
        let own = Owner { uid, gid: uid };
        if self.means.namespaces != Namespaces::Root {
            return Ok((own, Vec::new()));
        }
        let owners = owners(command)?;
        let maps = self.maps.of(&owners, uid);
        let binds = Binds {
            read_only: &self.settings.read_only,
            binds: &command.sandbox.binds,
            maps: &maps,
            recursive: false,
        };
        let taken = take(binds).map_err(|failure| refusal_of(&failure, &command.program));
        let (pieces, is_mapped) = taken?;
        // Files that could not be made the tool's own: the tool becomes their owner.
        let theirs = first_owner(command, &owners).filter(|_| !is_mapped);
        Ok((theirs.unwrap_or(own), pieces))
    }
}

/// Of each bind.
fn owners(command: &Command) -> Result<Vec<Owner>, SpawnError> {
    let owner = |bind: &crate::command::Bind| {
        let refusal = |why| SpawnError::Invalid(format!("bind {}: {why}", bind.host.display()));
        Owner::of(&bind.host).map_err(refusal)
    };
    command.sandbox.binds.iter().map(owner).collect()
}

impl Maps {
    /// `None` where there cannot be one.
    fn of(&mut self, owners: &[Owner], uid: u32) -> Vec<Option<OwnedFd>> {
        owners.iter().map(|owner| self.one(*owner, uid)).collect()
    }

    fn one(&mut self, owner: Owner, uid: u32) -> Option<OwnedFd> {
        if self.0.len() >= SLOTS as usize {
            self.0.clear();
        }
        let namespace = match self.0.entry((owner, uid)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(mapping(owner, uid).ok()?),
        };
        namespace.try_clone().ok()
    }
}

/// Who writes to what the command may write to.
fn first_owner(command: &Command, owners: &[Owner]) -> Option<Owner> {
    let binds = command.sandbox.binds.iter().zip(owners);
    let writable = binds.filter(|(bind, _)| bind.writable).map(|(_, owner)| owner).next();
    writable.or(owners.first()).copied()
}

fn unavailable<E: std::fmt::Display>(step: &str) -> impl FnOnce(E) -> SpawnError {
    move |why| SpawnError::Unavailable(format!("{step}: {why}"))
}
