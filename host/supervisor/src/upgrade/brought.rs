//! Components that somebody brought, and which roles have them.
//!
//! ```text
//!   upgrades/SHA256.wasm       what was brought
//!   upgrades/roles.json        which role has which, and what the configuration named then
//! ```
//!
//! A role goes back to its configuration when that names another file than it did: a new deployment wins.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_agent::Code;
use bulkhead_types::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::Catalog;

/// Which role has which component.
const ROLES: &str = "roles.json";

/// What a file is called that is not whole.
const INCOMPLETE: &str = "incomplete-";

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct Brought {
    dir: PathBuf,
}

/// What a role has instead of what the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Replacement {
    /// The name of the component.
    pub component: String,
    /// The file that was brought.
    pub sha256: Digest,
    /// The file that the configuration named then.
    pub replaces: Digest,
    /// What the role had before, if that was brought as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
}

/// Which role has what.
pub(crate) type Replacements = BTreeMap<Arc<str>, Replacement>;

/// A component that arrives. What is not finished is removed.
#[derive(Debug)]
pub struct Incoming {
    file: NamedTempFile,
    hash: Sha256,
}

/// A component that was brought whole. It is removed when no role gets it.
#[derive(Debug)]
pub struct BroughtComponent {
    /// Of its bytes.
    pub sha256: Digest,
    file: NamedTempFile,
}

impl Incoming {
    /// One that has no bytes yet. Makes the directory where it is missing.
    pub fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self { file: incomplete(dir)?, hash: Sha256::new() })
    }

    /// There are no more bytes.
    pub fn finish(self) -> io::Result<BroughtComponent> {
        self.file.as_file().sync_all()?;
        Ok(BroughtComponent { sha256: Digest(self.hash.finalize().into()), file: self.file })
    }
}

/// Takes more bytes. Waits for the disk.
impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Brought {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where the component with this digest is, if it was brought.
    pub(crate) fn path(&self, sha256: Digest) -> PathBuf {
        self.dir.join(format!("{sha256}.wasm"))
    }

    pub(crate) fn begin(&self) -> io::Result<Incoming> {
        Incoming::new(&self.dir)
    }

    /// Gives a component its name. Yields where it is.
    pub(crate) fn keep(&self, component: BroughtComponent) -> io::Result<PathBuf> {
        let path = self.path(component.sha256);
        component.file.persist(&path)?;
        Ok(path)
    }

    /// What roles have, as far as it still holds, and why those go back to the configuration that do.
    pub(crate) fn read(&self, catalog: &Catalog) -> (Replacements, Vec<String>) {
        let mut notices = Vec::new();
        let mut replacements = self.read_file().unwrap_or_else(|why| {
            let path = self.dir.join(ROLES);
            notices.push(format!(
                "all roles have the components of the configuration: {}: {why}",
                path.display()
            ));
            Replacements::new()
        });
        replacements.retain(|role, replacement| {
            let why = self.why_not(role, replacement, catalog);
            notices.extend(why.iter().map(|why| {
                let sha256 = replacement.sha256;
                format!(
                    "role {role} has the component of the configuration, and not {sha256}: {why}"
                )
            }));
            why.is_none()
        });
        (replacements, notices)
    }

    fn read_file(&self) -> io::Result<Replacements> {
        match fs::read(self.dir.join(ROLES)) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Replacements::new()),
            Err(error) => Err(error),
        }
    }

    fn why_not(&self, role: &str, replacement: &Replacement, catalog: &Catalog) -> Option<String> {
        let Some(configured) = catalog.roles.get(role) else {
            return Some("that has no such role any more".into());
        };
        if *configured.component != *replacement.component {
            return Some("that names another component for the role now".into());
        }
        match digest_of(&self.path(replacement.sha256)) {
            Ok(digest) if digest == replacement.sha256 => {}
            Ok(_) => return Some("the file that was brought is damaged".into()),
            Err(error) => {
                return Some(format!("the file that was brought cannot be read: {error}"));
            }
        }
        let configured = catalog.components.get(&configured.component)?;
        match digest_of(configured) {
            Ok(digest) if digest != replacement.replaces => {
                Some("that names another file than when the role was upgraded".into())
            }
            // What cannot be read is no newer word.
            Ok(_) | Err(_) => None,
        }
    }

    /// Writes down what roles have.
    pub(crate) fn write(&self, replacements: &Replacements) -> io::Result<()> {
        let mut file = incomplete(&self.dir)?;
        file.write_all(&serde_json::to_vec_pretty(replacements)?)?;
        file.as_file().sync_all()?;
        file.persist(self.dir.join(ROLES))?;
        File::open(&self.dir)?.sync_all()
    }

    pub(crate) fn remove(&self, sha256: Digest) -> io::Result<()> {
        fs::remove_file(self.path(sha256))
    }

    /// What earlier runs left half, and what no role has of it and none had before.
    pub(crate) fn sweep(&self, replacements: &Replacements) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_unused = Digest::parse(stem).is_some_and(|sha256| !uses(replacements, sha256));
            if is_unused || stem.starts_with(INCOMPLETE) {
                // The next boot tries again.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// A file that goes unless it gets a name.
fn incomplete(dir: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(dir)?;
    tempfile::Builder::new().prefix(INCOMPLETE).tempfile_in(dir)
}

/// Whether a role has this, or had it before.
pub(crate) fn uses(replacements: &Replacements, sha256: Digest) -> bool {
    replacements.values().any(|it| it.sha256 == sha256 || it.before == Some(sha256))
}

/// The code of a role with this component in place of its own.
pub(crate) fn in_place(configured: &Code, component: PathBuf) -> Code {
    Code { component, source: configured.source.clone() }
}

/// The digest of a file.
pub(crate) fn digest_of(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut part = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(&part[..read]);
    }
}

#[cfg(test)]
mod tests;
