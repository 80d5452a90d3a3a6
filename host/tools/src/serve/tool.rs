//! One tool that runs, or starts, or ends.
//!
//! ```text
//!            Started            status             init reaped
//! starting ──────────▶ running ────────▶ ended ───────────────▶ gone
//!     │                   │                ▲
//!     └── Failed ─────────┴── killed ──────┘
//! ```
//!
//! The end is reported with the status: then nothing is left but the init. Its user id and cgroup are free when that is
//! gone, which takes as long as the kernel needs for the sandbox.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitOptions, pidfd_send_signal, waitpid};

use super::cause::{Evidence, MemoryUse, end_of, is_gentle, oom_end};
use crate::cgroup::ToolGroup;
use crate::command::Limits;
use crate::end::{End, Ended, SpawnError, Usage};
use crate::layers::Cgroup;
use crate::sandbox::{
    ENTER, EXECUTE, Failure, InitReport, KILL_ALL, Namespaces, Reports, TERMINATE,
};
use crate::system::Process;
use crate::wire::Report;

/// Between two checks of a tool that is near its CPU deadline.
const SHORTEST: Duration = Duration::from_millis(50);
/// Between two reports of its figures. A program that takes memory as fast as it can fills a small container within
/// half a second.
const FIGURES: Duration = Duration::from_millis(100);
/// The same where its processes alone say what it uses, at their end.
const FIGURES_ALONE: Duration = Duration::from_secs(1);
/// The kernel kills one process that wants too much in version 1. The others are killed from here.
const OOM_CHECK: Duration = Duration::from_millis(200);
/// From asking an init to kill everything to killing the init.
const INIT_PATIENCE: Duration = Duration::from_secs(2);

pub struct Tool {
    pub id: u64,
    slot: u32,
    pub init: Process,
    pub reports: Reports,
    program: PathBuf,
    group: Option<ToolGroup>,
    network: Option<OwnedFd>,
    context: Context,
    began: Instant,
    started: bool,
    failure: Option<Failure>,
    status: Option<i32>,
    killed: Option<End>,
    /// When it is killed for good.
    kill_at: Option<Instant>,
    init_was_asked: bool,
    next_check: Instant,
    next_figures: Instant,
    usage: Usage,
    /// Its last report is sent.
    is_reported: bool,
}

/// What holds for this tool.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub limits: Limits,
    /// No file may be larger than a limit of disk, which is lower than that of files.
    pub disk_limits_files: bool,
    pub grace: Duration,
    pub processors: u32,
    pub cgroup: Cgroup,
    pub namespaces: Namespaces,
}

/// What a clone leaves with the worker.
pub struct Cloned {
    pub init: Process,
    pub reports: Reports,
    pub group: Option<ToolGroup>,
    /// A namespace that another tool may have after this one.
    pub network: Option<OwnedFd>,
}

/// What is free when nothing is left of a tool.
pub struct Freed {
    pub slot: u32,
    pub group: Option<ToolGroup>,
    pub network: Option<OwnedFd>,
}

impl Tool {
    /// Its time begins.
    pub fn new((id, slot): (u64, u32), program: PathBuf, cloned: Cloned, context: Context) -> Self {
        let now = Instant::now();
        let Cloned { init, reports, group, network } = cloned;
        Self {
            id,
            slot,
            init,
            reports,
            program,
            group,
            network,
            context,
            began: now,
            started: false,
            failure: None,
            status: None,
            killed: None,
            kill_at: None,
            init_was_asked: false,
            next_check: now + SHORTEST,
            next_figures: now + SHORTEST,
            usage: Usage::default(),
            is_reported: false,
        }
    }

    /// Takes what its init says. What of it the host should know.
    pub fn hear(&mut self) -> Option<Report> {
        let mut news = None;
        while let Some(report) = self.reports.take() {
            match report {
                InitReport::Started => {
                    self.started = true;
                    news = Some(Report::Started { id: self.id });
                }
                InitReport::Failed(failure) => self.failure = Some(failure),
                InitReport::DiskLimit => self.kill(End::DiskLimit, Instant::now()),
                InitReport::Ended { status, cpu, peak_bytes } => {
                    self.status = Some(status);
                    self.usage.cpu = cpu;
                    self.usage.peak_memory_bytes = peak_bytes;
                }
            }
        }
        news
    }

    /// When [`Tool::check`] has to be called.
    pub fn next(&self) -> Option<Instant> {
        (!self.is_reported).then(|| self.next_check())
    }

    fn next_check(&self) -> Instant {
        let deadline = self.kill_at.unwrap_or(self.wall_deadline());
        let figures =
            if self.killed.is_none() { self.next_check.min(self.next_figures) } else { deadline };
        deadline.min(figures)
    }

