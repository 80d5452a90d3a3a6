//! How use goes on: a line through samples, and whether to believe it.
//!
//! Memory is taken in steps: a page at least, and an allocator takes several. Least squares is the fit for
//! stairs, because each sample is off by at most a step, in either direction. The median of slopes between
//! pairs (Theil–Sen), which is better against outliers, says 0 as long as most pairs lie on one stair.
//!
//! What least squares cannot show is whether something *goes on* growing. One step in the middle of a window
//! is fitted well by a line that rises, and so is a part of a sawtooth. So growth is believed when
//!
//! - the line explains at least `MIN_FIT` of what is seen, and
//! - each quarter of the window is higher than the one before, the last one by at least `MIN_LAST` of what
//!   the line says, and
//! - no single rise between two samples is more than `MAX_STEP` of all of it: one or two steps are an event,
//!   and not a rate.
//!
//! A leak may begin long after its agent. So the whole window is tried first, then its later half, and so on
//! down to [`MIN_SAMPLES`]; the longest one in which it grows counts, because its line is the surest. Where
//! it grows in none, the trend is that of the whole window.

use std::time::Duration;

use bulkhead_types::memory::MemoryTrend;
use bulkhead_types::time::millis;

/// With fewer samples there is no trend.
pub const MIN_SAMPLES: usize = 8;

/// Share of the variance that a line must explain.
const MIN_FIT: f64 = 0.5;

/// The rise from the third quarter to the last, as a share of what the line says.
const MIN_LAST: f64 = 0.5;

/// The largest rise between two samples, as a share of the range of all.
const MAX_STEP: f64 = 0.4;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// By a clock that only goes forward.
    pub at: Duration,
    /// In use.
    pub bytes: u64,
}

/// The trend of samples, oldest first, and the time that it leaves below `limit_bytes`. `None` with fewer
/// than [`MIN_SAMPLES`], or when no time passed between them.
pub fn trend(points: &[Point], limit_bytes: Option<u64>) -> Option<MemoryTrend> {
    let whole = Line::through(points)?;
    let windows = std::iter::successors(Some(points.len()), |len| Some(len / 2));
    let grown = windows.take_while(|len| *len >= MIN_SAMPLES).find_map(|len| {
        let points = &points[points.len() - len..];
        let line = Line::through(points)?;
        line.grows_on(points).then_some((line, points))
    });
    let (line, window) = grown.unwrap_or((whole, points));
    let (first, last) = (window.first()?, window.last()?);
    let left = |limit: u64| {
        let seconds = limit.saturating_sub(last.bytes) as f64 / line.slope;
        (seconds * 1000.0).min(u64::MAX as f64) as u64
    };
    Some(MemoryTrend {
        bytes_per_minute: (line.slope * 60.0).round() as i64,
        fit: (line.fit * 1000.0).round() / 1000.0,
        samples: window.len(),
        over_ms: millis(last.at.saturating_sub(first.at)),
        grows: grown.is_some(),
        time_left_ms: limit_bytes.filter(|_| grown.is_some()).map(left),
    })
}

/// A line by least squares.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// In bytes a second.
    slope: f64,
    /// Share of the variance that it explains.
    fit: f64,
}

impl Line {
    fn through(points: &[Point]) -> Option<Self> {
        if points.len() < MIN_SAMPLES {
            return None;
        }
        let (mean_x, mean_y) = means(points);
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for point in points {
            let (x, y) = (point.at.as_secs_f64() - mean_x, point.bytes as f64 - mean_y);
            xx += x * x;
            xy += x * y;
            yy += y * y;
        }
        // No time passed between any of them.
        let slope = (xx > 0.0).then(|| xy / xx)?;
        // Nothing changed: the line says all of it.
        let fit = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
        Some(Self { slope, fit: fit.clamp(0.0, 1.0) })
    }

