//! The memory of the container at one moment.

use std::time::Duration;

use bulkhead_types::memory::Psi;
use bulkhead_types::previous::MemoryFigures;

/// Share of the limit from which on memory is short.
pub const HIGH_SHARE: f64 = 0.90;

/// Share of the limit below which it is not short any more.
pub const LOW_SHARE: f64 = 0.80;

/// Where a limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSource {
    /// This process's cgroup, version 2.
    Cgroup2,
    /// A group above it.
    Cgroup2Above,
    /// This process's cgroup, version 1.
    Cgroup1,
    /// A group above it.
    Cgroup1Above,
    /// The machine's memory.
    Meminfo,
    /// `memory.budget_mb` of the configuration.
    Budget,
}

impl LimitSource {
    /// The word for it in lines and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup2 => "cgroup2",
            Self::Cgroup2Above => "cgroup2_above",
            Self::Cgroup1 => "cgroup1",
            Self::Cgroup1Above => "cgroup1_above",
            Self::Meminfo => "meminfo",
            Self::Budget => "budget",
        }
    }
}

impl LimitSource {
    /// Whether what is used of it is this container's alone.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Cgroup2 | Self::Cgroup1 | Self::Budget)
    }
}

/// How much memory there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How much.
    pub bytes: u64,
    /// Who says so.
    pub source: LimitSource,
}

/// The memory of the container at one moment. What no source said is absent, which is not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    /// The smallest limit that holds for the container.
    pub limit: Option<Limit>,
    /// What is used of it: bytes that only swapping could free, where the limit holds. With a budget, those
    /// of this process, or what the container's own limit does not have for the budget any more, if that is more.
    pub used_bytes: Option<u64>,
    /// What can still be had before any of the limits is reached.
    pub available_bytes: Option<u64>,
    /// How much time goes by waiting for memory.
    pub psi: Option<Psi>,
    /// Time in which some task waited, since the kernel counts.
    pub stalled: Option<Duration>,
    /// Processes that the kernel killed for memory since the machine booted, whosever they were.
    pub oom_kills: Option<u64>,
    /// Of them, those of this process's cgroup.
    pub group_oom_kills: Option<u64>,
    /// How often the limit of this process's cgroup was hit.
    pub limit_hits: Option<u64>,
    /// Resident bytes of this process.
    pub rss_bytes: Option<u64>,
    /// Of them, those that no file stands behind.
    pub process_anon_bytes: Option<u64>,
}

impl Reading {
    /// The same under a budget of the configuration, where that is smaller than the kernel's limit. Other processes of
    /// this host use `beside_bytes` of it. So does whatever else is in the container, as far as the container's own limit
    /// leaves less than the budget would.
    pub fn within(self, budget_bytes: Option<u64>, beside_bytes: u64) -> Self {
        let smaller = |bytes: &u64| self.limit.is_none_or(|limit| *bytes < limit.bytes);
        let Some(bytes) = budget_bytes.filter(smaller) else { return self };
        let own_limit = self.limit.filter(|limit| limit.source.is_own());
        let container = own_limit.zip(self.used_bytes);
        let elsewhere = container
            .map_or(0, |(limit, used)| bytes.saturating_sub(limit.bytes.saturating_sub(used)));
        let own = self.process_anon_bytes.map(|own| own.saturating_add(beside_bytes));
        let used_bytes = own.map(|own| own.max(elsewhere));
        let left = used_bytes.map(|used| bytes.saturating_sub(used));
        let available_bytes = [left, self.available_bytes].into_iter().flatten().min();
        let limit = Some(Limit { bytes, source: LimitSource::Budget });
        Self { limit, used_bytes, available_bytes, ..self }
    }

    /// Share of the limit that is used, from 0. It can be above 1.
    pub fn used_share(&self) -> Option<f64> {
        let limit = self.limit.filter(|limit| limit.bytes > 0)?;
        Some(self.used_bytes? as f64 / limit.bytes as f64)
    }

    /// Whether so much is used that it could soon be short.
    pub fn is_close(&self) -> bool {
        self.used_share().is_some_and(|share| share >= LOW_SHARE)
    }

    /// Whether so much is used that it is short.
    pub fn is_high(&self) -> bool {
        self.used_share().is_some_and(|share| share >= HIGH_SHARE)
    }

    /// What the black box keeps of it.
    pub fn figures(&self) -> MemoryFigures {
        MemoryFigures {
            rss_bytes: self.rss_bytes,
            limit_bytes: self.limit.map(|limit| limit.bytes),
            anon_bytes: self.used_bytes,
            psi_full_avg10: self.psi.map(|psi| psi.full_avg10),
            oom_kills: self.oom_kills,
            group_oom_kills: self.group_oom_kills,
            limit_hits: self.limit_hits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel_says(limit: u64, used: u64) -> Reading {
        Reading {
            limit: Some(Limit { bytes: limit, source: LimitSource::Meminfo }),
            used_bytes: Some(used),
            available_bytes: Some(limit.saturating_sub(used)),
            process_anon_bytes: Some(30),
            ..Reading::default()
        }
    }

    #[test]
    fn a_smaller_budget_is_judged_by_what_this_process_uses() {
        let reading = kernel_says(1000, 400).within(Some(100), 0);
        assert_eq!(reading.limit, Some(Limit { bytes: 100, source: LimitSource::Budget }));
        assert_eq!((reading.used_bytes, reading.available_bytes), (Some(30), Some(70)));
        assert_eq!(reading.used_share(), Some(0.3));
    }

    #[test]
    fn a_budget_gives_nothing_that_the_kernel_does_not_have() {
        let full = kernel_says(1000, 990);
        assert_eq!(full.within(Some(100), 0).available_bytes, Some(10));
        assert_eq!(full.within(Some(1000), 0), full);
        assert_eq!(full.within(None, 0), full);
    }

    #[test]
    fn a_budget_is_used_as_far_as_its_container_has_no_room_for_it() {
        let container = |used| {
            let limit = Some(Limit { bytes: 500, source: LimitSource::Cgroup2 });
            Reading { limit, ..kernel_says(500, used) }.within(Some(100), 0)
        };
        assert_eq!(container(400).used_bytes, Some(30), "there is room for all of it");
        // A program beside the host, or files in memory.
        assert_eq!(container(440).used_bytes, Some(40));
        assert!(container(490).is_high());
        assert_eq!(container(510).used_bytes, Some(100));
        let machine = kernel_says(500, 490).within(Some(100), 0);
        assert_eq!(
            machine.used_bytes,
            Some(30),
            "what others use of the machine is not this host's"
        );
    }

    #[test]
    fn a_budget_is_a_limit_where_the_kernel_reports_none() {
        let reading = Reading::default().within(Some(5), 0);
        assert_eq!(reading.limit.map(|limit| limit.source), Some(LimitSource::Budget));
        assert_eq!((reading.used_bytes, reading.used_share()), (None, None));
    }
}
