//! Process 1 of a sandbox.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Gid, Mode, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, chdir, kill_process_group, nice,
    set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, setsid, umask,
    wait,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::system::sethostname;
use rustix::thread::set_no_new_privs;

use super::failure::{During, Failure};
use super::files::{Rights, confine};
use super::identity::{
    Owner, become_user, drop_bounding_set, drop_capabilities, keep_reading, map_self,
};
use super::report::{InitReport, read_failure, write_failure};
use super::space::Watch;
use super::{Launch, Namespaces, Root, limits, mounts, network, orphans, template};
use crate::command::{Bind, Network};
use crate::system::{
    Cloned, HeldSignals, Process, become_program, clone, close_all_but, leave, usage_of_children,
};

/// In a user namespace.
const ORDINARY: u32 = 1000;
/// Beside the worker's: tools wait while agents work.
const NICE: i32 = 5;
/// Linux prefers those.
const OOM_SCORE: &str = "1000";

/// What the worker sends: SIGTERM for the tool, and, without a namespace of processes, to kill everything.
pub const TERMINATE: Signal = Signal::TERM;
pub const KILL_ALL: Signal = Signal::USR1;

/// Steps whose failure is the command's fault.
pub const EXECUTE: &str = "execute the program";
pub const ENTER: &str = "enter the directory";

/// Returns when the tool ended and was reported. The caller leaves then, and the kernel kills what is left.
pub fn run(launch: &Launch<'_>) {
    let report = launch.report;
    let prepared = prepare(launch);
    if launch.trial && prepared.is_ok() {
        return InitReport::Started.write(report);
    }
    match prepared.and_then(|signals| begin(launch, signals)) {
        Ok((tool, signals, watch)) => {
            InitReport::Started.write(report);
            let ended = attend(&tool, &signals, watch, report);
            // An end is reported when nothing else is left. With this process the kernel would do it as well, but takes
            // milliseconds for the namespaces before.
            match launch.means.namespaces {
                Namespaces::None => orphans::kill_all(&[]),
                _ => orphans::kill_namespace(),
            }
            let (cpu, peak_bytes) = usage_of_children();
            InitReport::Ended { status: ended, cpu, peak_bytes }.write(report);
        }
        Err(failure) => InitReport::Failed(failure).write(report),
    }
}

/// What is watched is found before the tool can change anything.
fn begin(
    launch: &Launch<'_>,
    signals: HeldSignals,
) -> Result<(Process, HeldSignals, Watch), Failure> {
    let watch = watch(launch)?;
    Ok((start(launch, &signals)?, signals, watch))
}

fn watch(launch: &Launch<'_>) -> Result<Watch, Failure> {
    let is_inside = launch.means.namespaces != Namespaces::None;
    let path = |bind: &Bind| if is_inside { bind.inside.clone() } else { bind.host.clone() };
    let binds = launch.command.sandbox.binds.iter();
    Watch::new(binds.filter_map(|bind| Some((path(bind), bind.limit?))))
}

/// Makes the sandbox, and gives up all rights, but for the right to see how much lies in it.
fn prepare(launch: &Launch<'_>) -> Result<HeldSignals, Failure> {
    die_with_worker()?;
    close_all_but(&launch.descriptors()).during("close descriptors")?;
    let signals = HeldSignals::hold(&[Signal::CHILD, TERMINATE, KILL_ALL]);
    // Asking for less than there is cannot fail; more than these does not matter enough.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    umask(Mode::WGRP | Mode::WOTH);
    match (launch.means.namespaces, launch.root) {
        (Namespaces::Root, Some(root)) => enter_as_root(launch, root)?,
        (Namespaces::Root, None) => return Err(Errno::INVAL).during("find a root"),
        (Namespaces::User, _) => enter_as_user(launch)?,
        (Namespaces::None, _) => {
            set_child_subreaper(Some(rustix::process::getpid())).during("adopt orphans")?;
            drop_bounding_set();
        }
    }
    let binds = &launch.command.sandbox.binds;
    let is_watched = binds.iter().any(|bind| bind.limit.is_some());
    if is_watched {
        keep_reading()?
    } else {
        drop_capabilities()?
    }
    set_no_new_privs(true).during("give up new privileges")?;
    // Another user has none of it.
    die_with_worker()?;
    // The memory of the launcher is the init's too: no tool reads it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during("hide the init's memory")?;
    is_worker_alive(launch)?;
    // Its share of the processors is small: only now.
    join_cgroups(launch)?;
    Ok(signals)
}

