//! `GET /crashes`, `GET /agents/{id}/crashes`.

use std::sync::Arc;

use bulkhead_types::CrashRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most crash records in one answer.
pub const MAX_CRASHES: u64 = 1000;

/// Some crash records.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrashesPage {
    /// Newest first.
    pub crashes: Vec<Arc<CrashRecord>>,
    /// There are more in the direction of the question.
    pub more: bool,
    /// The record that `before` or `after` names is not kept any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cursor_lost: bool,
}
