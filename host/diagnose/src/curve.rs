//! The memory of a run over time.

use crate::read::line::Memory;
use crate::rules::{Curve, Sign};
use crate::runs::{Run, Seen};

/// Samples below which a curve has no shape.
const FEWEST: usize = 4;

/// Near the ceiling: from this share of it on.
const NEAR: f32 = 0.85;

/// Two runs ended at the same height when they differ by less than this share.
const SAME_HEIGHT: f32 = 0.12;

/// A sample and when it was taken.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Milliseconds since 1970.
    pub ts: i64,
    /// What was measured.
    pub memory: Memory,
    /// Where that was seen.
    pub seen: &'a Seen,
}

/// Samples of a run in the order of time.
pub fn samples(run: &Run) -> Vec<Sample<'_>> {
    let seen = run.of(Sign::Memory);
    let mut samples: Vec<_> = seen
        .filter_map(|seen| Some(Sample { ts: seen.cell.last.ts, memory: seen.cell.memory?, seen }))
        .collect();
    samples.sort_by_key(|sample| sample.ts);
    samples
}

/// What a curve is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// At its beginning, in MB: the median of its first fifth.
    pub first_mb: f32,
    /// At its end, in MB: the last sample.
    pub last_mb: f32,
    /// The limit that its last sample says, in MB.
    pub limit_mb: Option<f32>,
    /// It still rose in its last third.
    pub still_rises: bool,
    /// Its highest sample, in MB.
    pub top_mb: f32,
}

impl Shape {
    /// The shape of these samples, when there are enough.
    pub fn of(samples: &[Sample<'_>]) -> Option<Self> {
        if samples.len() < FEWEST {
            return None;
        }
        let median = |part: &[Sample<'_>]| {
            let mut heights: Vec<f32> = part.iter().map(|sample| sample.memory.rss).collect();
            heights.sort_by(f32::total_cmp);
            heights.get(heights.len() / 2).copied().unwrap_or(0.0)
        };
        let count = samples.len();
        let last = samples[count - 1].memory;
        let middle = median(&samples[count / 3..(2 * count).div_ceil(3)]);
        let end = median(&samples[2 * count / 3..]);
        Some(Self {
            first_mb: median(&samples[..count.div_ceil(5)]),
            last_mb: last.rss,
            limit_mb: (last.limit > 0.0).then_some(last.limit),
            still_rises: end > 1.04 * middle,
            top_mb: samples.iter().map(|sample| sample.memory.rss).fold(0.0, f32::max),
        })
    }

    /// Whether it is like that. `others` are the shapes of the town's other runs.
    pub fn is(&self, curve: Curve, others: &[Shape]) -> bool {
        let rises = self.last_mb >= 1.33 * self.first_mb
            && self.last_mb >= 0.9 * self.top_mb
            && self.still_rises;
        match curve {
            Curve::Rises => rises,
            Curve::Doubles => rises && self.last_mb >= 2.0 * self.first_mb,
            Curve::EndsNearCeiling => match self.limit_mb {
                Some(limit) => self.last_mb >= NEAR * limit,
                None => rises && others.iter().any(|other| self.ended_as_high_as(other)),
            },
            Curve::Flat => {
                let low = self.limit_mb.is_none_or(|limit| self.last_mb < NEAR * limit);
                low && !self.still_rises && self.last_mb <= 1.25 * self.first_mb
            }
        }
    }

    fn ended_as_high_as(&self, other: &Self) -> bool {
        other.is(Curve::Rises, &[])
            && (self.last_mb - other.last_mb).abs() <= SAME_HEIGHT * self.last_mb
    }

    /// In words.
    pub fn words(&self) -> String {
        let limit =
            self.limit_mb.map_or_else(String::new, |limit| format!(", limit {limit:.0} MB"));
        format!(
            "from {:.0} MB to {:.0} MB, top {:.0} MB{limit}",
            self.first_mb, self.last_mb, self.top_mb
        )
    }
}
