//! Which of the log's writers this disk has been with: the file `shipped.json` beside the database.
//!
//! The disk is at least as new as the log if the log's last writer is among them and the machine was not started since: what a
//! process has committed survives its death, and not that of its machine.

use std::fs;
use std::path::Path;

use bulkhead_memory::Kernel;
use serde::{Deserialize, Serialize};

use crate::fault::ShipError;
use crate::whole;

const NAME: &str = "shipped.json";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Marker {
    /// [Where](crate::Address::identity) it ships to.
    pub to: String,
    /// Sessions whose end this disk is, or is newer than.
    pub sessions: Vec<String>,
    /// The start of the machine's kernel.
    pub boot_id: String,
}

impl Marker {
    /// Whether the machine was not started since. If nobody can tell, it may have been.
    pub fn is_of_this_start(&self) -> bool {
        !self.boot_id.is_empty() && self.boot_id == boot_id()
    }
}

/// Reads it. One that is damaged counts as none: then the log is newer.
pub(crate) fn read(dir: &Path) -> Option<Marker> {
    serde_json::from_slice(&fs::read(dir.join(NAME)).ok()?).ok()
}

pub(crate) fn write(dir: &Path, marker: &Marker) -> Result<(), ShipError> {
    let path = dir.join(NAME);
    let written = whole::write(&path, marker);
    written.map_err(|error| ShipError::local(&format!("write {}", path.display()), &error))
}

/// For a run that does not ship: what it commits is in no log. An error is one that is there and stays. Where nothing can be
/// looked up, because there is no such directory for one reason or another, nothing is committed either.
pub fn forget(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(NAME);
    fs::remove_file(&path).or_else(|error| match fs::symlink_metadata(&path) {
        Ok(_) => Err(error),
        Err(_) => Ok(()),
    })
}

/// The start of this machine's kernel. Empty: nobody can tell.
pub(crate) fn boot_id() -> String {
    Kernel::here().boot_id().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marker_that_stays_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        forget(&store).unwrap();
        fs::write(&store, "in its place").unwrap();
        forget(&store).unwrap();
        fs::remove_file(&store).unwrap();
        fs::create_dir_all(store.join(NAME)).unwrap();
        assert!(forget(&store).is_err());
        fs::remove_dir(store.join(NAME)).unwrap();
        fs::write(store.join(NAME), "{}").unwrap();
        forget(&store).unwrap();
        assert!(!store.join(NAME).exists());
    }
}
