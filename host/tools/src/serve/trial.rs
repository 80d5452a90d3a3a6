//! Finds out what this machine has for sandboxes, by making one.

use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, getegid, geteuid, waitpid};
use rustix::thread::set_no_new_privs;

use crate::cgroup::Cgroups;
use crate::command::Command;
use crate::layers::{Cgroup, Identity, Layer, Layers};
use crate::sandbox::{
    Alone, Filter, InitReport, Launch, Means, Namespaces, Owner, Reports, Rights, Root, Templates,
    confine, uids,
};
use crate::settings::{SLOTS, Settings};
use crate::system::{Cloned, LeaveOnPanic, clone, leave};

/// What tools get here.
pub fn find(
    settings: &Settings,
    cgroups: Result<&Cgroups, String>,
    lifeline: &OwnedFd,
) -> (Means, Layers) {
    let mut problems = Vec::new();
    let counts_pids = cgroups.as_ref().is_ok_and(|it| it.limits_pids());
    let cgroup = match cgroups {
        Ok(cgroups) => {
            problems.extend(cgroups.missing());
            cgroups.version()
        }
        Err(why) => {
            problems.push(format!("no cgroups: {why}"));
            Cgroup::Rlimits
        }
    };
    let landlock = find_landlock(settings, &mut problems);
    let mut means = Means {
        namespaces: Namespaces::None,
        proc: false,
        landlock: landlock != "none",
        filter: None,
        first_uid: uids(SLOTS),
        alone: Alone { memory: cgroup == Cgroup::Rlimits, pids: !counts_pids },
    };
    find_namespaces(settings, &mut means, lifeline, &mut problems);
    check_pids(&mut means, &mut problems);
    means.filter = find_filter(settings, means.namespaces != Namespaces::None, &mut problems);
    let layers = describe(&means, cgroup, landlock, problems);
    (means, layers)
}

fn describe(means: &Means, cgroup: Cgroup, landlock: &str, problems: Vec<String>) -> Layers {
    let isolated = means.namespaces != Namespaces::None;
    Layers {
        cgroup,
        pid_namespace: isolated,
        mount_namespace: isolated,
        network_namespace: isolated,
        proc: means.proc || !isolated,
        identity: match means.namespaces {
            Namespaces::Root => Identity::OwnUid,
            Namespaces::User => Identity::UserNamespace,
            Namespaces::None => Identity::HostUid,
        },
        landlock: landlock.to_owned(),
        seccomp: means.filter.is_some(),
        problems,
    }
}

fn find_namespaces(
    settings: &Settings,
    means: &mut Means,
    lifeline: &OwnedFd,
    problems: &mut Vec<String>,
) {
    let parts = [Layer::PidNamespace, Layer::MountNamespace, Layer::NetworkNamespace];
    if parts.iter().any(|layer| settings.without.contains(layer)) {
        return problems.push("no namespaces: they are switched off".to_owned());
    }
    let as_root = geteuid().is_root() && means.first_uid.is_some();
    let kinds = [(as_root, Namespaces::Root), (true, Namespaces::User)];
    let kinds = kinds.into_iter().filter_map(|(possible, kind)| possible.then_some(kind));
    for (namespaces, proc) in kinds.flat_map(|kind| [(kind, true), (kind, false)]) {
        (means.namespaces, means.proc) = (namespaces, proc);
        match attempt(settings, means, lifeline) {
            Ok(()) => return,
            Err(why) => {
                let kind = if namespaces == Namespaces::Root { "root's" } else { "user" };
                let without = if proc { "" } else { " without /proc" };
                problems.push(format!("no {kind} namespaces{without}: {why}"));
            }
        }
    }
    means.namespaces = Namespaces::None;
}

/// Root may have as many processes as it likes, and those of an ordinary user are the host's as well.
fn check_pids(means: &mut Means, problems: &mut Vec<String>) {
    if means.alone.pids && means.namespaces == Namespaces::None {
        means.alone.pids = false;
        problems.push("nothing limits how many processes a tool has".to_owned());
    }
}

/// Makes a sandbox.
fn attempt(settings: &Settings, means: &Means, lifeline: &OwnedFd) -> Result<(), String> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("make a pipe: {error}"));
    let (reports, report) = pipe()?;
    let (stdin, _stdin) = pipe()?;
    let mut templates = Templates::new(&settings.read_only);
    let uid = means.first_uid.unwrap_or_default();
    let owner = Owner { uid, gid: uid };
    let root = match means.namespaces {
        Namespaces::Root => {
            let template = templates.of(owner, Vec::new()).map_err(|failure| failure.reason())?;
            Some(Root { owner, template, pieces: &[] })
        }
        _ => None,
    };
    let launch = Launch {
        means,
        settings,
        command: &Command::new("/"),
        root,
        network: None,
        user: this_user(),
        stdio: [stdin.as_fd(); 3],
        report: report.as_fd(),
        lifeline: lifeline.as_fd(),
        cgroup: None,
        tasks: &[],
        trial: true,
    };
    let process = launch.start().map_err(|error| format!("clone: {error}"))?;
    drop(report);
    let mut reports = Reports::new(reports);
    let said = reports.take();
    let _ = waitpid(Some(process.pid), WaitOptions::empty());
    match said {
        Some(InitReport::Started) => Ok(()),
        Some(InitReport::Failed(failure)) => Err(failure.reason()),
        _ => Err("its init died".to_owned()),
    }
}

/// As the kernel has it.
pub fn this_user() -> Owner {
    Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

fn find_landlock(settings: &Settings, problems: &mut Vec<String>) -> &'static str {
    if settings.without.contains(&Layer::Landlock) {
        problems.push("no Landlock: it is switched off".to_owned());
        return "none";
    }
    let names = ["full", "partial", "none"];
    let code = in_clone(|| match confine(&Rights::default()) {
        Ok(how) => names.iter().position(|name| *name == how).unwrap_or(2),
        Err(_) => 2,
    });
    let how = code.and_then(|code| names.get(code)).copied().unwrap_or("none");
    match how {
        "full" => {}
        "partial" => {
            problems.push("Landlock is partial: the kernel has an older version".to_owned())
        }
        _ => problems.push("no Landlock: the kernel does not have it".to_owned()),
    }
    how
}

fn find_filter(settings: &Settings, alone: bool, problems: &mut Vec<String>) -> Option<Filter> {
    if settings.without.contains(&Layer::Seccomp) {
        problems.push("no seccomp: it is switched off".to_owned());
        return None;
    }
    let filter = Filter::new(alone);
    let filter = filter.map_err(|why| problems.push(format!("no seccomp: {why}"))).ok()?;
    if in_clone(|| usize::from(filter.apply().is_err())) == Some(0) {
        return Some(filter);
    }
    problems.push("no seccomp: the kernel refuses the filter".to_owned());
    None
}

/// Runs it in a process of its own, which may not gain privileges. Returns what it returned, if that is below 100.
fn in_clone(body: impl FnOnce() -> usize) -> Option<usize> {
    match clone(0, None).ok()? {
        Cloned::Parent(process) => {
            let (_, status) = waitpid(Some(process.pid), WaitOptions::empty()).ok()??;
            let code = usize::try_from(status.exit_status()?).ok()?;
            (code < 100).then_some(code)
        }
        Cloned::Child => {
            let _guard = LeaveOnPanic;
            let _ = set_no_new_privs(true);
            leave(i32::try_from(body()).unwrap_or(100))
        }
    }
}
