//! What becomes of evidence at its sink.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{Cause, Confidence, Timestamp};

/// See [`Event::EvidenceFound`](super::Event::EvidenceFound).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EvidenceFound {
    /// The sink, without credentials.
    pub sink: String,
    /// How long the boot waited for it.
    pub duration_ms: u64,
    /// The newest run that the sink has; null without any.
    pub previous_run_id: Option<String>,
    /// When that run last stored anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Timestamp>,
    /// Whose word counts about that run: `disk`, which has its black box or a newer one; `sink`, which is newer than
    /// the disk; `nobody` without a run.
    pub believed: &'static str,
    /// Crash records that the disk did not have.
    pub crash_records: usize,
    /// Agents whose numbers or histories the disk did not have.
    pub agents: usize,
    /// Documents that are not believed, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
}

/// See [`Event::EvidenceFailed`](super::Event::EvidenceFailed).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EvidenceFailed {
    /// `fetch` or `store`.
    pub doing: &'static str,
    /// What kind of failure: `deadline`, `connect`, `protocol`, `refused`, `full` or `disk`.
    pub cause: &'static str,
    /// What went wrong.
    pub message: String,
    /// Groups failures of one cause.
    pub fingerprint: String,
    /// How often this fingerprint was held back since its last line.
    pub repeated: u64,
}

/// See [`Event::EvidenceAvailable`](super::Event::EvidenceAvailable).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EvidenceAvailable {
    /// How long it did not.
    pub down_ms: u64,
}

/// See [`Event::EvidenceLate`](super::Event::EvidenceLate).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EvidenceLate {
    /// The run.
    pub previous_run_id: String,
    /// Why it ended, as its evidence says.
    pub cause: Cause,
    /// How sure that is.
    pub confidence: Confidence,
    /// What speaks for it.
    pub evidence: Vec<String>,
    /// Crash records that came with it.
    pub crash_records: usize,
}
