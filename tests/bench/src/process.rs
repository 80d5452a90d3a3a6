//! What the host's process uses, from `/proc`.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;

/// Clock ticks of `/proc/PID/stat`: 100 a second on every Linux (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

pub struct Process {
    dir: String,
}

impl Process {
    pub fn of(pid: u32) -> Self {
        Self { dir: format!("/proc/{pid}") }
    }

    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("{}/status", self.dir)).expect("read status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib * 1024
    }

    /// CPU time so far, of all threads.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("{}/stat", self.dir)).expect("read stat");
        // The name may hold blanks; the fields after it do not.
        let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
        let ticks = |n: usize| rest.split(' ').nth(n).and_then(|f| f.parse::<u32>().ok());
        let (user, system) = (ticks(11).expect("utime"), ticks(12).expect("stime"));
        TICK * (user + system)
    }
}

/// The thread of a process that has this name.
pub fn thread(pid: u32, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("read its threads");
    let is_it = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let found = threads.filter_map(Result::ok).find(is_it);
    let number = found.and_then(|entry| entry.file_name().to_str()?.parse().ok());
    number.and_then(Pid::from_raw).expect("a thread of this name")
}
