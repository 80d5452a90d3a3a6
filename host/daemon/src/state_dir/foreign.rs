//! Whether a directory that is there may become the state directory: it has been one, or has nothing of anybody else.
//!
//! A host makes its directory private and fills it. Of one that other programs use, that takes their files away from them.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What hosts make and few others: whatever else is there, it is a state directory.
const MARKS: [&str; 6] = [
    "blackbox",
    "blackbox.previous",
    "blackbox.new",
    "store/bulkhead.db",
    "crashes.jsonl",
    "crashes.1.jsonl",
];

/// What lies in a state directory. Others have such names too, so each alone is no mark; and it may be there before the
/// first boot: a backup, a token, compiled components.
const NAMES: [&str; 20] = [
    "aot",
    "blackbox",
    "components",
    "control-token",
    "cores",
    "crashes.1.jsonl",
    "crashes.jsonl",
    "dev.log",
    "events",
    "git",
    "journal",
    "lease.json",
    "lock",
    "runs",
    "store",
    "test",
    "test.lock",
    "test.log",
    "upgrades",
    "workspaces",
];

/// What a file is called before it is whole, and after it was set aside.
const ENDINGS: [&str; 5] = ["", ".new", ".previous", ".corrupt", ".imported"];

/// What file systems put into an empty volume (ext4, ZFS, quotas, filers), and people into one that a repository keeps.
const OF_VOLUMES: [&str; 10] = [
    "lost+found",
    ".snapshot",
    ".snapshots",
    ".zfs",
    ".trashcan",
    "aquota.user",
    "aquota.group",
    ".gitkeep",
    ".gitignore",
    ".keep",
];

/// Often volumes in memory, and everybody's.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

const ADVICE: &str = "set state.dir or BULKHEAD_STATE_DIR to a new or an empty directory";

/// Why `dir` is no place for the state of a host. Changes nothing. One that is not there yet, and one that cannot be
/// listed, is judged when it is used.
pub fn refuse(dir: &Path) -> Result<(), String> {
    let Ok(meta) = dir.metadata() else { return Ok(()) };
    let shown = dir.display();
    if !meta.is_dir() {
        return Err(format!("the state directory {shown} is not a directory; {ADVICE}"));
    }
    if is_root(&meta) {
        return Err(format!(
            "the state directory {shown} is the root of the file system, which the host would close to all others; {ADVICE}"
        ));
    }
    if is_shared(dir, &meta) {
        return Err(format!(
            "the state directory {shown} is for all users to share (sticky, mode {:04o}); {ADVICE} in it, or mount a volume of its own",
            meta.mode() & 0o7777
        ));
    }
    if MARKS.iter().any(|mark| dir.join(mark).symlink_metadata().is_ok()) {
        return Ok(());
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    match entries.map(|entry| entry.file_name()).find(|name| !may_be_there(name)) {
        None => Ok(()),
        Some(name) => Err(format!(
            "the state directory {shown} is not empty, and no host has used it: it contains {}; {ADVICE}",
            name.display()
        )),
    }
}

fn is_root(meta: &Metadata) -> bool {
    Path::new("/").metadata().is_ok_and(|root| (root.dev(), root.ino()) == (meta.dev(), meta.ino()))
}

/// Whether everybody may write to it, and has the sticky bit for it. A volume in memory has it too (`docker --tmpfs`, `emptyDir`), and is nobody else's.
fn is_shared(dir: &Path, meta: &Metadata) -> bool {
    let Ok(path) = dir.canonicalize() else { return false };
    let above = path.parent().and_then(|above| above.metadata().ok());
    let is_volume = above.is_some_and(|above| above.dev() != meta.dev());
    meta.mode() & 0o1002 == 0o1002
        && (!is_volume || SHARED.iter().any(|known| path == Path::new(known)))
}

fn may_be_there(name: &OsStr) -> bool {
    // Kubernetes hides the parts of a mounted volume behind two dots.
    if name.as_bytes().starts_with(b"..") {
        return true;
    }
    let Some(name) = name.to_str() else { return false };
    let is_own = |own: &&str| {
        let ending = name.strip_prefix(*own);
        ending.is_some_and(|it| ENDINGS.contains(&it) || it.starts_with(".corrupt-"))
    };
    OF_VOLUMES.contains(&name) || NAMES.iter().any(is_own)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory with these entries; those with a slash at the end are directories.
    fn with(entries: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for entry in entries {
            let path = dir.path().join(entry);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match entry.ends_with('/') {
                true => fs::create_dir_all(path).unwrap(),
                false => fs::write(path, "").unwrap(),
            }
        }
        dir
    }

    #[test]
    fn an_empty_directory_and_one_that_was_prepared_for_a_host_are_taken() {
        for entries in [
            &[][..],
            &["lost+found/"],
            &[".gitkeep", ".zfs/", "aquota.user"],
            &["..data/", "..2026_01_15/", "control-token"],
            &["aot/echo", "control-token", "workspaces/a/file"],
            &["store/bulkhead.db", "workspaces/", "control-token"],
            &["lock", "lease.json", "lease.json.new", "runs.new", "test.log", "dev.log", "test/"],
        ] {
            refuse(with(entries).path()).unwrap();
        }
        refuse(Path::new("/nowhere/at/all")).unwrap();
    }

    #[test]
    fn a_directory_that_was_a_hosts_stays_one_whatever_else_is_in_it() {
        for mark in MARKS {
            refuse(with(&["notes.txt", mark]).path()).unwrap();
        }
    }

    #[test]
    fn a_directory_with_files_of_others_is_refused_and_named() {
        for entries in [
            &["notes.txt"][..],
            &[".profile"],
            &["workspaces/", "git/", "main.rs"],
            &["control-token", "bulkhead.toml"],
            &["events.py"],
        ] {
            let dir = with(entries);
            let error = refuse(dir.path()).unwrap_err();
            let last = entries.last().unwrap();
            for part in [&*dir.path().display().to_string(), last, "new or an empty directory"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn the_root_and_what_all_users_share_are_refused_whatever_is_there() {
        let dir = with(&["blackbox"]);
        symlink("/", dir.path().join("link")).unwrap();
        for root in [Path::new("/"), &dir.path().join("link"), Path::new("/../")] {
            assert!(refuse(root).unwrap_err().contains("root of the file system"));
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let error = refuse(dir.path()).unwrap_err();
        assert!(error.contains("sticky, mode 1777"), "{error}");
        // One with which nobody else can do anything.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1700)).unwrap();
        refuse(dir.path()).unwrap();
        // No directory of others' is as often a volume of its own.
        if Path::new("/tmp").metadata().is_ok_and(|meta| meta.mode() & 0o1000 != 0) {
            assert!(refuse(Path::new("/tmp")).unwrap_err().contains("sticky"));
        }
        assert!(refuse(&dir.path().join("blackbox")).unwrap_err().contains("not a directory"));
    }
}