    fn grows_on(&self, points: &[Point]) -> bool {
        if self.slope <= 0.0 || self.fit < MIN_FIT {
            return false;
        }
        let cut = |quarter: usize| points.len() * quarter / 4;
        let quarters: [_; 4] =
            std::array::from_fn(|quarter| means(&points[cut(quarter)..cut(quarter + 1)]));
        let rises = quarters.windows(2).all(|pair| pair[1].1 > pair[0].1);
        let [.., third, last] = quarters;
        rises
            && !is_few_steps(points)
            && last.1 - third.1 >= MIN_LAST * self.slope * (last.0 - third.0)
    }
}

fn is_few_steps(points: &[Point]) -> bool {
    let bytes = points.iter().map(|point| point.bytes);
    let range = bytes.clone().max().unwrap_or(0) - bytes.clone().min().unwrap_or(0);
    let step = bytes.clone().zip(bytes.skip(1)).map(|(one, next)| next.saturating_sub(one)).max();
    step.unwrap_or(0) as f64 > MAX_STEP * range as f64
}

/// In seconds and bytes.
fn means(points: &[Point]) -> (f64, f64) {
    let count = points.len() as f64;
    let x = points.iter().map(|point| point.at.as_secs_f64()).sum::<f64>();
    let y = points.iter().map(|point| point.bytes as f64).sum::<f64>();
    (x / count, y / count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// One sample every 5 s.
    fn every_5_s(bytes: impl IntoIterator<Item = u64>) -> Vec<Point> {
        let at = |n: usize| Duration::from_secs(5 * n as u64);
        bytes.into_iter().enumerate().map(|(n, bytes)| Point { at: at(n), bytes }).collect()
    }

    fn of(bytes: impl IntoIterator<Item = u64>, limit: u64) -> MemoryTrend {
        trend(&every_5_s(bytes), Some(limit)).expect("enough samples")
    }

    fn is_near(found: f64, expected: f64) -> bool {
        (found / expected - 1.0).abs() <= 0.1
    }

    #[test]
    fn a_leak_is_known_within_a_tenth_after_ten_samples() {
        // 1 MiB every 5 s, 54 MiB below the limit.
        let trend = of((1..=10).map(|n| n * MIB), 64 * MIB);
        assert_eq!((trend.bytes_per_minute, trend.samples), (12 * MIB as i64, 10));
        assert_eq!((trend.fit, trend.grows), (1.0, true));
        assert_eq!((trend.time_left_ms, trend.over_ms), (Some(270_000), 45_000));
    }

    #[test]
    fn stairs_of_any_width_up_to_a_sample_are_a_leak() {
        for step in [64 * 1024, 128 * 1024, 300_000] {
            // 60,000 bytes a second, granted in whole steps.
            let trend = of((0..10).map(|n| n * 5 * 60_000 / step * step), 64 * MIB);
            assert!(trend.grows, "{step}: {trend:?}");
            assert!(is_near(trend.bytes_per_minute as f64, 3_600_000.0), "{step}: {trend:?}");
        }
    }

    #[test]
    fn too_few_samples_or_no_time_between_them_are_no_trend() {
        assert_eq!(trend(&every_5_s(0..7), None), None);
        assert_eq!(trend(&[Point { at: Duration::ZERO, bytes: 1 }; 20], None), None);
        assert_eq!(trend(&[], None), None);
    }

    #[test]
    fn what_stays_as_it_is_does_not_grow() {
        let flat = of([MIB; 50], 2 * MIB);
        assert_eq!((flat.bytes_per_minute, flat.fit, flat.grows), (0, 1.0, false));
        assert_eq!(flat.time_left_ms, None);
    }

    #[test]
    fn one_or_two_steps_are_no_growth_wherever_they_are() {
        for len in [10, 17, 40, 120] {
            for step in 0..=len {
                let once = of((0..len).map(|n| if n < step { MIB } else { 5 * MIB }), 64 * MIB);
                assert!(!once.grows, "{len} {step}: {once:?}");
                for second in [1, 2] {
                    let steps = |n| u64::from(n >= step) + second * u64::from(n >= step + 7);
                    let twice = of((0..len).map(|n| MIB * (1 + steps(n))), 64 * MIB);
                    assert!(!twice.grows, "{len} {step}: {twice:?}");
                }
            }
        }
    }

    #[test]
    fn a_saw_of_garbage_and_its_collection_does_not_grow() {
        for period in [5, 6, 9] {
            // As many teeth as there are, and the last one cut anywhere.
            for len in 60..60 + period {
                let saw = of((0..len).map(|n| MIB * (10 + n % period)), 64 * MIB);
                assert!(!saw.grows, "{period} {len}: {saw:?}");
            }
        }
    }

    #[test]
    fn a_saw_that_rises_as_a_whole_grows() {
        let rising = of((0..120_u64).map(|n| MIB * (10 + n) + n % 7 * 3 * MIB), 1024 * MIB);
        assert!(rising.grows && is_near(rising.bytes_per_minute as f64, 12.0 * MIB as f64));
    }

    #[test]
    fn what_comes_to_rest_does_not_grow_any_more() {
        // Half of the rest each time: a cache that fills.
        let full = |n: u32| 64 * MIB - ((64 * MIB) >> n.min(40));
        assert!(!of((0..40).map(full), 128 * MIB).grows);
        // Growth that ended a while ago.
        assert!(!of((0..60_u64).map(|n| n.min(40) * MIB), 128 * MIB).grows);
    }

    #[test]
    fn a_leak_that_begins_late_is_seen_and_has_its_own_rate() {
        let late = of((0..120_u64).map(|n| MIB * (5 + n.saturating_sub(100))), 64 * MIB);
        assert!(late.grows && late.samples <= 30, "{late:?}");
        assert!(late.bytes_per_minute > 8 * MIB as i64, "{late:?}");
    }

    #[test]
    fn what_falls_has_a_trend_and_no_end() {
        let falls = of((0..20).rev().map(|n| n * MIB), 64 * MIB);
        assert_eq!((falls.bytes_per_minute, falls.grows), (-12 * MIB as i64, false));
    }

    #[test]
    fn at_the_limit_no_time_is_left() {
        assert_eq!(of((1..=10).map(|n| n * MIB), 10 * MIB).time_left_ms, Some(0));
        assert_eq!(of((1..=10).map(|n| n * MIB), MIB).time_left_ms, Some(0));
        assert_eq!(trend(&every_5_s(1..=10), None).unwrap().time_left_ms, None);
    }

    proptest! {
        #[test]
        fn noise_never_breaks_anything(
            bytes in prop::collection::vec(any::<u64>(), 0..130),
            limit in any::<Option<u64>>(),
        ) {
            let found = trend(&every_5_s(bytes.iter().copied()), limit);
            prop_assert_eq!(found.is_some(), bytes.len() >= MIN_SAMPLES);
            if let Some(found) = found {
                prop_assert!((0.0..=1.0).contains(&found.fit));
                prop_assert_eq!(found.time_left_ms.is_some(), found.grows && limit.is_some());
            }
        }

        /// Samples come late, and each is off by up to a tenth of what leaks between two.
        #[test]
        fn a_leak_is_found_under_noise(
            rate in 10_000_u64..10_000_000,
            late_ms in prop::collection::vec((0_u64..500, 0_u64..500), 10..120),
        ) {
            let points: Vec<Point> = late_ms.iter().enumerate().map(|(n, (late, off))| {
                let at = n as u64 * 5000 + late;
                Point { at: Duration::from_millis(at), bytes: rate * (at + off) / 1000 }
            }).collect();
            let found = trend(&points, Some(rate * 10_000)).unwrap();
            prop_assert!(found.grows, "{:?}", found);
            prop_assert!(is_near(found.bytes_per_minute as f64, rate as f64 * 60.0), "{:?}", found);
        }
    }
}
