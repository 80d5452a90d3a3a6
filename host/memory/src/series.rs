//! Samples at two resolutions, fine and recent, coarse and old, in a bounded space.
//!
//! All series of a [`crate::Sampler`] are sampled in the same sweeps, so the times are kept once for all
//! (`Times`) and a series is numbers alone: the last one belongs to the last sweep, the one before to the
//! one before.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples of the fine resolution: ten minutes of one every 5 s.
pub const FINE: usize = 120;

/// Samples of the coarse resolution: three hours of one a minute.
pub const COARSE: usize = 180;

/// Sweeps that make one coarse sample, which is the largest of them.
pub const SWEEPS_IN_COARSE: u64 = 12;

/// A ring of numbers that takes space as it fills, up to a bound. The oldest goes first.
#[derive(Debug, Clone)]
struct Ring {
    numbers: Vec<u32>,
    /// Where the oldest is, once the ring is full.
    oldest: u16,
    bound: u16,
}

/// Samples that stay beside what a sweep looks at anyway, until they go to the others together.
const AT_HAND: usize = 8;

/// Sizes in KiB, one for each sweep.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    fine: Ring,
    /// The newest of the fine resolution, oldest first.
    newest: [u32; AT_HAND],
    at_hand: u8,
    coarse: Ring,
    /// The largest since the last coarse sample.
    largest: u32,
}

/// When the sweeps were.
#[derive(Debug, Default)]
pub(crate) struct Times {
    sweeps: u64,
    fine: VecDeque<Duration>,
    coarse: VecDeque<Duration>,
}

/// Nothing lived that could have been sampled.
const NOTHING: u32 = u32::MAX;

impl Ring {
    fn new(bound: usize) -> Self {
        Self { numbers: Vec::new(), oldest: 0, bound: bound as u16 }
    }

    fn push(&mut self, number: u32) {
        let bound = usize::from(self.bound);
        if self.numbers.len() < bound {
            if self.numbers.len() == self.numbers.capacity() {
                // Doubling by itself would go past the bound.
                let more = self.numbers.len().max(8).min(bound - self.numbers.len());
                self.numbers.reserve_exact(more);
            }
            self.numbers.push(number);
            return;
        }
        self.numbers[usize::from(self.oldest)] = number;
        self.oldest = (self.oldest + 1) % self.bound;
    }

    /// Counted from the oldest.
    fn get(&self, n: usize) -> u32 {
        self.numbers[(usize::from(self.oldest) + n) % self.numbers.len()]
    }
}

impl Series {
    pub(crate) fn new() -> Self {
        Self {
            fine: Ring::new(FINE),
            newest: [NOTHING; AT_HAND],
            at_hand: 0,
            coarse: Ring::new(COARSE),
            largest: NOTHING,
        }
    }

    /// Adds the sample of the sweep under way. It is kept in whole KiB, up to 4 TiB.
    pub(crate) fn push(&mut self, bytes: Option<u64>, times: &Times) {
        let kib = bytes.map_or(NOTHING, |bytes| {
            u32::try_from(bytes / 1024).unwrap_or(NOTHING).min(NOTHING - 1)
        });
        self.newest[usize::from(self.at_hand)] = kib;
        self.at_hand += 1;
        if usize::from(self.at_hand) == AT_HAND {
            self.newest.iter().for_each(|kib| self.fine.push(*kib));
            self.at_hand = 0;
        }
        self.largest = match (self.largest, kib) {
            (NOTHING, other) | (other, NOTHING) => other,
            (one, other) => one.max(other),
        };
        if times.ends_coarse() {
            self.coarse.push(std::mem::replace(&mut self.largest, NOTHING));
        }
    }

    /// Time and bytes of the fine samples, oldest first.
    pub(crate) fn fine<'a>(
        &'a self,
        times: &'a Times,
    ) -> impl DoubleEndedIterator<Item = (Duration, u64)> + 'a {
        let (before, at_hand) = (self.fine.numbers.len(), usize::from(self.at_hand));
        let sample = move |n| match n {
            n if n < before => self.fine.get(n),
            n => self.newest[n - before],
        };
        sampled(before + at_hand, sample, &times.fine)
    }

    /// The same of the coarse ones. Each has the time of its last sweep.
    pub(crate) fn coarse<'a>(
        &'a self,
        times: &'a Times,
    ) -> impl DoubleEndedIterator<Item = (Duration, u64)> + 'a {
        sampled(self.coarse.numbers.len(), |n| self.coarse.get(n), &times.coarse)
    }

    /// Space that it takes beside itself.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        (self.fine.numbers.capacity() + self.coarse.numbers.capacity()) * size_of::<u32>()
    }
}

