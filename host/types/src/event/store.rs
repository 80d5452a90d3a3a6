//! What becomes of the database.

use schemars::JsonSchema;
use serde::Serialize;

/// See [`Event::StoreSetAside`](super::Event::StoreSetAside).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct StoreSetAside {
    /// What was found.
    pub reason: String,
    /// Where it is now, unless it was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<String>,
    /// One that was set aside long ago and had to make room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
}

/// See [`Event::StoreUnavailable`](super::Event::StoreUnavailable).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct StoreUnavailable {
    /// What went wrong.
    pub reason: String,
    /// Whether it is tried again.
    pub retries: bool,
}

/// See [`Event::StoreAvailable`](super::Event::StoreAvailable).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct StoreAvailable {
    /// Crash records that waited and are written.
    pub crash_records_written: u64,
    /// Crash records that had to make room for newer ones. The log has them.
    pub crash_records_dropped: u64,
}
