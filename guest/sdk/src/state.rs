//! Snapshots that know their version.
//!
//! A snapshot may be read by a newer version of the agent, or, after a rollback, by an older one. So
//! it is JSON of the form `{"version": 1, "state": …}`, and [`load`] hands a state of an older
//! version to a function that brings it up to date.
//!
//! ```
//! use bulkhead_guest::state;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Notes { lines: Vec<String> }
//!
//! let bytes = state::save(2, &Notes { lines: vec![] })?;
//! let notes: Notes = state::load(&bytes, 2, |version, old| match version {
//!     1 => Ok(serde_json::json!({ "lines": [old] })),
//!     _ => Err(state::StateError::Unknown { version, newest: 2 }),
//! })?;
//! # Ok::<(), state::StateError>(())
//! ```

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::AgentError;

/// A snapshot could not be made or taken over.
#[derive(Debug)]
pub enum StateError {
    /// It is not what [`save`] makes.
    NotASnapshot(serde_json::Error),
    /// Its version is not one that the agent can read.
    Unknown {
        /// The version of the snapshot.
        version: u32,
        /// The newest that the agent reads.
        newest: u32,
    },
    /// The version is right and the content is not.
    Content {
        /// The version of the snapshot.
        version: u32,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The state cannot be written as JSON.
    Unwritable(serde_json::Error),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASnapshot(_) => write!(f, "snapshot is not JSON with a version"),
            Self::Unknown { version, newest } => {
                write!(f, "snapshot has version {version}, this agent reads up to {newest}")
            }
            Self::Content { version, .. } => {
                write!(f, "snapshot of version {version} does not hold this agent's state")
            }
            Self::Unwritable(_) => write!(f, "state cannot be written as JSON"),
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotASnapshot(source)
            | Self::Content { source, .. }
            | Self::Unwritable(source) => Some(source),
            Self::Unknown { .. } => None,
        }
    }
}

impl From<StateError> for AgentError {
    fn from(error: StateError) -> Self {
        let code = match error {
            StateError::Unwritable(_) => "snapshot-failed",
            _ => "bad-snapshot",
        };
        let fatal = code == "bad-snapshot";
        Self { code: code.to_owned(), message: error.to_string(), fatal, exceptions: Vec::new() }
    }
}

#[derive(Serialize)]
struct Saved<'a, T> {
    version: u32,
    state: &'a T,
}

#[derive(Deserialize)]
struct Found {
    version: u32,
    state: Value,
}

/// Makes a snapshot.
pub fn save<T: Serialize>(version: u32, state: &T) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(&Saved { version, state }).map_err(StateError::Unwritable)
}

/// Reads a snapshot.
///
/// `newest` is the version that [`save`] writes now. `upgrade` gets the content of an older one and
/// returns it in the newest form. A newer version is refused: nobody can know what it means.
pub fn load<T: DeserializeOwned>(
    snapshot: &[u8],
    newest: u32,
    upgrade: impl FnOnce(u32, Value) -> Result<Value, StateError>,
) -> Result<T, StateError> {
    let Found { version, state } =
        serde_json::from_slice(snapshot).map_err(StateError::NotASnapshot)?;
    let state = match version {
        _ if version == newest => state,
        _ if version < newest => upgrade(version, state)?,
        _ => return Err(StateError::Unknown { version, newest }),
    };
    serde_json::from_value(state).map_err(|source| StateError::Content { version, source })
}

/// For an agent that has had one version only: refuses every older one.
pub fn no_upgrade(version: u32, _state: Value) -> Result<Value, StateError> {
    Err(StateError::Unknown { version, newest: version + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_comes_back() {
        let bytes = save(1, &vec!["a", "b"]).unwrap();
        let back: Vec<String> = load(&bytes, 1, no_upgrade).unwrap();
        assert_eq!(back, ["a", "b"]);
    }

    #[test]
    fn an_older_state_is_upgraded() {
        let bytes = save(1, &"only line").unwrap();
        let back: Vec<String> = load(&bytes, 3, |version, old| {
            assert_eq!(version, 1);
            Ok(Value::Array(vec![old]))
        })
        .unwrap();
        assert_eq!(back, ["only line"]);
    }

    #[test]
    fn a_newer_state_is_refused() {
        let bytes = save(4, &1).unwrap();
        let error = load::<u32>(&bytes, 3, no_upgrade).unwrap_err();
        assert!(matches!(error, StateError::Unknown { version: 4, newest: 3 }));
    }

    #[test]
    fn garbage_is_refused_as_a_fatal_error() {
        for garbage in [&b""[..], b"{}", b"\xff\xfe", b"[1,2,3]", br#"{"version":-1,"state":1}"#] {
            let error = load::<u32>(garbage, 1, no_upgrade).unwrap_err();
            let error = AgentError::from(error);
            assert_eq!((error.code.as_str(), error.fatal), ("bad-snapshot", true));
        }
    }

    #[test]
    fn wrong_content_is_distinguished_from_garbage() {
        let bytes = save(1, &"text").unwrap();
        let error = load::<u32>(&bytes, 1, no_upgrade).unwrap_err();
        assert!(matches!(error, StateError::Content { version: 1, .. }));
    }
}
