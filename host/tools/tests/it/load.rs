//! Many tools at once, started and dropped at any moment.

use std::fs;

use bulkhead_tools::{End, Layer, Settings};
use rustix::process::{Pid, getpriority_process};

use crate::machine::{Machine, cgroups_of, children_of, eventually, processes_with, slowness};

#[test]
fn each_of_many_has_its_own_end() {
    // They start within the 30 s for which a caller waits, on a slow machine too.
    let many = 64 / slowness().min(8).cast_signed();
    let machine = Machine::with(&Settings { tools: 64, ..Settings::default() });
    let ends = machine.wait(async {
        let mut set = tokio::task::JoinSet::new();
        for code in 0..many {
            let tools = machine.tools.clone();
            let command = machine.shell(&format!("echo {code}; exit {code}"));
            set.spawn(async move { (code, tools.run(&command, Vec::new()).await.unwrap()) });
        }
        set.join_all().await
    });
    assert_eq!(ends.len(), many as usize);
    for (code, finished) in ends {
        assert_eq!(finished.ended.end, End::Exited(code));
        assert_eq!(finished.stdout, format!("{code}\n").into_bytes());
    }
}

#[test]
fn a_launcher_does_not_grow_and_loses_nothing_when_starts_are_dropped() {
    let machine = Machine::with(&Settings { tools: 8, ..Settings::default() });
    let mark = format!("bulkhead-drop-{}", std::process::id());
    let script = format!("$0 = '{mark}'; fork; sleep 1000");
    let command = machine.command("/usr/bin/env", &["perl", "-e", &script]);
    let worker = || crate::machine::children_of(machine.launcher)[0];
    let files = || fs::read_dir(format!("/proc/{}/fd", worker())).unwrap().count();
    let start = |micros| {
        let within = std::time::Duration::from_micros(micros);
        let run = machine.tools.run(&command, Vec::new());
        let _ = machine.wait(async { tokio::time::timeout(within, run).await });
    };
    (0..8).for_each(|_| start(50_000));
    eventually("they end", || processes_with(&mark) == 0);
    // Each of sixteen user ids, twice as many as tools, keeps a root and the map of its workspace.
    let before = files();
    for round in 0..60 {
        start(round * 700);
    }
    eventually("they end", || processes_with(&mark) == 0);
    eventually("descriptors are closed", || files() <= before + 32);
    // And there is room for eight.
    let children = std::cell::RefCell::new(Vec::new());
    eventually("room", || {
        children.borrow_mut().extend(machine.wait(machine.tools.spawn(&command)));
        children.borrow().len() == 8
    });
}

#[test]
fn all_tools_together_have_a_small_share_of_the_processors() {
    let machine = Machine::new();
    if !machine.has(&[Layer::Cgroup]) {
        return;
    }
    let share = |dir: &std::path::PathBuf| {
        let number = |file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok();
        let of_1024 = |weight: u64| weight * 1024 / 100;
        number("cpu.shares").or_else(|| number("cpu.weight").map(of_1024))
    };
    let shares: Vec<u64> = cgroups_of(machine.launcher).iter().filter_map(share).collect();
    if shares.is_empty() {
        return support::skip(support::Need::CpuShares, "no controller shares processors here");
    }
    assert!(shares.iter().all(|it| *it <= 205), "{shares:?} of 1024");
}

#[test]
fn starts_wait_for_agents_and_tools_for_starts() {
    let machine = Machine::new();
    let nice = |pid| getpriority_process(Pid::from_raw(pid)).unwrap();
    let (own, worker) = (nice(0), nice(children_of(machine.launcher)[0]));
    let tool: i32 = machine.output("nice").trim().parse().unwrap();
    // The monitor has to start a worker in time.
    assert_eq!(nice(machine.launcher), own);
    assert_eq!((worker, tool), ((own + 5).min(19), (own + 10).min(19)));
}
