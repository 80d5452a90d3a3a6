//! What speaks for a cause and against it, read out of black box and surroundings once.

use std::time::Duration;

use bulkhead_types::Timestamp;
use bulkhead_types::previous::{MemoryFigures, RunState};

use super::outside::{Outside, Word};
use super::{Observations, WaitStatus};
use crate::{Fact, Kind, Previous, Record};

/// Share of the limit from which memory is short.
const NEAR_LIMIT: f64 = 0.9;

/// A run that goes on for longer after a panic did not end of it.
const PANIC_TO_END: Duration = Duration::from_secs(60);

/// Samples over which hits of the limit are compared.
const TREND_SAMPLES: usize = 5;

pub(super) const SIGABRT: i32 = 6;
pub(super) const SIGKILL: i32 = 9;

/// Whether SIGKILL ended the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    /// Its parent saw it.
    Seen,
    /// An exit code of 137, which a shell makes of a SIGKILL, and which anybody can exit with.
    Perhaps,
    /// Nobody saw the end.
    Unseen,
    /// It ended otherwise.
    No,
}

/// How the kernel's counter of out-of-memory kills went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OomKills {
    /// From, to.
    Rose(u64, u64),
    Stayed(u64),
    /// It is smaller than it was: not the same counter.
    WentBack,
    Unknown,
}

pub(super) struct Evidence<'a> {
    pub run: &'a Previous,
    pub now: &'a Observations,
    /// How the process ended, as its parent saw it, else as it is said from outside.
    pub wait: Option<WaitStatus>,
    /// What is said from outside.
    pub word: Option<Word>,
    pub killed: Killed,
    /// Nothing when either boot id is not known.
    pub same_boot: Option<bool>,
    pub oom_kills: OomKills,
    pub last: Option<(Timestamp, MemoryFigures)>,
    /// Share of the limit in the last sample.
    pub share: Option<f64>,
    /// Of the last sample: percentage of time in which every task waited for memory.
    pub pressure: Option<f64>,
    /// How often the limit was hit in the last samples.
    pub limit_hits: Option<u64>,
}

impl<'a> Evidence<'a> {
    pub fn of(run: &'a Previous, now: &'a Observations) -> Self {
        let last = run.samples().next_back();
        let figures = last.as_ref().map(|(_, figures)| figures);
        let before = run.run.boot_id.as_ref().zip(now.boot_id.as_ref());
        let outside = now.outside.as_ref();
        let wait = now.wait.or(outside.and_then(Outside::wait));
        Self {
            wait,
            word: outside.and_then(Outside::word),
            killed: match wait {
                Some(WaitStatus::Signaled(SIGKILL)) => Killed::Seen,
                Some(WaitStatus::Exited(137)) => Killed::Perhaps,
                Some(_) => Killed::No,
                None => Killed::Unseen,
            },
            same_boot: before.map(|(then, now)| then == now),
            oom_kills: oom_kills(run, figures, now),
            share: figures.and_then(share),
            pressure: figures.and_then(|figures| figures.psi_full_avg10),
            limit_hits: limit_hits(run, now),
            last,
            run,
            now,
        }
    }

    pub fn is_near_limit(&self) -> bool {
        self.share.is_some_and(|share| share >= NEAR_LIMIT)
    }

    /// A panic that may have ended it: message, place and time.
    pub fn panic(&self) -> Option<String> {
        let last_ts = self.run.last_ts();
        let ended_it = |record: &&Record| {
            record.kind == Kind::Panic && last_ts.since(record.at) <= PANIC_TO_END
        };
        let record = self.run.records.iter().rev().find(ended_it)?;
        let Some(Fact::Panic(panic)) = record.fact() else {
            return Some(format!("it panicked: {}", String::from_utf8_lossy(&record.payload)));
        };
        let place = panic.location.map(|place| format!(" at {place}")).unwrap_or_default();
        Some(format!("{} panicked{place}: {}", panic.name, panic.message))
    }

    /// Why the boot failed, in the run's own words.
    pub fn boot_failure(&self) -> Option<String> {
        self.run.records.iter().rev().find_map(|record| match record.fact()? {
            Fact::BootFailed(failed) => {
                Some(format!("its boot failed in phase {}: {}", failed.phase, failed.message))
            }
            _ => None,
        })
    }

