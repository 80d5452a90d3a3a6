//! Starts tools, holds their limits, and reports their ends. One loop around one `poll`.

use std::io::{self, ErrorKind};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, nice, set_child_subreaper,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::set_name;

use super::cause::end_by;
use super::outbox::Outbox;
use super::start::Starter;
use super::tool::{Context, Freed, Tool};
use super::trial;
use crate::cgroup::{Cgroups, Owner, ToolGroup};
use crate::end::SpawnError;
use crate::layers::{Cgroup, Layer, Layers};
use crate::sandbox::{Namespaces, kill_orphans};
use crate::settings::{MOST_TOOLS, SLOTS, Settings};
use crate::wire::{Report, Request, receive};

/// Agents go before the starts and ends of tools, which cost milliseconds, and those before tools and the slow lane.
const NICE: i32 = 5;
/// Between two tries to remove cgroups that are not empty yet.
const RETRY: Duration = Duration::from_millis(20);

/// Without anything to do for so long, the worker gets ready for the next tool.
const IDLE: Duration = Duration::from_millis(1);

struct Worker<'a> {
    socket: &'a OwnedFd,
    number: u64,
    starter: Starter<'a>,
    layers: Layers,
    outbox: Outbox<'a>,
    tools: Vec<Tool>,
    processors: u32,
    /// User ids that no tool has, the next one last.
    slots: Vec<u32>,
    /// Cgroups of tools that ended and that the kernel still holds.
    left: Vec<ToolGroup>,
}

/// What `poll` found.
struct Ready {
    host: bool,
    is_writable: bool,
    tools: Vec<(bool, bool)>,
}

impl Ready {
    fn is_nothing(&self) -> bool {
        !self.host && !self.is_writable && self.tools.iter().all(|it| *it == (false, false))
    }
}

/// Works until the host is gone.
pub fn run(socket: &OwnedFd, settings: &Settings, owner: &Owner, number: u64) -> io::Result<()> {
    set_up()?;
    let (lifeline, _alive) = pipe_with(PipeFlags::CLOEXEC)?;
    let cgroups = find_cgroups(settings, owner);
    cgroups.iter().for_each(Cgroups::clear);
    let known = cgroups.as_ref().map_err(String::clone);
    let (means, layers) = trial::find(settings, known, &lifeline);
    let starter = Starter::new(settings, means, cgroups.ok(), lifeline);
    let mut outbox = Outbox::new(socket.as_fd());
    outbox.send(Report::Hello { worker: number, layers: layers.clone() })?;
    let slots = (0..SLOTS.min(2 * settings.tools)).rev().collect();
    let (tools, left) = (Vec::new(), Vec::new());
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let mut worker =
        Worker { socket, number, starter, layers, outbox, tools, processors, slots, left };
    worker.work()?;
    worker.end();
    Ok(())
}

fn set_up() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The monitor may be dead already.
    if getppid().is_none_or(|parent| parent.is_init() && !getpid().is_init()) {
        return Err(io::Error::other("the monitor is gone"));
    }
    set_child_subreaper(Some(getpid()))?;
    let _ = set_name(c"tools");
    // More than this does not matter enough to fail.
    let _ = nice(NICE);
    // Each tool has three, each map one.
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}

fn find_cgroups(settings: &Settings, owner: &Owner) -> Result<Cgroups, String> {
    if settings.without.contains(&Layer::Cgroup) {
        return Err("they are switched off".to_owned());
    }
    Cgroups::find(owner, settings.may_move_processes)
}

