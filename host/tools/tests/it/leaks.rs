//! What tools leave: nothing, neither for each other nor in the launcher.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use bulkhead_tools::{Bind, End, Launcher, Layer, Settings, SpawnError};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::machine::{
    Machine, PROGRAM, cgroups_of, children_of, eventually, patient, processes_with, text,
};

fn worker(machine: &Machine) -> i32 {
    children_of(machine.launcher)[0]
}

#[test]
fn a_tool_has_three_descriptors() {
    let with = |without| {
        let machine = Machine::with(&Settings { without, ..Settings::default() });
        // The fourth is the directory that is read.
        let script = "opendir(my $d, '/proc/self/fd') or exit 9; print join ' ', sort grep /\\d/, readdir $d";
        let mut command = machine.command("/usr/bin/env", &["perl", "-e", script]);
        let (host, inside) = (machine.workspace.path().to_owned(), "/other".into());
        command.sandbox.binds.push(Bind { host, inside, writable: false, limit: None });
        command.sandbox.binds[0].limit =
            Some(bulkhead_tools::DiskLimit { bytes: 1 << 30, entries: 1000 });
        let finished = machine.run(&command);
        assert_eq!(finished.ended.end, End::Exited(0), "{}", text(&finished.stderr));
        assert_eq!(text(&finished.stdout), "0 1 2 3");
    };
    with(Vec::new());
    with(vec![Layer::PidNamespace]);
}

#[test]
fn nothing_of_a_tool_is_left_for_the_next_one() {
    let machine = Machine::with(&Settings { tools: 1, ..Settings::default() });
    if !machine.has(&[Layer::MountNamespace]) {
        return;
    }
    let other = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        let mut command = machine.shell("ls / /tmp /other; echo x > /tmp/x; echo y > /dev/shm/y");
        command.sandbox.binds[0].inside = "/other".into();
        command.sandbox.binds[0].host = other.path().to_owned();
        command.dir = "/".into();
        let out = text(&machine.run(&command).stdout);
        assert!(out.contains("other") && !out.contains("workspace") && !out.contains('x'), "{out}");
        let out = machine.output("ls / /tmp");
        assert!(!out.contains("other") && out.contains("workspace"), "{out}");
    }
}

#[test]
fn devices_of_the_machine_keep_their_owners() {
    if !geteuid().is_root() {
        println!("skipped for want of root: nobody else can change an owner");
        return;
    }
    // Devices of the launcher's own, so that a failure changes nothing of this machine.
    let devices = "mount -t tmpfs none /dev && for it in null:3 zero:5 full:7 random:8 urandom:9; do \
        mknod -m 666 /dev/${it%:*} c 1 ${it#*:}; done && exec \"$0\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", devices, PROGRAM]);
    let machine = Machine::of(Launcher::start(command, &Settings::default()).unwrap());
    assert_eq!(machine.output("echo x >/dev/null; head -c 2 /dev/zero | wc -c"), "2\n");
    let devices = fs::read_dir(format!("/proc/{}/root/dev", machine.launcher)).unwrap().flatten();
    let owners = devices.map(|it| (it.file_name(), it.metadata().unwrap().uid()));
    let owners: Vec<_> = owners.collect();
    assert_eq!(owners.len(), 5);
    assert!(owners.iter().all(|(_, uid)| *uid == 0), "{owners:?}");
}

#[test]
fn what_changes_on_the_host_is_seen() {
    // One of them where tools have their own `/tmp`.
    changes_are_seen(&tempfile::tempdir().unwrap());
    changes_are_seen(&tempfile::tempdir_in("/var").unwrap());
}

fn changes_are_seen(dir: &tempfile::TempDir) {
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("version");
    fs::write(&file, "one").unwrap();
    let later = dir.path().join("later");
    let read_only = vec![file.clone(), later.clone()];
    let machine = Machine::with(&Settings { read_only, tools: 1, ..Settings::default() });
    if !machine.has(&[Layer::MountNamespace]) {
        return;
    }
    let see =
        || machine.output(&format!("cat {} {} || true", file.display(), later.join("x").display()));
    // Each of two user ids has a root by then.
    (0..10).for_each(|_| assert_eq!(see(), "one"));
    // As package managers do it.
    fs::write(dir.path().join("new"), "two").unwrap();
    fs::rename(dir.path().join("new"), &file).unwrap();
    fs::create_dir(&later).unwrap();
    fs::write(later.join("x"), "three").unwrap();
    eventually("it is seen", || see() == "twothree");
}

