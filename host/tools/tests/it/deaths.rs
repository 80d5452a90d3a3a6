//! Whatever dies, no tool outlives it, and nothing is left.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};

use bulkhead_tools::{End, SpawnError};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{Machine, PROGRAM, cgroups_of, children_of, eventually, processes_with};

/// Of this test process.
fn monitor(machine: &Machine) -> i32 {
    machine.launcher
}

fn worker(machine: &Machine) -> i32 {
    let mut workers = Vec::new();
    eventually("a worker", || !children_of(monitor(machine)).is_empty());
    workers.extend(children_of(monitor(machine)));
    workers[0]
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn tools_of_a_dead_worker_are_dead_and_the_next_one_works() {
    let machine = Machine::new();
    let mark = format!("bulkhead-worker-{}", std::process::id());
    let script = format!("$0 = '{mark}'; fork; sleep 1000");
    let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    for round in 0..3 {
        let spawn = || machine.wait(machine.tools.spawn(&command));
        let mut children = vec![spawn().unwrap(), spawn().unwrap()];
        eventually("they run", || processes_with(&mark) == 4);
        kill(worker(&machine));
        for child in &mut children {
            assert_eq!(machine.wait(child.wait()).end, End::LauncherDied, "round {round}");
        }
        // When it is reported, it is so.
        assert_eq!(processes_with(&mark), 0, "round {round}");
        assert_eq!(machine.run(&machine.shell("exit 5")).ended.end, End::Exited(5));
    }
}

#[test]
fn a_worker_that_dies_at_any_moment_leaves_one_answer_for_each_tool() {
    let machine = Machine::new();
    let mark = format!("bulkhead-moment-{}", std::process::id());
    let script = format!("$0 = '{mark}'; sleep 1000");
    let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    for micros in [0, 300, 1000, 3000, 7000, 12000, 20000, 40000] {
        let victim = worker(&machine);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(micros));
            kill(victim);
        });
        match machine.wait(machine.tools.spawn(&command)) {
            Ok(mut child) => assert_eq!(machine.wait(child.wait()).end, End::LauncherDied),
            Err(error) => assert!(matches!(error, SpawnError::Unavailable(_)), "{error}"),
        }
        killer.join().unwrap();
        eventually("the next one works", || {
            machine.wait(machine.tools.run(&machine.shell("true"), Vec::new())).is_ok()
        });
        eventually("nothing is left", || processes_with(&mark) == 0);
    }
}

#[test]
fn without_a_launcher_tools_end_and_none_starts() {
    let machine = Machine::new();
    let mark = format!("bulkhead-monitor-{}", std::process::id());
    let script = format!("$0 = '{mark}'; fork; sleep 1000");
    let sleep = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    let mut child = machine.wait(machine.tools.spawn(&sleep)).unwrap();
    let (monitor, worker) = (monitor(&machine), worker(&machine));
    eventually("it runs", || processes_with(&mark) == 2);
    kill(monitor);
    assert_eq!(machine.wait(child.wait()).end, End::LauncherDied);
    let error = machine.wait(machine.tools.spawn(&sleep)).unwrap_err();
    assert!(matches!(error, SpawnError::Unavailable(_)), "{error}");
    eventually("the worker dies with it", || !PathBuf::from(format!("/proc/{worker}")).exists());
    eventually("its tools die with that", || processes_with(&mark) == 0);
    // Its cgroups are stale now, and the next launcher removes them.
    drop(Machine::new());
    assert_eq!(cgroups_of(monitor), Vec::<PathBuf>::new());
}

#[test]
fn a_host_that_is_killed_leaves_nothing() {
    let mark = format!("bulkhead-host-{}", std::process::id());
    for micros in [0, 2000, 5000, 10000, 30000] {
        let mut host =
            Process::new(PROGRAM).args(["host", &mark]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let launcher: i32 = line.trim().parse().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(micros));
        kill(host.id().cast_signed());
        host.wait().unwrap();
        eventually("its launcher ends", || !is_running(launcher));
        eventually("its tools end", || processes_with(&mark) == 0);
        assert_eq!(cgroups_of(launcher), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_host_that_ends_leaves_no_process_cgroup_or_mount() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let machine = Machine::new();
    let mark = format!("bulkhead-end-{}", std::process::id());
    let script = format!("$0 = '{mark}'; fork; sleep 1000");
    let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    let child = machine.wait(machine.tools.spawn(&command)).unwrap();
    let launcher = monitor(&machine);
    drop(machine);
    drop(child);
    eventually("its launcher ends", || !is_running(launcher));
    assert_eq!(processes_with(&mark), 0);
    assert_eq!(cgroups_of(launcher), Vec::<PathBuf>::new());
    assert_eq!(mounts(), before);
}

/// A zombie does not.
fn is_running(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
