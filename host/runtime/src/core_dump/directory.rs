//! The directory of core dumps.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use super::serialize::Dump;
use super::{CoreDumpError, KeptCoreDump};
use crate::config::CoreDumpRules;

/// What the files end with. A directory may hold others, which are left alone.
const EXTENSION: &str = ".wasm.core";

/// What a file is called that is being written.
const UNFINISHED: &str = ".unfinished-";

/// Longest id of a crash.
const MAX_ID_BYTES: usize = 64;

/// A directory with bounds.
pub(super) struct Directory {
    rules: CoreDumpRules,
}

/// One dump. Ordered by age.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct File {
    modified: SystemTime,
    path: PathBuf,
    bytes: u64,
}

impl Directory {
    /// Makes it, for its owner alone, and removes what a host that died left half written.
    pub(super) fn open(rules: CoreDumpRules) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&rules.dir)?;
        fs::set_permissions(&rules.dir, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&rules.dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let directory = Self { rules };
        directory.prune();
        Ok(directory)
    }

    /// Writes a dump, whole or not at all.
    pub(super) fn keep(&self, crash_id: &str, dump: &Dump) -> Result<KeptCoreDump, CoreDumpError> {
        self.write(crash_id, dump, |file| {
            file.write_all(&dump.bytes)?;
            file.sync_data()
        })
    }

    fn write(
        &self,
        crash_id: &str,
        dump: &Dump,
        fill: impl FnOnce(&mut fs::File) -> io::Result<()>,
    ) -> Result<KeptCoreDump, CoreDumpError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if crash_id.is_empty() || crash_id.len() > MAX_ID_BYTES || !crash_id.bytes().all(is_plain) {
            let message = "its crash has an id that is no file name".to_owned();
            return Err(CoreDumpError::Failed { doing: "name", message });
        }
        let (bytes, max_bytes) = (dump.bytes.len() as u64, self.rules.max_total_bytes);
        if bytes > max_bytes || self.rules.max_count == 0 {
            return Err(CoreDumpError::TooLarge { bytes, max_bytes });
        }
        self.make_room(1, bytes);
        let failed = CoreDumpError::failed("write");
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.rules.dir)
            .map_err(&failed)?;
        fill(file.as_file_mut()).map_err(&failed)?;
        let name = format!("{crash_id}{EXTENSION}");
        file.persist(self.rules.dir.join(&name)).map_err(|error| failed(error.error))?;
        Ok(KeptCoreDump { file: name, bytes, note: dump.note })
    }

    /// Removes what is too old, too many or too large.
    pub(super) fn prune(&self) {
        self.make_room(0, 0);
    }

    /// Removes the oldest until so many more of so many bytes fit.
    fn make_room(&self, count: usize, bytes: u64) {
        let mut files = self.files();
        files.sort_unstable();
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        let now = SystemTime::now();
        let mut left = files.len();
        for file in files {
            let age = now.duration_since(file.modified).unwrap_or_default();
            let fits = left + count <= self.rules.max_count
                && total.saturating_add(bytes) <= self.rules.max_total_bytes;
            if fits && age <= self.rules.max_age {
                return;
            }
            let _ = fs::remove_file(&file.path);
            left -= 1;
            total -= file.bytes;
        }
    }

    fn files(&self) -> Vec<File> {
        let Ok(entries) = fs::read_dir(&self.rules.dir) else { return Vec::new() };
        let dumps = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(EXTENSION));
        let file = |entry: fs::DirEntry| {
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let (modified, path) = (meta.modified().ok()?, entry.path());
            Some(File { modified, path, bytes: meta.len() })
        };
        dumps.filter_map(file).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn directory(change: impl FnOnce(&mut CoreDumpRules)) -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let mut rules = CoreDumpRules::in_dir(dir.path().join("cores"));
        change(&mut rules);
        (dir, Directory::open(rules).unwrap())
    }

    fn dump(bytes: usize) -> Dump {
        Dump { bytes: vec![1; bytes], note: None }
    }

    /// Sets a dump's age.
    fn age(directory: &Directory, id: &str, seconds: u64) {
        let path = directory.rules.dir.join(format!("{id}{EXTENSION}"));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    fn names(directory: &Directory) -> Vec<String> {
        let entries = fs::read_dir(&directory.rules.dir).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_dump_is_its_owners_alone() {
        let (_dir, directory) = directory(|_| {});
        let kept = directory.keep("019-a", &dump(10)).unwrap();
        let expected = KeptCoreDump { file: "019-a.wasm.core".into(), bytes: 10, note: None };
        assert_eq!(kept, expected);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(directory.rules.dir.clone()), 0o700);
        assert_eq!(mode(directory.rules.dir.join("019-a.wasm.core")), 0o600);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_large() {
        let (_dir, directory) = directory(|rules| {
            (rules.max_count, rules.max_total_bytes) = (3, 100);
        });
        fs::write(directory.rules.dir.join("mine.txt"), "not a dump").unwrap();
        for (index, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            directory.keep(id, &dump(20)).unwrap();
            age(&directory, id, 100 - index as u64);
        }
        assert_eq!(names(&directory), ["b.wasm.core", "c.wasm.core", "d.wasm.core", "mine.txt"]);
        directory.keep("e", &dump(70)).unwrap();
        assert_eq!(names(&directory), ["d.wasm.core", "e.wasm.core", "mine.txt"]);
        let error = directory.keep("f", &dump(101)).unwrap_err();
        assert_eq!(error, CoreDumpError::TooLarge { bytes: 101, max_bytes: 100 });
        assert_eq!(names(&directory).len(), 3, "what does not fit costs nobody anything");
    }

    #[test]
    fn what_is_too_old_goes() {
        let (_dir, directory) = directory(|rules| rules.max_age = Duration::from_secs(60));
        for (id, seconds) in [("old", 61), ("young", 1)] {
            directory.keep(id, &dump(1)).unwrap();
            age(&directory, id, seconds);
        }
        directory.prune();
        assert_eq!(names(&directory), ["young.wasm.core"]);
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_nothing_half_written() {
        let (_dir, directory) = directory(|_| {});
        let full = |file: &mut fs::File| {
            file.write_all(&[1; 10])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let error = directory.write("a", &dump(20), full).unwrap_err();
        assert!(matches!(&error, CoreDumpError::Failed { doing: "write", .. }), "{error}");
        assert!(names(&directory).is_empty());
        fs::remove_dir(&directory.rules.dir).unwrap();
        assert!(directory.keep("a", &dump(1)).is_err());
    }

    #[test]
    fn what_a_host_left_that_died_over_it_is_removed() {
        let (_dir, directory) = directory(|_| {});
        fs::write(directory.rules.dir.join(".unfinished-xyz"), "half").unwrap();
        directory.keep("a", &dump(1)).unwrap();
        let again = Directory::open(directory.rules.clone()).unwrap();
        assert_eq!(names(&again), ["a.wasm.core"]);
    }

    #[test]
    fn an_id_is_no_path() {
        let (_dir, directory) = directory(|_| {});
        for id in ["", "..", "a/b", "../a", "a.b", &"a".repeat(65)] {
            assert!(directory.keep(id, &dump(1)).is_err(), "{id:?}");
        }
        assert!(names(&directory).is_empty());
    }
}
