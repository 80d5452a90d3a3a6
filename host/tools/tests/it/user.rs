//! A host that is an ordinary user: its sandboxes are made of user namespaces.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use bulkhead_tools::{DiskLimit, End, Identity, Launcher, Layer, Settings};
use rustix::process::geteuid;
use support::Need;

use crate::machine::{Machine, PROGRAM, eventually, patient, processes_with, text};

const USER: u32 = 12345;

/// With a workspace of that user. `None` where there is no such machine.
fn machine(without: Vec<Layer>) -> Option<(Machine, tempfile::TempDir)> {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !geteuid().is_root() || !setpriv.exists() {
        support::skip(Need::Root, "nobody else can be an ordinary user");
        return None;
    }
    // Where everybody finds it.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("launcher");
    fs::copy(PROGRAM, &program).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let user = USER.to_string();
    let args = ["--reuid", &user, "--regid", &user, "--clear-groups"].map(OsString::from);
    let args = [args.as_slice(), &[program.into()]].concat();
    let settings = Settings { without, ..Settings::default() };
    let mut command = std::process::Command::new(setpriv);
    command.args(args);
    let launcher = Launcher::start(command, &settings).unwrap();
    let machine = Machine::of(launcher);
    chown(machine.workspace.path(), Some(USER), Some(USER)).unwrap();
    machine.has(&[Layer::MountNamespace]).then_some((machine, dir))
}

#[test]
fn it_has_a_sandbox_of_its_own() {
    let Some((machine, _dir)) = machine(Vec::new()) else { return };
    assert_eq!(machine.layers.identity, Identity::UserNamespace);
    let out = machine.output("id -u; id -un; echo x > file; ls /root /home 2>/dev/null; ls /tmp");
    assert_eq!(out, "1000\ntool\n");
    assert_eq!(fs::metadata(machine.workspace.path().join("file")).unwrap().uid(), USER);
    let status = machine.output("cat /proc/self/status");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    // Its root is this user's.
    let write = "(echo x > /x; echo x > /etc/passwd) 2>/dev/null; ls /x 2>/dev/null; true";
    assert_eq!(machine.output(write), "");
    let kill = format!("kill -9 {} 2>/dev/null || echo refused", machine.launcher);
    assert_eq!(machine.output(&kill), "refused\n");
}

#[test]
fn its_root_is_read_only_although_it_is_its_own() {
    let Some((machine, _dir)) = machine(vec![Layer::Landlock]) else { return };
    let write = "(echo x > /x; echo x > /etc/passwd) 2>/dev/null; ls /x 2>/dev/null; true";
    assert_eq!(machine.output(write), "");
}

#[test]
fn its_limits_hold() {
    let Some((machine, _dir)) = machine(Vec::new()) else { return };
    let perl = |script: &str| machine.command("/usr/bin/env", &["perl", "-e", script]);
    let mut bomb = perl("my @a; while (1) { push @a, 'x' x 1000000 }");
    bomb.limits.memory_bytes = 64 << 20;
    assert_eq!(machine.run(&bomb).ended.end, End::MemoryLimit);
    let mark = format!("bulkhead-user-{}", std::process::id());
    let mut forks = perl(&format!("$0 = '{mark}'; while (1) {{ fork }}"));
    forks.limits.pids = 40;
    forks.limits.wall = patient(std::time::Duration::from_secs(1));
    let child = machine.wait(machine.tools.spawn(&forks)).unwrap();
    eventually("it forks", || processes_with(&mark) > 20);
    assert!(processes_with(&mark) <= 40);
    drop(child);
    eventually("they end", || processes_with(&mark) == 0);
    // Its init may read what it hides.
    let mut hides =
        machine.shell("mkdir d; head -c 1500000 /dev/zero > d/a; cp d/a d/b; chmod 0 d; sleep 100");
    hides.sandbox.binds[0].limit = Some(DiskLimit { bytes: 2 << 20, entries: 10 });
    assert_eq!(machine.run(&hides).ended.end, End::DiskLimit);
    let finished = machine.run(&machine.shell("echo fine"));
    assert_eq!(text(&finished.stdout), "fine\n");
}
