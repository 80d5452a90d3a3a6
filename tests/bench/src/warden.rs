//! The process around the measurements: whatever ends them, nothing of them stays.
//!
//! A peer may put its processes where no guard of ours finds them: pm2 goes into the background. So the
//! measurements run in a child, and this process takes in every orphan below it. When the child ended, by
//! itself, by a panic, by Ctrl-C or by SIGKILL, all of them are killed, and the directory that all temporary
//! files lie in is removed.

use std::env;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use harness::processes;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait as wait_for_any,
    waitpid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Set in the child.
const INSIDE: &str = "BULKHEAD_BENCH_INSIDE";

/// Between two checks of the child.
const LOOK: Duration = Duration::from_millis(20);

/// Exit code when a signal ended the measurements.
const CUT_SHORT: u8 = 130;

/// Whether this process is the one that measures.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program again and measures there.
pub fn watch() -> ExitCode {
    set_child_subreaper(Some(getpid())).expect("take in orphans");
    let asked_to_end = std::sync::Arc::default();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register(signal, std::sync::Arc::clone(&asked_to_end)).expect("take a signal");
    }
    let dir = tempfile::Builder::new().prefix("bulkhead-bench-").tempdir().expect("a directory");
    let program = env::current_exe().expect("path of this program");
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(INSIDE, "1").env("TMPDIR", dir.path());
    let mut child = command.spawn().expect("start the measurements");
    let status = loop {
        if asked_to_end.load(std::sync::atomic::Ordering::Relaxed) {
            break None;
        }
        match ended(&mut child) {
            Some(status) => break Some(status),
            None => std::thread::sleep(LOOK),
        }
    };
    kill_all_below();
    if let Err(error) = dir.close() {
        eprintln!("error: remove the temporary directory: {error}");
    }
    let code = status.and_then(|status| status.code());
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(CUT_SHORT))
}

/// The status of the child if it ended. Reaps orphaned processes on the way.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let own = Pid::from_child(child);
    for orphan in processes::children(getpid()).into_iter().filter(|pid| *pid != own) {
        let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
    }
    child.try_wait().expect("wait for the measurements")
}

/// Until nobody is left: each that dies hands its children over.
fn kill_all_below() {
    loop {
        let children = processes::children(getpid());
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = wait_for_any(WaitOptions::empty());
    }
}

/// A process and all below it.
pub fn tree(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children_of_all_threads(*pid));
        next += 1;
    }
    found
}

/// A runtime with threads starts its children on any of them.
fn children_of_all_threads(pid: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let text: String = texts.collect::<Vec<_>>().join(" ");
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Kills a process and all below it.
pub fn kill_tree(root: Pid) {
    for pid in tree(root) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