#[test]
fn a_thousand_tools_leave_neither_zombies_nor_cgroups_nor_memory() {
    let machine = Machine::with(&Settings { tools: 4, ..Settings::default() });
    let command = machine.command("/bin/true", &[]);
    let run = |count: usize| {
        machine.wait(async {
            let mut set = tokio::task::JoinSet::new();
            for _ in 0..4 {
                let (tools, command) = (machine.tools.clone(), command.clone());
                set.spawn(async move {
                    for _ in 0..count / 4 {
                        let finished = tools.run(&command, Vec::new()).await.unwrap();
                        assert_eq!(finished.ended.end, End::Exited(0));
                    }
                });
            }
            set.join_all().await
        });
    };
    run(100);
    let before = private_kib(worker(&machine));
    run(1000);
    eventually("children are gone", || children_of(worker(&machine)).is_empty());
    assert_eq!(children_of(machine.launcher).len(), 1);
    let growth = private_kib(worker(&machine)).saturating_sub(before);
    assert!(growth < 200, "{growth} KiB");
    // But for the one that the next tool will have.
    let is_empty = |dir: &std::path::PathBuf| {
        let entries = fs::read_dir(dir).unwrap().flatten();
        entries.filter(|entry| entry.file_type().unwrap().is_dir()).count() <= 1
    };
    eventually("cgroups are gone", || cgroups_of(machine.launcher).iter().all(is_empty));
}

#[test]
fn a_pipe_that_nobody_reads_holds_no_deadline_up() {
    let machine = Machine::new();
    let mut command = machine.shell("yes & yes >&2");
    command.limits.wall = patient(Duration::from_millis(300));
    let mut child = machine.wait(machine.tools.spawn(&command)).unwrap();
    assert_eq!(machine.wait(child.wait()).end, End::WallDeadline);
}

#[test]
fn at_the_limit_tools_follow_each_other_at_once() {
    let machine = Machine::with(&Settings { tools: 3, ..Settings::default() });
    let command = machine.command("/bin/true", &[]);
    // What has ended has no part in the limit, whatever is left of its sandbox.
    machine.wait(async {
        for _ in 0..40 {
            let all = [(); 3].map(|()| machine.tools.run(&command, Vec::new()));
            let [one, two, three] = all;
            let (one, two, three) = tokio::join!(one, two, three);
            for finished in [one, two, three] {
                assert_eq!(finished.unwrap().ended.end, End::Exited(0));
            }
        }
    });
}

#[test]
fn a_worker_that_is_stopped_is_replaced() {
    let machine = Machine::new();
    let mark = format!("bulkhead-stopped-{}", std::process::id());
    let script = format!("$0 = '{mark}'; sleep 1000");
    let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    let mut child = machine.wait(machine.tools.spawn(&command)).unwrap();
    kill_process(Pid::from_raw(worker(&machine)).unwrap(), Signal::STOP).unwrap();
    // This one waits in the socket, and its worker never has it.
    let error = machine.wait(machine.tools.spawn(&command)).unwrap_err();
    assert!(matches!(error, SpawnError::Unavailable(_)), "{error}");
    assert_eq!(machine.wait(child.wait()).end, End::LauncherDied);
    assert_eq!(processes_with(&mark), 0);
    assert_eq!(machine.run(&machine.shell("exit 5")).ended.end, End::Exited(5));
}

#[test]
fn a_launcher_that_is_stopped_is_killed_at_the_end() {
    let machine = Machine::new();
    let (monitor, worker) = (machine.launcher, worker(&machine));
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::STOP).unwrap();
    drop(machine);
    let is_gone = |pid: i32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("both end", || is_gone(monitor) && is_gone(worker));
    // The next one removes what it could not.
    drop(Machine::new());
    assert_eq!(cgroups_of(monitor), Vec::<std::path::PathBuf>::new());
}

fn private_kib(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    of("Private_Dirty:") + of("Private_Clean:")
}

#[test]
fn binds_may_lie_below_tmp() {
    let machine = Machine::new();
    if !machine.has(&[Layer::MountNamespace]) {
        return;
    }
    let mut command = machine.shell("echo x > /tmp/a/b/file; ls /tmp");
    command.sandbox.binds[0].inside = "/tmp/a/b".into();
    command.dir = "/tmp".into();
    let finished = machine.run(&command);
    assert_eq!(text(&finished.stdout), "a\n", "{}", text(&finished.stderr));
    assert_eq!(fs::read(machine.workspace.path().join("file")).unwrap(), b"x\n");
}
