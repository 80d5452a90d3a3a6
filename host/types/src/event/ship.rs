//! What becomes of the shipped state.

use schemars::JsonSchema;
use serde::Serialize;

/// See [`Event::ShipRestored`](super::Event::ShipRestored).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ShipRestored {
    /// Where it was read.
    pub from: String,
    /// `nothing`: nothing was shipped before; `disk`: this disk has all of it; `shipped`: the database was made from it.
    pub state: &'static str,
    /// Segments that were read.
    pub segments: u64,
    /// Size of the database that was made.
    pub bytes: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// The run that shipped it had shipped everything at its end. If not, what it did last is lost, and numbers of
    /// incarnations are left out.
    pub complete: bool,
    /// Where the database is now that was on this disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<String>,
}

/// See [`Event::ShipFailed`](super::Event::ShipFailed).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ShipFailed {
    /// What went wrong, with the object.
    pub message: String,
}

/// See [`Event::ShipAvailable`](super::Event::ShipAvailable).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ShipAvailable {
    /// How long it was not.
    pub down_ms: u64,
}
