//! What this disk knows of the archive of an agent: a file `.shipped/AGENT` beside the workspaces.
//!
//! The workspace here is at least as new as the archives that its note names. If the index names another one, another machine
//! has been at work since.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

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
        let dir = path.parent().unwrap_or(Path::new("/"));
        let new =
            path.with_file_name(format!(".{}.new", path.file_name().unwrap_or_default().display()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(dir)?.sync_all()
    }
}
