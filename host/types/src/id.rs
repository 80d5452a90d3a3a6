//! Names that were checked once.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Longest agent id, in bytes. An id becomes a directory name, and file systems stop at 255.
pub const MAX_AGENT_ID_BYTES: usize = 128;

/// Names one agent of this container across all its incarnations.
///
/// 1 to [`MAX_AGENT_ID_BYTES`] characters of `A-Z a-z 0-9 . _ : -`, the first one a letter or a
/// digit, so that an id is safe as a path segment, in a URL and in a log line. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(Arc<str>);

/// Why a text is no agent id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("agent id is empty")]
    Empty,
    /// Longer than [`MAX_AGENT_ID_BYTES`].
    #[error("agent id has {bytes} bytes, at most {MAX_AGENT_ID_BYTES} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character outside the set.
    #[error(
        "agent id has {found:?} at byte {at}; allowed are A-Z a-z 0-9 . _ : - and a letter or digit first"
    )]
    Character {
        /// The first offending character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

impl AgentId {
    /// Checks `text` against the rule above.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX_AGENT_ID_BYTES {
            return Err(IdError::TooLong { bytes: text.len() });
        }
        for (at, found) in text.char_indices() {
            let allowed = found.is_ascii_alphanumeric() || (at > 0 && "._:-".contains(found));
            if !allowed {
                return Err(IdError::Character { found, at });
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether the two are clones of one: a yes without a look at the text. A no says nothing.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AgentId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for AgentId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Counts the incarnations of an agent id upward from 1. Never reused, over runs of the host neither.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of a component's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a digest is 64 hex digits"))
    }
}

impl Digest {
    /// Reads 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
        }
        Some(Self(bytes))
    }

    /// The digest of two digests, in this order.
    #[must_use]
    pub fn of_both(first: Self, second: Self) -> Self {
        Self(Sha256::new().chain_update(first.0).chain_update(second.0).finalize().into())
    }
}

impl JsonSchema for AgentId {
    fn schema_name() -> Cow<'static, str> {
        "AgentId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$" })
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_ids_pass() {
        for id in ["mayor", "polecat-7", "rig:bead.3_x", "0", &"a".repeat(128)] {
            assert_eq!(AgentId::parse(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn a_digest_reads_back_and_nothing_else_does() {
        let digest = Digest(std::array::from_fn(|n| n as u8 * 8 + 5));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for bad in ["", "00", &"g0".repeat(32), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(Digest::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_id_that_could_leave_its_directory_is_refused() {
        for id in ["..", ".hidden", "a/b", "a\\b", "a\0b", "a b", "ä", "-x"] {
            assert!(matches!(AgentId::parse(id), Err(IdError::Character { .. })), "{id:?}");
        }
        assert_eq!(AgentId::parse(""), Err(IdError::Empty));
        assert_eq!(AgentId::parse(&"a".repeat(10_000)), Err(IdError::TooLong { bytes: 10_000 }));
    }
}