fn die_with_worker() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).during("die with the launcher")
}

/// The worker may have died before this process asked to die with it.
fn is_worker_alive(launch: &Launch<'_>) -> Result<(), Failure> {
    let mut lifeline = [PollFd::new(&launch.lifeline, PollFlags::IN)];
    let ready = poll(&mut lifeline, Some(&Timespec::default())).during("poll the launcher")?;
    if ready == 0 { Ok(()) } else { Err(Errno::PIPE).during("find the launcher alive") }
}

/// A thread that moves itself waits for no other one of the system, unlike one that is moved.
fn join_cgroups(launch: &Launch<'_>) -> Result<(), Failure> {
    launch
        .tasks
        .iter()
        .try_for_each(|tasks| rustix::io::write(tasks, b"0").during("join its cgroup").map(drop))
}

fn enter_as_root(launch: &Launch<'_>, root: Root<'_>) -> Result<(), Failure> {
    let proc = launch.means.proc.then(mounts::new_proc).transpose()?;
    template::enter(root.template)?;
    mounts::furnish(launch.command.limits.tmp_bytes, proc, root.pieces, root.owner)?;
    name_and_connect(launch)?;
    launch.stdio.into_iter().try_for_each(|pipe| give(pipe, root.owner))?;
    drop_bounding_set();
    become_user(root.owner)
}

/// Who opens a pipe by its name in /dev has to own it. Anything else may be the machine's.
fn give(pipe: BorrowedFd<'_>, owner: Owner) -> Result<(), Failure> {
    const STEP: &str = "give the tool its pipes";
    if FileType::from_raw_mode(fstat(pipe).during(STEP)?.st_mode) != FileType::Fifo {
        return Err(Errno::INVAL).during(STEP);
    }
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    fchown(pipe, Some(uid), Some(gid)).during(STEP)
}

fn enter_as_user(launch: &Launch<'_>) -> Result<(), Failure> {
    map_self(launch.user, ORDINARY)?;
    let binds = &launch.command.sandbox.binds;
    let (pieces, _) = mounts::take(mounts::Binds {
        read_only: &launch.settings.read_only,
        binds,
        maps: &[],
        recursive: true,
    })?;
    let proc = launch.means.proc.then(mounts::new_proc).transpose()?;
    mounts::build(&mounts::Base {
        read_only: &launch.settings.read_only,
        points: &mounts::points(&pieces),
        owner: Owner { uid: ORDINARY, gid: ORDINARY },
    })?;
    // What the user owns outside may be root's.
    mounts::furnish(launch.command.limits.tmp_bytes, proc, &pieces, launch.user)?;
    name_and_connect(launch)?;
    drop_bounding_set();
    Ok(())
}

fn name_and_connect(launch: &Launch<'_>) -> Result<(), Failure> {
    sethostname(b"tool").during("set the name of the host")?;
    match launch.command.sandbox.network {
        Network::None => network::connect(launch.network),
        Network::Open => Ok(()),
    }
}

/// Starts the tool, and returns when its program runs.
fn start(launch: &Launch<'_>, signals: &HeldSignals) -> Result<Process, Failure> {
    let (failed, says) = pipe_with(PipeFlags::CLOEXEC).during("make a pipe")?;
    match clone(0, None).during("fork")? {
        Cloned::Parent(tool) => {
            drop(says);
            match read_failure(failed).during("read from the tool")? {
                Some(failure) => Err(failure),
                None => Ok(tool),
            }
        }
        Cloned::Child => {
            drop(failed);
            write_failure(File::from(says), &execute(launch, signals));
            leave(127)
        }
    }
}