/// So many samples, oldest first, with their times. The last of both belong together.
fn sampled<'a>(
    samples: usize,
    sample: impl Fn(usize) -> u32 + 'a,
    times: &'a VecDeque<Duration>,
) -> impl DoubleEndedIterator<Item = (Duration, u64)> + 'a {
    let both = times.len().min(samples);
    let (first, first_time) = (samples - both, times.len() - both);
    (0..both)
        .map(move |n| (times[first_time + n], sample(first + n)))
        .filter(|(_, kib)| *kib != NOTHING)
        .map(|(at, kib)| (at, u64::from(kib) * 1024))
}

impl Times {
    /// A sweep begins.
    pub(crate) fn begin(&mut self, at: Duration) {
        self.sweeps += 1;
        keep(&mut self.fine, at, FINE);
        if self.ends_coarse() {
            keep(&mut self.coarse, at, COARSE);
        }
    }

    /// Sweeps so far, with the one under way.
    pub(crate) fn sweeps(&self) -> u64 {
        self.sweeps
    }

    fn ends_coarse(&self) -> bool {
        self.sweeps.is_multiple_of(SWEEPS_IN_COARSE)
    }
}

fn keep(times: &mut VecDeque<Duration>, at: Duration, bound: usize) {
    if times.len() == bound {
        times.pop_front();
    }
    times.push_back(at);
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn sweep(times: &mut Times, all: &mut [&mut Series], second: u64, kib: Option<u64>) {
        times.begin(Duration::from_secs(second));
        for series in all {
            series.push(kib.map(|kib| kib * KIB), times);
        }
    }

    fn seconds_and_kib(samples: impl Iterator<Item = (Duration, u64)>) -> Vec<(u64, u64)> {
        samples.map(|(at, bytes)| (at.as_secs(), bytes / KIB)).collect()
    }

    #[test]
    fn the_last_ten_minutes_are_fine_and_the_last_hours_coarse() {
        let (mut times, mut series) = (Times::default(), Series::new());
        // Four hours, one sample every 5 s.
        for n in 1..=4 * 720 {
            sweep(&mut times, &mut [&mut series], n * 5, Some(n));
        }
        let fine = seconds_and_kib(series.fine(&times));
        assert_eq!((fine.len(), fine[0]), (FINE, ((2880 - 119) * 5, 2880 - 119)));
        assert_eq!(*fine.last().unwrap(), (4 * 3600, 2880));
        let coarse = seconds_and_kib(series.coarse(&times));
        assert_eq!((coarse.len(), coarse[0]), (COARSE, (61 * 60, 61 * 12)));
        assert_eq!(*coarse.last().unwrap(), (4 * 3600, 2880));
    }

    #[test]
    fn a_series_that_came_later_has_the_times_of_its_own_samples() {
        let (mut times, mut old, mut young) = (Times::default(), Series::new(), Series::new());
        for n in 1..=20 {
            sweep(&mut times, &mut [&mut old], n, Some(n));
        }
        sweep(&mut times, &mut [&mut old, &mut young], 21, Some(7));
        assert_eq!(seconds_and_kib(young.fine(&times)), [(21, 7)]);
        assert_eq!(seconds_and_kib(young.coarse(&times)), []);
        assert_eq!(old.fine(&times).count(), 21);
    }

    #[test]
    fn a_coarse_sample_is_the_largest_of_its_time_and_gaps_stay_gaps() {
        let (mut times, mut series) = (Times::default(), Series::new());
        for n in 1..=SWEEPS_IN_COARSE * 3 {
            let kib = (n <= SWEEPS_IN_COARSE).then_some(if n == 5 { 99 } else { n });
            sweep(&mut times, &mut [&mut series], n, kib);
        }
        assert_eq!(seconds_and_kib(series.coarse(&times)), [(SWEEPS_IN_COARSE, 99)]);
        assert_eq!(series.fine(&times).count() as u64, SWEEPS_IN_COARSE);
    }

    #[test]
    fn space_grows_with_the_samples_and_ends_at_its_bound() {
        let (mut times, mut series) = (Times::default(), Series::new());
        sweep(&mut times, &mut [&mut series], 1, Some(1));
        assert!(series.heap_bytes() <= 64, "{}", series.heap_bytes());
        for n in 2..10_000 {
            sweep(&mut times, &mut [&mut series], n, Some(n));
        }
        assert_eq!(series.heap_bytes(), (FINE + COARSE) * 4);
    }

    #[test]
    fn what_is_larger_than_a_sample_can_say_is_the_largest_that_it_can() {
        let (mut times, mut series) = (Times::default(), Series::new());
        times.begin(Duration::ZERO);
        series.push(Some(u64::MAX), &times);
        assert_eq!(
            series.fine(&times).next(),
            Some((Duration::ZERO, (u64::from(u32::MAX) - 1) * 1024))
        );
    }
}
