//! What this disk knows of the archive of an agent: a file `.shipped/AGENT` beside the workspaces.
//!
//! The workspace here is at least as new as the archives that its note names. If the index names another one, another machine
//! has been at work since.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::whole;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// Where the archives are. Those of another place are others.
    pub to: String,
    /// Archives that the workspace has gone on from, and the one that was made of it last, if it is not known whether it is
    /// named.
    pub ids: Vec<String>,
    /// The tree, when the last of them was made of it or was unpacked.
    pub fingerprint: String,
}

impl Note {
    /// Reads it. One that is damaged counts as none: then the archive is newer.
    pub fn read(path: &Path, to: &str) -> Option<Self> {
        let note: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (note.to == to).then_some(note)
    }

    pub fn knows(&self, id: &str) -> bool {
        self.ids.iter().any(|known| known == id)
    }

    /// Whether the tree is as it was in this archive.
    pub fn is_unchanged(&self, id: &str, fingerprint: &str) -> bool {
        self.ids.last().is_some_and(|last| last == id) && self.fingerprint == fingerprint
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        whole::write(path, self)
    }
}