impl Worker<'_> {
    fn work(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.is_nothing() && !self.starter.is_ready() {
                self.starter.get_ready();
            }
            if ready.is_writable {
                self.outbox.flush()?;
            }
            self.attend(&ready.tools)?;
            if ready.host && !self.take_all()? {
                return Ok(());
            }
            self.check()?;
            self.left.retain(|group| !group.remove());
        }
    }

    /// Nothing is left of any tool.
    fn end(&mut self) {
        for tool in self.tools.drain(..) {
            tool.abandon();
        }
        kill_orphans(&[]);
        if let Some(cgroups) = &self.starter.cgroups {
            cgroups.remove();
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut wanted = PollFlags::empty();
        if !self.outbox.is_full() {
            wanted |= PollFlags::IN;
        }
        if !self.outbox.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let mut all = vec![PollFd::new(self.socket, wanted)];
        for tool in &self.tools {
            let init = tool.init.descriptor.as_fd();
            // A pipe at its end is always ready, and an init goes on ending for a while behind that.
            let says = if tool.reports.is_open() { tool.reports.as_fd() } else { init };
            all.extend([says, init].map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN)));
        }
        match poll(&mut all, self.timeout().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |it: &PollFd<'_>| !it.revents().is_empty();
        let host = all[0].revents();
        Ok(Ready {
            host: host.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            is_writable: host.contains(PollFlags::OUT),
            tools: all[1..].chunks(2).map(|it| (is_ready(&it[0]), is_ready(&it[1]))).collect(),
        })
    }

    fn timeout(&self) -> Option<Timespec> {
        let next = self.tools.iter().filter_map(Tool::next).min();
        let retry = (!self.left.is_empty()).then(|| Instant::now() + RETRY);
        let idle = (!self.starter.is_ready()).then(|| Instant::now() + IDLE);
        let at = next.into_iter().chain(retry).chain(idle).min()?;
        // Rounded up, so that it is time then.
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_micros(50);
        left.try_into().ok()
    }

    fn attend(&mut self, ready: &[(bool, bool)]) -> io::Result<()> {
        // From the end: who leaves makes the last one take its place.
        for (number, (says, ended)) in ready.iter().enumerate().rev() {
            if *says {
                let tool = &mut self.tools[number];
                let reports = [tool.hear(), tool.end()];
                reports.into_iter().flatten().try_for_each(|it| self.outbox.send(it))?;
            }
            if *ended {
                let tool = self.tools.swap_remove(number);
                self.conclude(tool)?;
            }
        }
        Ok(())
    }

    fn conclude(&mut self, mut tool: Tool) -> io::Result<()> {
        // The start and the end may come together.
        if let Some(report) = tool.hear() {
            self.outbox.send(report)?;
        }
        if self.starter.means.namespaces == Namespaces::None {
            tool.kill_group();
            let inits: Vec<Pid> = self.tools.iter().map(|tool| tool.init.pid).collect();
            kill_orphans(&[inits, vec![tool.init.pid]].concat());
        }
        let (report, Freed { slot, group, network }) = tool.conclude();
        self.slots.push(slot);
        self.starter.take_back(network);
        report.map_or(Ok(()), |report| self.outbox.send(report))?;
        self.left.extend(group.filter(|group| !group.remove()));
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for tool in &mut self.tools {
            if tool.next().is_some_and(|at| now >= at)
                && let Some(report) = tool.check(now)
            {
                self.outbox.send(report)?;
            }
        }
        Ok(())
    }

    /// Takes what the host sent. False if it is gone.
    fn take_all(&mut self) -> io::Result<bool> {
        while !self.outbox.is_full() {
            match receive(self.socket) {
                Ok(None) => return Ok(false),
                Ok(Some((request, files))) => self.take(request, files)?,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break,
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset => return Ok(false),
                    _ => return Err(error),
                },
            }
        }
        Ok(true)
    }

    fn take(&mut self, request: Request, files: Vec<OwnedFd>) -> io::Result<()> {
        match request {
            Request::Settings(_) => Ok(()),
            // For a worker that died: the host knows, since this one greeted it.
            Request::Spawn { worker, .. } if worker != self.number => Ok(()),
            Request::Spawn { id, .. } => self.spawn(id, files),
            Request::Kill { id, why } => {
                if let Some(tool) = self.tools.iter_mut().find(|tool| tool.id == id) {
                    tool.kill(end_by(why), Instant::now());
                }
                Ok(())
            }
            Request::Room { bytes } => {
                if let Some(cgroups) = &self.starter.cgroups {
                    // What a kernel refuses is no worse than before.
                    let _ = cgroups.give_room(bytes);
                }
                Ok(())
            }
        }
    }

    fn spawn(&mut self, id: u64, files: Vec<OwnedFd>) -> io::Result<()> {
        if self.slots.is_empty() {
            self.free_a_slot()?;
        }
        let room = self.left.len() < MOST_TOOLS as usize;
        let Some(slot) = self.slots.pop_if(|_| room) else {
            let error = SpawnError::TooMany(self.starter.settings.tools.min(MOST_TOOLS));
            return self.outbox.send(Report::Refused { id, error });
        };
        match self.starter.start(slot, files) {
            Ok((command, cloned)) => {
                let context = self.context(&command);
                self.tools.push(Tool::new((id, slot), command.program, cloned, context));
                Ok(())
            }
            Err(error) => {
                self.slots.push(slot);
                self.outbox.send(Report::Refused { id, error })
            }
        }
    }

    /// The host may have heard of an end whose sandbox is not gone yet.
    fn free_a_slot(&mut self) -> io::Result<()> {
        match self.tools.iter().position(Tool::is_reported) {
            Some(number) => {
                let tool = self.tools.swap_remove(number);
                self.conclude(tool)
            }
            None => Ok(()),
        }
    }

    fn context(&self, command: &crate::command::Command) -> Context {
        Context {
            limits: command.limits,
            disk_limits_files: command.file_bytes() < command.limits.file_bytes,
            grace: self.starter.settings.grace,
            processors: self.processors,
            cgroup: self.cgroup(),
            namespaces: self.starter.means.namespaces,
        }
    }

    fn cgroup(&self) -> Cgroup {
        self.layers.cgroup
    }
}
