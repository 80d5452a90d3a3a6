//! What the host holds when no agent is active.

use std::fmt;
use std::time::{Duration, Instant};

use harness::metrics::is_empty;
use harness::resident::resident_bytes;
use harness::{Host, PATIENCE};

/// How long the host gets to give back what nobody uses, before what it holds is read.
const SETTLE: Duration = Duration::from_secs(8);

/// Between two readings.
const LOOK: Duration = Duration::from_millis(250);

/// Growth while a supervisor is young that is no leak: rings, caches and heaps fill, by up to 10 MiB in its first
/// four minutes.
const YOUNG_BYTES: u64 = 12 * 1024 * 1024;

/// Growth of an old one that is none: what a heap with another layout of the same things may differ by.
const OLD_BYTES: u64 = 2 * 1024 * 1024;

/// Files and threads that may be there or not: those of pools that begin threads when they need them.
const FEW: usize = 8;

/// Share of growth that is none.
const FLAT: f64 = 0.02;

/// The quiet point at which a supervisor has begun.
const YOUNG: usize = 2;

/// The one at which everything that fills is full.
const OLD: usize = 25;

/// What a supervisor holds at a quiet point.
#[derive(Debug, Clone, Copy, Default)]
pub struct Holdings {
    /// Which one, by its process id.
    pub pid: i32,
    /// Memory of its own, without pages of files.
    pub resident_bytes: u64,
    /// Open files, without those of connections to its own server.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

impl Holdings {
    /// The least that it held within [`SETTLE`], once nothing lived. Says what still lived otherwise.
    pub fn at_quiet_point(host: &Host) -> Result<Self, String> {
        let began = Instant::now();
        while !is_empty(&host.client().metrics()) {
            if began.elapsed() > PATIENCE {
                return Err(format!(
                    "agents are stopped and this is left: {:?}",
                    host.client().metrics()
                ));
            }
            std::thread::sleep(LOOK);
        }
        let mut least = Self::of(host);
        let quiet = Instant::now();
        while quiet.elapsed() < SETTLE {
            std::thread::sleep(LOOK);
            let now = Self::of(host);
            least.resident_bytes = least.resident_bytes.min(now.resident_bytes);
            least.files = least.files.min(now.files);
            least.threads = least.threads.min(now.threads);
        }
        Ok(least)
    }

    fn of(host: &Host) -> Self {
        let pid = host.supervisor_pid().as_raw_nonzero().get();
        let entries =
            |dir: &str| std::fs::read_dir(format!("/proc/{pid}/{dir}")).map_or(0, Iterator::count);
        let resident_bytes = resident_bytes(pid.unsigned_abs());
        Self { pid, resident_bytes, files: entries("fd"), threads: entries("task") }
    }
}

/// What grew from the first quiet points of a supervisor to its last, if anything did.
pub fn growth(points: &[Holdings]) -> Option<String> {
    grown(points, YOUNG, YOUNG_BYTES).or_else(|| grown(points, OLD, OLD_BYTES))
}

/// What grew from this quiet point to the last, by more than so many bytes and its share.
fn grown(points: &[Holdings], from: usize, slack_bytes: u64) -> Option<String> {
    let (before, last) = (points.get(from - 1)?, points.last()?);
    let most = (before.resident_bytes as f64 * (1.0 + FLAT)) as u64 + slack_bytes;
    let what = if last.resident_bytes > most {
        "memory"
    } else if last.files > before.files + FEW || last.threads > before.threads + FEW {
        "files or threads"
    } else {
        return None;
    };
    let count = points.len();
    Some(format!("{what} grew from quiet point {from} to {count}: {before} to {last}"))
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, resident_bytes, files, threads } = self;
        let mib = *resident_bytes as f64 / 1_048_576.0;
        write!(f, "pid {pid}: {mib:.1} MiB, {files} files, {threads} threads")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_past_the_slack_is_found_and_a_first_rise_is_not() {
        let at = |mib: u64| Holdings { resident_bytes: mib << 20, files: 9, ..Holdings::default() };
        assert_eq!(growth(&[at(10), at(60), at(61), at(72)]), None);
        assert!(growth(&[at(10), at(60), at(70), at(74)]).is_some());
        let mut old = vec![at(60); OLD];
        assert_eq!(growth(&old), None);
        old.push(at(64));
        assert!(growth(&old).is_some());
        let files = Holdings { files: 40, ..at(60) };
        assert!(growth(&[at(10), at(60), files]).is_some());
        assert_eq!(growth(&[at(10)]), None);
    }
}
