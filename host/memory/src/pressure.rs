//! Whether memory is short: up at the high mark, down only well below it, so that it does not flutter.
//!
//! ```text
//!       use ≥ 90 % of the limit, or some avg10 ≥ 15 %, or the trigger and 300 ms of stalls
//!  normal ──────────────────────────────────────────────────────────────────────────▶ high
//!         ◀──────────────────────────────────────────────────────────────────────────
//!            use < 80 %, and some avg10 < 5 %, and 10 s without the trigger
//! ```
//!
//! The trigger says that it is time to look, and not more: kernels were seen to fire it once when it is set
//! up, and for a few milliseconds of stalls. What the kernel counted since a look two seconds ago decides.

use std::collections::VecDeque;
use std::time::Duration;

use crate::reading::{HIGH_SHARE, LOW_SHARE, Reading};

/// Percentage of time in which some task waits for memory, from which on it is short. The trigger's.
pub const HIGH_PSI: f64 = 15.0;

/// The percentage below which it is not short any more.
const LOW_PSI: f64 = 5.0;

/// Time without the trigger after which it is not short any more: as long as `avg10` looks back.
const CALM: Duration = Duration::from_secs(10);

/// The time that tasks must have waited for the trigger to be believed. The trigger's.
const HIGH_STALL: Duration = Duration::from_millis(300);

/// The time over which that is counted, at least. The trigger's window.
const STALL_WINDOW: Duration = Duration::from_secs(2);

/// Looks that are remembered.
const LOOKS: usize = 4;

/// What crossed a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureSource {
    /// The kernel's trigger.
    Trigger,
    /// The share of time in which some task waits, when it was read.
    Psi,
    /// Use of the limit.
    Used,
}

impl PressureSource {
    /// The word for it in lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "psi_trigger",
            Self::Psi => "psi",
            Self::Used => "used",
        }
    }
}

/// A mark was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// Upward: memory is short now.
    pub high: bool,
    /// What made it short.
    pub source: PressureSource,
}

/// Whether memory is short. Pure.
#[derive(Debug, Default)]
pub struct Pressure {
    /// What made it short.
    high: Option<PressureSource>,
    triggered_at: Option<Duration>,
    /// When the last looks were, and the time that tasks had waited until then. The newest last.
    stalls: VecDeque<(Duration, Duration)>,
}

impl Pressure {
    /// What a reading at `now` makes of it. `triggered`: the kernel's trigger was why it was taken.
    pub fn read(&mut self, now: Duration, reading: &Reading, triggered: bool) -> Option<Crossing> {
        let stalled = self.stalled(now, reading.stalled);
        if triggered && stalled.is_none_or(|stalled| stalled >= HIGH_STALL) {
            self.triggered_at = Some(now);
            return self.rise(PressureSource::Trigger);
        }
        let share = reading.used_share().unwrap_or(0.0);
        let psi = reading.psi.map_or(0.0, |psi| psi.some_avg10);
        if share >= HIGH_SHARE {
            return self.rise(PressureSource::Used);
        }
        if psi >= HIGH_PSI {
            return self.rise(PressureSource::Psi);
        }
        let calm = self.triggered_at.is_none_or(|at| now.saturating_sub(at) >= CALM);
        if share < LOW_SHARE && psi < LOW_PSI && calm {
            return self.high.take().map(|source| Crossing { high: false, source });
        }
        None
    }

    /// Memory is short.
    pub fn is_high(&self) -> bool {
        self.high.is_some()
    }

    /// The time that tasks waited since a check at least a window ago, if there was one; else since the
    /// first look.
    fn stalled(&mut self, now: Duration, total: Option<Duration>) -> Option<Duration> {
        let total = total?;
        let is_old = |(at, _): &&(Duration, Duration)| now.saturating_sub(*at) >= STALL_WINDOW;
        let old = self.stalls.iter().rfind(is_old).or(self.stalls.front()).copied();
        if self.stalls.len() == LOOKS {
            self.stalls.pop_front();
        }
        self.stalls.push_back((now, total));
        Some(total.saturating_sub(old?.1))
    }