    /// Who asked it to end and when, if somebody did.
    pub fn stop(&self) -> Option<String> {
        let said = self.run.records.iter().find_map(|record| match record.fact()? {
            Fact::StopIntent(stop) => {
                Some(format!("{} asked it to end at {}: {}", stop.by, record.at, stop.reason))
            }
            _ => None,
        });
        let noted =
            || self.run.stop_intent_at.map(|at| format!("somebody asked it to end at {at}"));
        let drained =
            || self.run.has_reached(RunState::Draining).then(|| "it was draining".to_owned());
        said.or_else(noted).or_else(drained)
    }

    /// How much was left of the time that it had for its end, at its last heartbeat.
    pub fn drain_left(&self) -> Option<String> {
        let (at, budget_ms) =
            self.run.records.iter().find_map(|record| match record.fact()? {
                Fact::StopIntent(stop) => Some((record.at, stop.drain_ms?)),
                _ => None,
            })?;
        let budget = Duration::from_millis(budget_ms);
        let left = budget.saturating_sub(self.run.last_ts().since(at));
        let seconds = |time: Duration| time.as_secs_f64().round();
        Some(format!("{} of {} s of its drain were left", seconds(left), seconds(budget)))
    }

    /// How far the boot came.
    pub fn boot_sentence(&self) -> Option<String> {
        let states = self.run.reached.iter().map(|(state, _)| *state);
        let phase = states.filter(|state| *state <= RunState::Hydrated).max()?;
        Some(format!("its boot came no further than {}", phase.as_str()))
    }

    pub fn memory_sentence(&self) -> Option<String> {
        let ((at, _), share) = (self.last.as_ref()?, self.share?);
        Some(format!("memory was at {:.0} % of its limit at {at}", share * 100.0))
    }

    /// What a reader should know whatever the cause is.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let Previous { torn, missing, untracked, .. } = *self.run;
        if untracked > 0 {
            remarks.push(format!("it was at {untracked} more pieces of work than its table holds"));
        }
        if torn > 0 {
            remarks.push(format!("{torn} slots of its black box were half-written or damaged"));
        }
        if missing > 0 {
            remarks.push(format!("{missing} slots of its black box are missing"));
        }
        if self.oom_kills == OomKills::Unknown {
            remarks.push("the kernel's count of out-of-memory kills is not known".into());
        }
        remarks
    }
}

pub(super) fn how_it_ended(wait: Option<WaitStatus>) -> String {
    match wait {
        None => "nobody saw how the process ended".into(),
        Some(WaitStatus::Exited(code)) => format!("the process exited with code {code}"),
        Some(WaitStatus::Signaled(signal)) => format!("signal {signal} ended the process"),
    }
}

/// Kills before the last sample hit somebody else: the run took a sample after them.
///
/// The count of this process's cgroup names the victim's container, but it begins again with the cgroup. A parent that
/// saw the end is in the same group, so then it counts; else that of the machine, which neighbours raise too.
fn oom_kills(run: &Previous, last: Option<&MemoryFigures>, now: &Observations) -> OomKills {
    let compare = |count: fn(&MemoryFigures) -> Option<u64>| {
        let before = last.and_then(count).or(count(&run.run.baseline));
        match (before, count(&now.memory)) {
            (Some(before), Some(now)) if now > before => OomKills::Rose(before, now),
            (Some(before), Some(now)) if now < before => OomKills::WentBack,
            (Some(before), Some(_)) => OomKills::Stayed(before),
            _ => OomKills::Unknown,
        }
    };
    let of_group = now.wait.map(|_| compare(|figures| figures.group_oom_kills));
    match of_group {
        Some(counted @ (OomKills::Rose(..) | OomKills::Stayed(_))) => counted,
        _ => compare(|figures| figures.oom_kills),
    }
}

fn share(figures: &MemoryFigures) -> Option<f64> {
    let (used, limit) = (figures.anon_bytes.or(figures.rss_bytes)?, figures.limit_bytes?);
    (limit > 0).then(|| used as f64 / limit as f64)
}

fn limit_hits(run: &Previous, now: &Observations) -> Option<u64> {
    let hits = |figures: &MemoryFigures| figures.limit_hits;
    let earlier = run.samples().rev().take(TREND_SAMPLES).filter_map(|(_, f)| hits(&f)).last();
    let earlier = earlier.or(run.run.baseline.limit_hits)?;
    let latest = run.samples().next_back().and_then(|(_, f)| hits(&f));
    // Counters of a group that is gone begin again.
    let latest = latest.max(now.memory.limit_hits)?;
    Some(latest.saturating_sub(earlier))
}
