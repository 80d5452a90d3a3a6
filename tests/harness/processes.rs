//! What `/proc` says of a process.

use std::time::Duration;

use rustix::process::Pid;

/// Whether a process is there and not only the memory of one that nobody waited for.
pub fn is_alive(pid: Pid) -> bool {
    matches!(state(pid), Some(state) if state != 'Z' && state != 'X')
}

/// Whether there is any trace of a process.
pub fn is_known(pid: Pid) -> bool {
    state(pid).is_some()
}

/// The parent of a process that is there.
pub fn parent(pid: Pid) -> Option<Pid> {
    Pid::from_raw(field(pid, 1)?.parse().ok()?)
}

/// The children of a process, of its main thread.
pub fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// The children of a process, of all its threads.
pub fn all_children(pid: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let text = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let text: Vec<_> = text.map(Result::unwrap_or_default).collect();
    let pids = text.iter().flat_map(|text| text.split_whitespace());
    pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// CPU time that the threads of this name have used, of a process that none of them has left.
pub fn thread_cpu(pid: u32, name: &str) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let used_ns = tasks.filter_map(|task| {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).ok();
        let is_one = read("comm")?.trim() == name;
        let used = read("schedstat")?.split_whitespace().next()?.parse::<u64>().ok();
        used.filter(|_| is_one)
    });
    Duration::from_nanos(used_ns.sum())
}

fn state(pid: Pid) -> Option<char> {
    field(pid, 0)?.chars().next()
}

/// A field of `/proc/<pid>/stat`, counted from the one after the name, which may hold anything.
fn field(pid: Pid, index: usize) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(index).map(str::to_owned)
}