    fn rise(&mut self, source: PressureSource) -> Option<Crossing> {
        let crossed = self.high.is_none();
        self.high.get_or_insert(source);
        crossed.then_some(Crossing { high: true, source })
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::memory::Psi;

    use super::*;
    use crate::reading::{Limit, LimitSource};

    fn reading(used_percent: u64, some_avg10: f64) -> Reading {
        Reading {
            limit: Some(Limit { bytes: 100, source: LimitSource::Cgroup2 }),
            used_bytes: Some(used_percent),
            psi: Some(Psi { some_avg10, full_avg10: 0.0 }),
            ..Reading::default()
        }
    }

    fn crossings(readings: &[(u64, f64)]) -> Vec<(usize, bool, &'static str)> {
        let mut pressure = Pressure::default();
        let mut crossings = Vec::new();
        for (n, (used, psi)) in readings.iter().enumerate() {
            let now = Duration::from_secs(2 * n as u64);
            if let Some(crossing) = pressure.read(now, &reading(*used, *psi), false) {
                crossings.push((n, crossing.high, crossing.source.as_str()));
            }
        }
        crossings
    }

    #[test]
    fn use_near_the_mark_does_not_flutter() {
        let found = crossings(&[(50, 0.0), (90, 0.0), (89, 0.0), (91, 0.0), (80, 0.0), (79, 0.0)]);
        assert_eq!(found, [(1, true, "used"), (5, false, "used")]);
    }

    #[test]
    fn waiting_counts_whatever_is_used() {
        let found = crossings(&[(10, 14.9), (10, 15.0), (10, 5.0), (10, 40.0), (10, 4.9)]);
        assert_eq!(found, [(1, true, "psi"), (4, false, "psi")]);
    }

    #[test]
    fn it_is_not_over_while_another_sign_stays() {
        let found = crossings(&[(95, 20.0), (10, 20.0), (95, 0.0), (10, 0.0)]);
        assert_eq!(found, [(0, true, "used"), (3, false, "used")]);
    }

    #[test]
    fn the_trigger_holds_for_ten_seconds() {
        let mut pressure = Pressure::default();
        let at = Duration::from_secs;
        let (source, calm) = (PressureSource::Trigger, reading(1, 0.0));
        let crossing = |high| Some(Crossing { high, source });
        assert_eq!(pressure.read(at(1), &calm, true), crossing(true), "no stalls are reported");
        assert_eq!(pressure.read(at(3), &calm, true), None);
        assert_eq!(pressure.read(at(12), &calm, false), None);
        assert!(pressure.is_high());
        assert_eq!(pressure.read(at(13), &calm, false), crossing(false));
        assert!(!pressure.is_high());
    }

    #[test]
    fn a_trigger_counts_when_tasks_did_wait() {
        let mut pressure = Pressure::default();
        let mut look = |ms: u64, stalled_ms: u64, triggered| {
            let stalled = Some(Duration::from_millis(stalled_ms));
            let reading = Reading { stalled, ..reading(1, 0.0) };
            pressure.read(Duration::from_millis(ms), &reading, triggered).is_some()
        };
        assert!(!look(0, 90_000, false));
        assert!(!look(900, 90_000, true), "fired when it was set up");
        assert!(!look(2_000, 90_004, false));
        assert!(!look(4_000, 90_006, true), "fired for milliseconds");
        assert!(!look(6_000, 90_106, false));
        // 300 ms since the check two seconds before the trigger, which lies between two checks.
        assert!(!look(7_000, 90_305, true));
        assert!(!look(8_000, 90_306, false));
        assert!(look(9_000, 90_605, true));
    }

    #[test]
    fn without_figures_nothing_is_short() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.read(Duration::ZERO, &Reading::default(), false), None);
    }
}
