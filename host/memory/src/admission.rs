//! Whether there is memory for one more agent.
//!
//! Two questions. What would all agents take if each went to its limit: that is *committed*, and may be as
//! much as the budget times a factor, because most agents never go there. And what is used now: while memory
//! is short nothing comes, or a start would end another agent.

use crate::reading::Reading;

/// What starts may commit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admission {
    /// Of the limit, what is the host's own, as long as it does not hold more.
    pub reserve_bytes: u64,
    /// How often the rest may be committed. From 1.
    pub overcommit: f64,
}

impl Default for Admission {
    /// 64 MiB for the host, which takes 30 to 50, and ten times the rest: an agent that waits holds some
    /// 50 KiB of the 64 MiB that it may.
    fn default() -> Self {
        Self { reserve_bytes: 64 * 1024 * 1024, overcommit: 10.0 }
    }
}

/// Why there is no memory for another agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The limits of all agents together would be more than may be committed.
    Committed {
        /// What is committed without it.
        committed_bytes: u64,
        /// Its limit.
        asked_bytes: u64,
        /// What may be committed.
        budget_bytes: u64,
    },
    /// Memory is short as it is.
    Used {
        /// What is used.
        used_bytes: u64,
        /// The container's limit.
        limit_bytes: u64,
    },
}

impl Admission {
    /// What may be committed under a limit, when the host itself holds `host` bytes. `None` without one: then
    /// everything may.
    pub fn budget_bytes(&self, reading: &Reading, host: u64) -> Option<u64> {
        let rest = reading.limit?.bytes.saturating_sub(self.reserve_bytes.max(host));
        Some((rest as f64 * self.overcommit) as u64)
    }

    /// Whether an agent may come that commits `asked` bytes, beside `committed` bytes of others and `host` bytes
    /// that the host itself holds.
    pub fn admit(
        &self,
        reading: &Reading,
        host: u64,
        committed: u64,
        asked: u64,
    ) -> Result<(), Shortage> {
        match self.budget_bytes(reading, host) {
            Some(budget_bytes) if committed.saturating_add(asked) > budget_bytes => {
                Err(Shortage::Committed {
                    committed_bytes: committed,
                    asked_bytes: asked,
                    budget_bytes,
                })
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Limit, LimitSource};

    const RULES: Admission = Admission { reserve_bytes: 100, overcommit: 2.0 };

    fn limited(bytes: u64) -> Reading {
        let limit = Some(Limit { bytes, source: LimitSource::Meminfo });
        Reading { limit, ..Reading::default() }
    }

    #[test]
    fn the_reserve_is_taken_off_before_the_factor() {
        assert_eq!(RULES.budget_bytes(&limited(600), 99), Some(1000));
        assert_eq!(RULES.admit(&limited(600), 0, 900, 100), Ok(()));
        let refused = RULES.admit(&limited(600), 0, 901, 100).unwrap_err();
        let expected =
            Shortage::Committed { committed_bytes: 901, asked_bytes: 100, budget_bytes: 1000 };
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_limit_below_the_reserve_has_room_for_nobody() {
        assert!(RULES.admit(&limited(50), 0, 0, 1).is_err());
    }

    #[test]
    fn what_the_host_holds_beyond_its_reserve_is_nobody_elses() {
        assert_eq!(RULES.budget_bytes(&limited(600), 300), Some(600));
        assert_eq!(RULES.admit(&limited(600), 300, 500, 100), Ok(()));
        assert!(RULES.admit(&limited(600), 301, 500, 100).is_err());
    }

    #[test]
    fn without_a_limit_everybody_may_come() {
        assert_eq!(RULES.admit(&Reading::default(), 0, u64::MAX, u64::MAX), Ok(()));
    }
}
