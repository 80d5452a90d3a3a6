//! Limits of memory, and what is done near them: `[memory]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use bulkhead_memory::{Admission, MemoryConfig};
use toml::Spanned;

use super::file::{self, Count, Mebibytes};
use super::problem::{Problem, within};

/// How memory is watched.
#[derive(Debug, Clone, Copy)]
pub struct MemorySettings {
    /// Limits, and what is done near them.
    pub config: MemoryConfig,
    /// Between two lines of `container.memory_usage`.
    pub report: Duration,
}

/// Bounds of `memory.overcommit`.
const OVERCOMMIT: RangeInclusive<f64> = 1.0..=1000.0;

/// Bounds of both times of `[memory]`, in milliseconds: a tenth of a second to ten minutes.
const MEMORY_MS: RangeInclusive<u64> = 100..=600_000;

pub(super) fn memory(memory: &file::Memory) -> Result<MemorySettings, Problem> {
    let time = |key: &str, given: &Option<Spanned<Count>>, default: u64| {
        let Some(given) = given else { return Ok(Duration::from_millis(default)) };
        let ms = Spanned::new(given.span(), given.get_ref().0);
        within(&format!("memory.{key}"), &ms, MEMORY_MS).map(Duration::from_millis)
    };
    let mut admission = Admission::default();
    if let Some(mb) = memory.reserve_mb {
        admission.reserve_bytes = mb.mebibytes();
    }
    if let Some(overcommit) = &memory.overcommit {
        admission.overcommit = within("memory.overcommit", overcommit, OVERCOMMIT)?;
    }
    let config = MemoryConfig {
        budget_bytes: memory.budget_mb.map(Mebibytes::mebibytes),
        sample: time("sample_ms", &memory.sample_ms, 5_000)?,
        sheds: memory.shed.unwrap_or(true),
        admission,
    };
    Ok(MemorySettings { config, report: time("report_ms", &memory.report_ms, 30_000)? })
}
