//! Whatever dies, no tool outlives it, and nothing is left.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::thread;
use std::time::Duration;

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

/// `TOOLS_KILLS` moments, or so many as usual, spread over a bit more than the start of a tool takes.
fn moments(usual: u64) -> impl Iterator<Item = Duration> {
    let kills = std::env::var("TOOLS_KILLS").map_or(usual, |kills| kills.parse().unwrap());
    (0..kills).map(|number| Duration::from_micros(number * 7919 % 40_000))
}

/// Kills a process in so long from now.
fn kill_in(moment: Duration, pid: i32) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        thread::sleep(moment);
        kill(pid);
    })
}

/// Starts a tool, whose launcher is about to die.
fn meet_its_death(machine: &Machine, command: &bulkhead_tools::Command) {
    match machine.wait(machine.tools.spawn(command)) {
        Ok(mut child) => assert_eq!(machine.wait(child.wait()).end, End::LauncherDied),
        Err(error) => assert!(matches!(error, SpawnError::Unavailable(_)), "{error}"),
    }
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
    let mark = format!("bulkhead-moment-{}", std::process::id());
    let script = format!("$0 = '{mark}'; sleep 1000");
    let moments: Vec<_> = moments(8).collect();
    // A launcher gives up after ten workers in a row that die young.
    for moments in moments.chunks(8) {
        let machine = Machine::new();
        let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
        for moment in moments {
            let killer = kill_in(*moment, worker(&machine));
            meet_its_death(&machine, &command);
            killer.join().unwrap();
            eventually("the next one works", || {
                machine.wait(machine.tools.run(&machine.shell("true"), Vec::new())).is_ok()
            });
            eventually("nothing is left", || processes_with(&mark) == 0);
        }
    }
}

#[test]
fn a_monitor_that_dies_at_any_moment_leaves_nothing() {
    let mark = format!("bulkhead-watch-{}", std::process::id());
    let script = format!("$0 = '{mark}'; sleep 1000");
    for moment in moments(8) {
        let machine = Machine::new();
        let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
        let (monitor, worker) = (monitor(&machine), worker(&machine));
        let killer = kill_in(moment, monitor);
        meet_its_death(&machine, &command);
        killer.join().unwrap();
        eventually("the worker dies with it", || !is_running(worker));
        eventually("its tools die with that", || processes_with(&mark) == 0);
        drop(machine);
        drop(Machine::new());
        assert_eq!(cgroups_of(monitor), Vec::<PathBuf>::new());
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
    for moment in moments(5) {
        let mut host =
            Process::new(PROGRAM).args(["host", &mark]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let launcher: i32 = line.trim().parse().unwrap();
        thread::sleep(moment);
        kill(host.id().cast_signed());
        host.wait().unwrap();
        eventually("its launcher ends", || !is_running(launcher));
        eventually("its tools end", || processes_with(&mark) == 0);
        assert_eq!(cgroups_of(launcher), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_host_that_ends_leaves_no_process_cgroup_or_mount() {
    let machine = Machine::new();
    let workspace = machine.workspace.path().display().to_string();
    // Other tests mount things of their own beside this one.
    let mounts = || {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = |line: &&str| line.contains("bulkhead") || line.contains(&workspace);
        all.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = mounts();
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
