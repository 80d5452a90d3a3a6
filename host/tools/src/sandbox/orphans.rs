//! What a tool leaves. Without a namespace of processes: all descendants of this process, killed one by one.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait, waitpid};

use crate::system::kill_all_others;

/// Rounds against a tool that forks faster than it is killed.
const ROUNDS: usize = 10_000;

/// Kills and reaps children of this process, to which all their descendants fall, until there are none but `spared`.
pub fn kill_all(spared: &[Pid]) {
    for _ in 0..ROUNDS {
        let children: Vec<Pid> =
            children().into_iter().filter(|child| !spared.contains(child)).collect();
        if children.is_empty() {
            return;
        }
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        for child in children {
            let _ = waitpid(Some(child), WaitOptions::empty());
        }
    }
}

/// Kills and reaps all others of the namespace whose first process this is.
pub fn kill_namespace() {
    // None can be made meanwhile: a fork fails while a signal is pending.
    let _ = kill_all_others(Signal::KILL);
    while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
}

fn children() -> Vec<Pid> {
    let me = getpid().as_raw_nonzero();
    let text = fs::read_to_string(format!("/proc/self/task/{me}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
