//! How often the same failure may be logged.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two lines of one fingerprint.
const QUIET: Duration = Duration::from_secs(10);

/// Fingerprints that are remembered. One that is forgotten is logged again.
const KEPT: usize = 256;

/// Holds back lines of one fingerprint that follow each other closely. Reads no clock of its own.
#[derive(Debug, Default)]
pub(crate) struct Repeats(HashMap<String, Logged>);

#[derive(Debug)]
struct Logged {
    at: Instant,
    held_back: u64,
}

impl Repeats {
    /// Lets a line through, with how many were held back since the last one; or holds it back.
    pub(crate) fn take(&mut self, fingerprint: &str, now: Instant) -> Option<u64> {
        if let Some(logged) = self.0.get_mut(fingerprint) {
            if now.saturating_duration_since(logged.at) < QUIET {
                logged.held_back += 1;
                return None;
            }
            logged.at = now;
            return Some(std::mem::take(&mut logged.held_back));
        }
        if self.0.len() >= KEPT {
            let oldest = self.0.iter().min_by_key(|(_, logged)| logged.at);
            if let Some(oldest) = oldest.map(|(fingerprint, _)| fingerprint.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(fingerprint.to_owned(), Logged { at: now, held_back: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_at_once_and_the_next_after_a_while_with_a_count() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert_eq!(repeats.take("a", start), Some(0));
        for _ in 0..5 {
            assert_eq!(repeats.take("a", start + QUIET / 2), None);
        }
        assert_eq!(repeats.take("b", start), Some(0), "another failure is logged");
        assert_eq!(repeats.take("a", start + QUIET), Some(5));
        assert_eq!(repeats.take("a", start + QUIET * 2), Some(0));
    }

    #[test]
    fn no_more_than_so_many_fingerprints_are_kept() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for n in 0..10 * KEPT {
            repeats.take(&n.to_string(), start + Duration::from_millis(n as u64));
        }
        assert_eq!(repeats.0.len(), KEPT);
    }
}