/// Becomes the tool, or says why not.
fn execute(launch: &Launch<'_>, signals: &HeldSignals) -> Failure {
    let program = match confine_tool(launch) {
        Ok(program) => program,
        Err(failure) => return failure,
    };
    let command = launch.command;
    let variables = command.env.iter().map(|(name, value)| [name, value].map(OsString::as_os_str));
    let variables: Vec<_> = variables.map(|pair| pair.join(OsStr::new("="))).collect();
    // What `exec` does not take back.
    signals.release();
    let error = become_program(&program, &command.args, &variables);
    Failure { step: EXECUTE.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
}

fn confine_tool(launch: &Launch<'_>) -> Result<PathBuf, Failure> {
    let [stdin, stdout, stderr] = launch.stdio;
    let connect = || dup2_stdin(stdin).and(dup2_stdout(stdout)).and(dup2_stderr(stderr));
    connect().during("connect the tool's pipes")?;
    close_tool_descriptors(launch)?;
    // More than this does not matter enough to fail.
    let _ = nice(NICE);
    setsid().during("begin a session")?;
    die_with_worker()?;
    drop_capabilities()?;
    let (dir, program) = paths(launch);
    chdir(&dir).during(ENTER)?;
    limits::limit(launch.command, launch.means.alone).during("set limits of the process")?;
    let refused =
        |what: &str, why: String| Failure { step: format!("{what}: {why}"), errno: libc::EPERM };
    if launch.means.landlock {
        confine(&rights(launch)).map_err(|why| refused("landlock", why))?;
    }
    if let Some(filter) = &launch.means.filter {
        filter.apply().map_err(|why| refused("seccomp", why))?;
    }
    Ok(program)
}

/// All that is not closed on exec: what came as the init's was.
fn close_tool_descriptors(launch: &Launch<'_>) -> Result<(), Failure> {
    for descriptor in launch.descriptors() {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC).during("close pipes")?;
    }
    Ok(())
}

/// Where the tool starts, and its program.
fn paths(launch: &Launch<'_>) -> (PathBuf, PathBuf) {
    let command = launch.command;
    if launch.means.namespaces == Namespaces::None {
        let outside = |path: &Path| outside(path, &command.sandbox.binds);
        return (outside(&command.dir), outside(&command.program));
    }
    (command.dir.clone(), command.program.clone())
}

/// Where a path of the sandbox lies on the host.
fn outside(path: &Path, binds: &[Bind]) -> PathBuf {
    let found =
        binds.iter().rev().find_map(|bind| Some((bind, path.strip_prefix(&bind.inside).ok()?)));
    match found {
        // Joining nothing adds a slash.
        Some((bind, rest)) if rest.as_os_str().is_empty() => bind.host.clone(),
        Some((bind, rest)) => bind.host.join(rest),
        None => path.to_owned(),
    }
}

fn rights(launch: &Launch<'_>) -> Rights {
    let sandbox = &launch.command.sandbox;
    let is_open = sandbox.network == Network::Open;
    if launch.means.namespaces == Namespaces::None {
        let (own, read): (Vec<_>, Vec<_>) = sandbox.binds.iter().partition(|bind| bind.writable);
        let hosts =
            |binds: &[&Bind]| binds.iter().map(|bind| bind.host.clone()).collect::<Vec<_>>();
        let system = mounts::system_paths().chain(launch.settings.read_only.iter().cloned());
        return Rights {
            read: system.chain(hosts(&read)).collect(),
            write: mounts::device_paths().collect(),
            own: hosts(&own),
            tcp: is_open,
        };
    }
    let writable = sandbox.binds.iter().filter(|bind| bind.writable);
    Rights {
        read: vec!["/".into()],
        write: vec!["/dev".into(), "/proc".into()],
        own: writable.map(|bind| bind.inside.clone()).chain(["/tmp".into()]).collect(),
        tcp: true,
    }
}

/// Waits for the tool, reaps all others, watches its disk, and forwards what the worker wants. Returns the tool's
/// status.
fn attend(tool: &Process, signals: &HeldSignals, mut watch: Watch, report: BorrowedFd<'_>) -> i32 {
    loop {
        let signal = signals.take(watch.pause());
        if watch.step() {
            InitReport::DiskLimit.write(report);
        }
        if signal == Some(TERMINATE.as_raw()) {
            let _ = kill_process_group(tool.pid, TERMINATE);
        }
        if signal == Some(KILL_ALL.as_raw()) {
            orphans::kill_all(&[tool.pid]);
            let _ = kill_process_group(tool.pid, Signal::KILL);
        }
        if let Some(status) = reap(tool.pid) {
            return status;
        }
    }
}

fn reap(tool: Pid) -> Option<i32> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == tool {
            return Some(status.as_raw());
        }
    }
    None
}
