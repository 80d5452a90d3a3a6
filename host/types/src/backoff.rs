//! How long to wait before something is tried again. Pure: the dice are the caller's.

use std::time::Duration;

/// A bound that doubles with every failure in a row. A pause is a random time below it (full jitter), so that those
/// that failed together are not restarted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first bound.
    pub first: Duration,
    /// The largest bound.
    pub most: Duration,
}

impl Backoff {
    /// A backoff from `first` to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// The bound after so many doublings.
    pub fn bound(&self, doublings: u32) -> Duration {
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }

    /// A pause below the bound. `dice` is between 0 and 1.
    pub fn pause(&self, doublings: u32, dice: f64) -> Duration {
        self.bound(doublings).mul_f64(dice.clamp(0.0, 1.0))
    }

    /// The same for one who was asked to wait: not sooner than that, and past it by a pause of its own, because
    /// others were asked for the same.
    pub fn pause_when_asked(&self, doublings: u32, dice: f64, asked: Option<Duration>) -> Duration {
        asked.unwrap_or_default().saturating_add(self.pause(doublings, dice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

    #[test]
    fn the_bound_doubles_up_to_the_most() {
        let bounds = [0, 1, 2, 5, 6, 31, 32, u32::MAX].map(|doublings| BACKOFF.bound(doublings));
        let ms = [100, 200, 400, 3200, 5000, 5000, 5000, 5000].map(Duration::from_millis);
        assert_eq!(bounds, ms);
    }

    #[test]
    fn a_pause_is_below_the_bound_and_never_before_what_was_asked() {
        assert_eq!(BACKOFF.pause(1, 0.5), Duration::from_millis(100));
        assert_eq!(BACKOFF.pause(1, 7.0), Duration::from_millis(200));
        assert_eq!(BACKOFF.pause(1, -1.0), Duration::ZERO);
        let asked = Some(Duration::from_secs(30));
        assert_eq!(BACKOFF.pause_when_asked(0, 0.5, asked), Duration::from_millis(30_050));
        assert_eq!(BACKOFF.pause_when_asked(0, 0.5, None), Duration::from_millis(50));
    }
}
