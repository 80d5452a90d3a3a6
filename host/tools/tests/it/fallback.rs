//! A machine that lacks something: limits and confinement that are left still hold.

use std::fs;
use std::time::{Duration, Instant};

use bulkhead_tools::{Cgroup, End, Identity, Layer, Settings};

use crate::machine::{Machine, patient, processes_with, text};

fn without(without: Vec<Layer>) -> Machine {
    Machine::with(&Settings { without, ..Settings::default() })
}

fn poor() -> Machine {
    without(vec![Layer::Cgroup, Layer::PidNamespace])
}

#[test]
fn version_2_of_cgroups_is_used_where_it_has_the_memory_controller() {
    let offered = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let layers = Machine::new().layers;
    if offered.split_whitespace().any(|it| it == "memory") {
        assert_eq!(layers.cgroup, Cgroup::V2, "{:?}", layers.problems);
    } else {
        assert_ne!(layers.cgroup, Cgroup::V2);
    }
}

#[test]
fn without_cgroups_limits_hold_for_each_process() {
    let machine = without(vec![Layer::Cgroup]);
    assert_eq!(machine.layers.cgroup, Cgroup::Rlimits);
    assert!(machine.layers.problems.iter().any(|it| it.contains("cgroups")));
    let perl = |script: &str| machine.command("/usr/bin/env", &["perl", "-e", script]);
    let mut bomb = perl("my @a; while (1) { push @a, 'x' x 1000000 }");
    bomb.limits.memory_bytes = 64 << 20;
    assert_eq!(machine.run(&bomb).ended.end, End::MemoryLimit);
    let mut busy = perl("while (1) {}");
    busy.limits.cpu = Duration::from_secs(1);
    let ended = machine.run(&busy).ended;
    assert_eq!(ended.end, End::CpuDeadline);
    assert!(ended.usage.cpu >= Duration::from_secs(1), "{ended:?}");
}

#[test]
fn without_namespaces_everything_ends_with_its_tool() {
    let machine = poor();
    assert_eq!(machine.layers.identity, Identity::HostUid);
    let status = machine.output("cat /proc/self/status");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set} in {status}");
    }
    let mark = format!("bulkhead-poor-{}", std::process::id());
    let daemon = format!(
        "if (!fork) {{ setpgrp; if (!fork) {{ $0 = '{mark}'; fork; sleep 1000 }} exit }} wait; exit 6"
    );
    let command = machine.command("/usr/bin/env", &["perl", "-e", &daemon]);
    assert_eq!(machine.run(&command).ended.end, End::Exited(6));
    assert_eq!(processes_with(&mark), 0);
}

#[test]
fn without_namespaces_deadlines_hold_against_the_deaf() {
    let machine = poor();
    let mark = format!("bulkhead-deaf-{}", std::process::id());
    let script =
        format!("$SIG{{TERM}} = 'IGNORE'; $0 = '{mark}'; fork; fork; while (1) {{ sleep 1 }}");
    let mut command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    command.limits.wall = patient(Duration::from_millis(300));
    let begun = Instant::now();
    assert_eq!(machine.run(&command).ended.end, End::WallDeadline);
    assert!(begun.elapsed() < patient(Duration::from_secs(10)));
    assert_eq!(processes_with(&mark), 0);
}

#[test]
fn without_namespaces_landlock_guards_files() {
    let machine = poor();
    if !machine.has(&[Layer::Landlock]) {
        return;
    }
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("secret"), "x").unwrap();
    let script = format!("cat {}/secret || echo y > file; cat file", other.path().display());
    let finished = machine.run(&machine.shell(&script));
    assert_eq!(text(&finished.stdout), "y\n", "{}", text(&finished.stderr));
    assert!(machine.workspace.path().join("file").exists());
    let kill = format!("kill -9 {} || echo refused", std::process::id());
    assert_eq!(machine.output(&kill), "refused\n");
}