    /// Holds its deadlines. Its figures, if it is time for them.
    pub fn check(&mut self, now: Instant) -> Option<Report> {
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_hard(now);
        } else if self.killed.is_none() && now >= self.wall_deadline() {
            self.kill(End::WallDeadline, now);
        }
        if self.killed.is_none() && now >= self.next_check {
            self.check_group(now);
        }
        (self.killed.is_none() && now >= self.next_figures).then(|| self.figures(now))
    }

    /// Kills it, unless it was killed for another reason.
    pub fn kill(&mut self, why: End, now: Instant) {
        if self.killed.is_some() || self.status.is_some() {
            return;
        }
        self.killed = Some(why);
        if is_gentle(why) && self.started {
            let _ = pidfd_send_signal(&self.init.descriptor, TERMINATE);
            self.kill_at = Some(now + self.context.grace);
        } else {
            self.kill_hard(now);
        }
    }

    /// Kills what is in its cgroup.
    pub fn kill_group(&self) {
        self.group.iter().for_each(ToolGroup::kill);
    }

    /// Kills it, whatever was planned.
    pub fn abandon(&self) {
        let _ = pidfd_send_signal(&self.init.descriptor, Signal::KILL);
        self.kill_group();
        let _ = waitpid(Some(self.init.pid), WaitOptions::empty());
    }

    /// The host heard of its end.
    pub fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Its last report, once, if nothing of it is left but its init.
    pub fn end(&mut self) -> Option<Report> {
        // Without a namespace the worker looks for what is left first.
        let is_over = self.status.is_some() && self.context.namespaces != Namespaces::None;
        (is_over && !self.is_reported).then(|| self.last_report())
    }

    /// The last report of a tool whose init ended, unless it was sent, and what is free now.
    pub fn conclude(mut self) -> (Option<Report>, Freed) {
        let _ = waitpid(Some(self.init.pid), WaitOptions::empty());
        self.hear();
        let report = (!self.is_reported).then(|| self.last_report());
        (report, Freed { slot: self.slot, group: self.group, network: self.network })
    }

    fn last_report(&mut self) -> Report {
        self.is_reported = true;
        self.measure();
        self.usage.memory_bytes = 0;
        self.usage.wall = self.began.elapsed();
        if self.started {
            let ended = Ended { end: end_of(&self.evidence()), usage: self.usage };
            Report::Ended { id: self.id, ended }
        } else {
            Report::Refused { id: self.id, error: self.refusal() }
        }
    }

    fn wall_deadline(&self) -> Instant {
        self.began + self.context.limits.wall
    }

    fn check_group(&mut self, now: Instant) {
        self.measure();
        let limit = self.context.limits.cpu;
        let has_oom = self.context.cgroup == Cgroup::V1
            && self.group.as_ref().is_some_and(|group| group.oom_kills() > 0);
        if has_oom {
            let evidence = self.evidence();
            return self.kill(oom_end(&evidence), now);
        }
        if self.usage.cpu >= limit {
            return self.kill(End::CpuDeadline, now);
        }
        let left = limit.saturating_sub(self.usage.cpu) / self.context.processors;
        let most = if self.context.cgroup == Cgroup::V1 { OOM_CHECK } else { FIGURES_ALONE };
        self.next_check = now + left.clamp(SHORTEST, most);
    }

    fn figures(&mut self, now: Instant) -> Report {
        self.measure();
        self.usage.wall = now.duration_since(self.began);
        self.next_figures = now + if self.group.is_some() { FIGURES } else { FIGURES_ALONE };
        Report::Usage { id: self.id, usage: self.usage }
    }

    fn measure(&mut self) {
        let Some(group) = &self.group else { return };
        self.usage.cpu = group.cpu().unwrap_or(self.usage.cpu);
        self.usage.memory_bytes = group.memory_bytes().unwrap_or_default();
        self.usage.peak_memory_bytes = group.peak_bytes().unwrap_or(self.usage.peak_memory_bytes);
    }

    /// With the init the kernel kills everything in its namespace. Without one the init has to do it first.
    fn kill_hard(&mut self, now: Instant) {
        let by_init =
            self.context.namespaces == Namespaces::None && self.started && !self.init_was_asked;
        if by_init {
            self.init_was_asked = true;
            let _ = pidfd_send_signal(&self.init.descriptor, KILL_ALL);
        } else {
            let _ = pidfd_send_signal(&self.init.descriptor, Signal::KILL);
            self.kill_group();
        }
        self.kill_at = Some(now + INIT_PATIENCE);
    }

    fn evidence(&self) -> Evidence {
        let group = self.group.as_ref();
        let by_process = MemoryUse {
            peak: self.usage.peak_memory_bytes,
            limit: self.context.limits.memory_bytes,
        };
        Evidence {
            killed: self.killed,
            status: self.status,
            disk_limits_files: self.context.disk_limits_files,
            oom_kills: group.map_or(0, ToolGroup::oom_kills),
            is_at_limit: group.is_some_and(ToolGroup::is_at_limit),
            refused_forks: group.map_or(0, ToolGroup::refused_forks),
            memory_by_process: group.is_none().then_some(by_process),
        }
    }

    fn refusal(&self) -> SpawnError {
        match &self.failure {
            Some(failure) => refusal_of(failure, &self.program),
            None => {
                let why = self.killed.map_or("died", |_| "was killed");
                SpawnError::Unavailable(format!("its init {why} before the program ran"))
            }
        }
    }
}

/// Why a tool was not started.
pub fn refusal_of(failure: &Failure, program: &Path) -> SpawnError {
    let is_of_command = failure.step == ENTER || failure.step.starts_with("bind ");
    match (failure.step.as_str(), failure.errno) {
        (EXECUTE, libc::ENOENT | libc::ENOTDIR) => SpawnError::NotFound(program.to_owned()),
        (EXECUTE, libc::E2BIG) => SpawnError::Invalid(failure.reason()),
        (EXECUTE, errno) => SpawnError::NotExecutable {
            program: program.to_owned(),
            reason: io::Error::from_raw_os_error(errno).to_string(),
        },
        _ if is_of_command => SpawnError::Invalid(failure.reason()),
        _ => SpawnError::Unavailable(failure.reason()),
    }
}
