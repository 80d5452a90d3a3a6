//! Whose a path on the disk is, for messages about permissions.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// Owner and mode of a path, or of the nearest directory above it that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Ownership {
    /// Of `path`. Nothing when not even the root can be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        path.ancestors().find_map(|path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let meta = path.metadata().ok()?;
            let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
            Some(Self { path: path.to_owned(), uid, gid, mode })
        })
    }
}

/// Whose `path` is, or the nearest directory above it that is there, when this process may not write to it.
pub fn unwritable(path: &Path) -> Option<Ownership> {
    let ownership = Ownership::of(path)?;
    access(&ownership.path, Access::WRITE_OK).is_err().then_some(ownership)
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, uid, gid, mode } = self;
        let own = geteuid().as_raw();
        write!(
            f,
            "{} has owner {uid}, group {gid}, mode {mode:04o}; this process has uid {own}",
            path.display()
        )
    }
}

/// The error, with whose `path` is when it is about permissions.
pub fn explain(error: &io::Error, path: &Path) -> String {
    match (error.kind(), Ownership::of(path)) {
        (io::ErrorKind::PermissionDenied, Some(ownership)) => format!("{error}: {ownership}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_refusal_names_owner_and_mode_of_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o750)).unwrap();
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let text = explain(&denied, &dir.path().join("none/below"));
        let own = geteuid().as_raw();
        let owner = format!("{} has owner {own}, group ", dir.path().display());
        assert!(text.contains(&owner), "{text}");
        assert!(text.ends_with(&format!("mode 0750; this process has uid {own}")), "{text}");
        assert_eq!(unwritable(&dir.path().join("none/below")), None);
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(explain(&other, dir.path()), other.to_string());
    }
}
