//! Times in which the machine itself stood still.
//!
//! A hypervisor bounds the CPU time of a virtual machine together with that of its disks. When a program computes on all cores and
//! another writes, it takes cores away for tens of milliseconds, and what the kernel meant to run there waits: it does not
//! know. That is no doing of the host, so it is taken out of what a message took, and the report says how much it was.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// From one look of a core to the next.
const LOOK: Duration = Duration::from_micros(500);

/// A core that looks so much later was away.
const AWAY: Duration = Duration::from_micros(500);

/// As the kernel counts them in `/proc/stat`.
const TICK: Duration = Duration::from_millis(10);

type Span = (Instant, Instant);

/// Threads that look at the clock, one on each core, before all others there.
pub struct Watch {
    over: Arc<AtomicBool>,
    cores: Vec<JoinHandle<Core>>,
}

/// What a core missed, and how much of it the hypervisor says it took.
struct Core {
    away: Vec<Span>,
    stolen: Duration,
}

/// When a core was away, in order, without overlaps.
pub struct Freezes(Vec<Span>);

impl Watch {
    pub fn begin() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let allowed = sched_getaffinity(None).expect("the cores of this process");
        let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let cores = cores.map(|core| {
            let over = Arc::clone(&over);
            spawn(move || look(core, &over))
        });
        Self { cores: cores.collect(), over }
    }

    /// Without a core that missed more than the hypervisor took: then it was something in the machine.
    pub fn end(self) -> Freezes {
        self.over.store(true, Ordering::Relaxed);
        let cores = self.cores.into_iter().map(|core| core.join().expect("a look at the clock"));
        let frozen = cores.filter(|core| total(&core.away) <= core.stolen * 5 / 4 + TICK);
        Freezes::of(frozen.flat_map(|core| core.away).collect())
    }
}

impl Freezes {
    fn of(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut().filter(|last| span.0 <= last.1) {
                Some(last) => last.1 = last.1.max(span.1),
                None => merged.push(span),
            }
        }
        Self(merged)
    }

    pub fn total(&self) -> Duration {
        total(&self.0)
    }

    /// How much of a time they were.
    pub fn within(&self, from: Instant, to: Instant) -> Duration {
        let parts = self.0.iter().map(|span| (span.0.max(from), span.1.min(to)));
        parts.map(|(from, to)| to.saturating_duration_since(from)).sum()
    }
}

fn look(core: usize, over: &AtomicBool) -> Core {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).expect("stay on a core");
    before_all_others();
    let (before, mut away, mut last) = (stolen(core), Vec::new(), Instant::now());
    while !over.load(Ordering::Relaxed) {
        sleep(LOOK);
        let now = Instant::now();
        if now - last > LOOK + AWAY {
            away.push((last + LOOK, now));
        }
        last = now;
    }
    Core { away, stolen: stolen(core).saturating_sub(before) }
}

/// Without the right to do this, what other programs take counts as well on a busy core, and the hypervisor contradicts it.
fn before_all_others() {
    let _ = rustix::process::setpriority_process(Some(gettid()), -20);
    let thread = gettid().as_raw_nonzero().to_string();
    let _ =
        Command::new("chrt").args(["--fifo", "--pid", "1", &thread]).stderr(Stdio::null()).status();
}

fn total(spans: &[Span]) -> Duration {
    spans.iter().map(|(from, to)| *to - *from).sum()
}

/// CPU time of a core that a hypervisor gave to others, since the start of the machine.
fn stolen(core: usize) -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let line = stat.lines().find(|line| line.starts_with(&name));
    let ticks = line.and_then(|line| line.split_whitespace().nth(8)?.parse().ok());
    TICK * ticks.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_core_missed_counts_once() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let spans = vec![(at(20), at(55)), (at(90), at(99)), (at(10), at(30)), (at(22), at(24))];
        let freezes = Freezes::of(spans);
        assert_eq!(freezes.0, [(at(10), at(55)), (at(90), at(99))]);
        assert_eq!(freezes.total(), Duration::from_millis(54));
        assert_eq!(freezes.within(at(50), at(95)), Duration::from_millis(10));
        assert_eq!(freezes.within(at(56), at(89)), Duration::ZERO);
    }
}
