//! Files of the kernel that stay open from one check to the next: the watch of memory goes on also when no file can be
//! opened any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Files that are kept. A check reads a dozen.
const MAX_KEPT: usize = 64;

/// What is read at once.
const PIECE_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct OpenFiles(BTreeMap<PathBuf, File>);

impl OpenFiles {
    /// What is in a file now, from its beginning, and not much more than `most` bytes of it.
    pub(super) fn read(&mut self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        if let Some(file) = self.0.get(path).filter(|file| is_there(file))
            && let Ok(bytes) = read(file, most)
        {
            return Ok(bytes);
        }
        // Its group is gone, or it is another file now.
        self.0.remove(path);
        let file = File::open(path)?;
        let bytes = read(&file, most)?;
        if self.0.len() < MAX_KEPT {
            self.0.insert(path.to_owned(), file);
        }
        Ok(bytes)
    }
}

fn is_there(file: &File) -> bool {
    file.metadata().is_ok_and(|file| file.nlink() > 0)
}

fn read(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() <= most {
        let at = bytes.len();
        bytes.resize(at + PIECE_BYTES, 0);
        let length = file.read_at(&mut bytes[at..], at as u64);
        bytes.truncate(at + *length.as_ref().unwrap_or(&0));
        match length {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_from_its_beginning_each_time_and_opened_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.current");
        std::fs::write(&path, "1\n").unwrap();
        let mut files = OpenFiles::default();
        assert_eq!(files.read(&path, 100).unwrap(), b"1\n");
        std::fs::write(&path, "22\n").unwrap();
        assert_eq!(files.read(&path, 100).unwrap(), b"22\n");
        assert_eq!(files.0.len(), 1);
        std::fs::write(&path, "x".repeat(3 * PIECE_BYTES)).unwrap();
        assert_eq!(files.read(&path, 3 * PIECE_BYTES).unwrap().len(), 3 * PIECE_BYTES);
        assert!(files.read(&path, 100).unwrap().len() > 100, "its reader sees that it is too long");
    }

    #[test]
    fn one_that_was_replaced_or_removed_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(&path, "1").unwrap();
        let mut files = OpenFiles::default();
        files.read(&path, 100).unwrap();
        std::fs::write(&other, "2").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(files.read(&path, 100).unwrap(), b"2");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files.read(&path, 100).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(files.0.is_empty());
    }
}
