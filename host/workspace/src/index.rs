//! The index of git: of each file of a checkout, its name, its object, and what the kernel said of it when it was written.
//!
//! As `gitformat-index(5)` describes it, versions 2 and 3, with SHA-1:
//!
//! ```text
//! "DIRC" version count | ctime mtime dev ino mode uid gid size object flags name NUL… | … | extensions | SHA-1 of all
//!  4      4       4      8     8     4   4   4    4   4   4    20     2     to 8 bytes
//! ```

use rustix::fs::Stat;
use sha1::{Digest, Sha1};

use crate::copy::Copied;

const HEADER: usize = 12;
/// To the name.
const ENTRY: usize = 62;
const CTIME: usize = 0;
const MTIME: usize = 8;
const INODE: usize = 20;
const FLAGS: usize = 60;
const HASH: usize = 20;

/// There are two bytes more before the name.
const EXTENDED: u16 = 0x4000;
/// A length of this or more is not said.
const LENGTH: u16 = 0x0fff;

/// Says of each file when and where its copy was written, so that git need not read it again. Owners and the device are
/// those of what was copied. None if that is not an index as described, or a file of it was not copied.
pub(crate) fn refresh(index: &mut [u8], copied: &Copied) -> Option<()> {
    let end = index.len().checked_sub(HASH)?;
    let (head, version) = (index.get(..4)?, number(index, 4)?);
    if head != b"DIRC" || !matches!(version, 2 | 3) {
        return None;
    }
    let mut at = HEADER;
    for _ in 0..number(index, 8)? {
        let entry = index.get_mut(at..end)?;
        let flags = u16::from_be_bytes(entry.get(FLAGS..)?.first_chunk().copied()?);
        let name = ENTRY + if flags & EXTENDED == 0 { 0 } else { 2 };
        let length = match flags & LENGTH {
            LENGTH => entry.get(name..)?.iter().position(|byte| *byte == 0)?,
            length => usize::from(length),
        };
        let stat = copied.get(entry.get(name..name + length)?)?;
        write(entry, stat)?;
        // From one to eight bytes of NUL.
        at += (name + length + 8) & !7;
    }
    let hash = Sha1::digest(index.get(..end)?);
    index.get_mut(end..)?.copy_from_slice(&hash);
    Some(())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// Git keeps the lower half of each.
#[allow(clippy::unnecessary_cast, clippy::cast_possible_truncation, reason = "see above")]
#[allow(clippy::cast_sign_loss, reason = "see above")]
fn write(entry: &mut [u8], stat: &Stat) -> Option<()> {
    let fields = [
        (CTIME, stat.st_ctime as u32),
        (CTIME + 4, stat.st_ctime_nsec as u32),
        (MTIME, stat.st_mtime as u32),
        (MTIME + 4, stat.st_mtime_nsec as u32),
        (INODE, stat.st_ino as u32),
    ];
    for (at, value) in fields {
        entry.get_mut(at..at + 4)?.copy_from_slice(&value.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use rustix::fs::stat;

    use super::*;

    /// An index of one file in a repository of git's, and that file as it is.
    fn one(folder: &Path, name: &str) -> (Vec<u8>, Copied) {
        fs::write(folder.join(name), "x").unwrap();
        for words in [&["init", "--quiet"][..], &["add", "--all"]] {
            let mut git = std::process::Command::new("git");
            git.args(words).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
            assert!(git.status().unwrap().success());
        }
        let index = fs::read(folder.join(".git/index")).unwrap();
        (index, [(name.as_bytes().to_vec(), stat(folder.join(name)).unwrap())].into())
    }

    #[test]
    fn an_index_says_what_it_is_told_and_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "eight", "of-length-nine", &"long".repeat(60)] {
            let _ = fs::remove_dir_all(folder.path().join(".git"));
            let (mut index, mut copied) = one(folder.path(), name);
            let before = index.clone();
            for other in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()) {
                let stat = stat(other.path()).unwrap();
                copied.insert(other.file_name().into_encoded_bytes(), stat);
            }
            assert!(refresh(&mut index, &copied).is_some());
            assert!(index == before, "it was so already");
            copied.values_mut().for_each(|stat| stat.st_ino += 1);
            assert!(refresh(&mut index, &copied).is_some());
            assert!(index != before);
            fs::write(folder.path().join(".git/index"), &index).unwrap();
            // Git checks the sum, and sees that the file is another one.
            let mut git = std::process::Command::new("git");
            let output = git.args(["diff-files", "--name-only"]).current_dir(folder.path());
            let output = output.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert!(String::from_utf8(output.stdout).unwrap().contains(name));
        }
    }

    #[test]
    fn what_is_not_described_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (index, copied) = one(folder.path(), "name");
        assert!(refresh(&mut index.clone(), &Copied::new()).is_none(), "a file is missing");
        for (at, value) in [(0, b'X'), (7, 4), (11, 2), (HEADER + FLAGS + 1, 200)] {
            let mut index = index.clone();
            index[at] = value;
            assert!(refresh(&mut index, &copied).is_none(), "{at}");
        }
        for length in 0..HEADER + ENTRY {
            assert!(refresh(&mut index[..length].to_vec(), &copied).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_reads_it_ends(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            count in 0_u32..4,
        ) {
            if let Some(head) = bytes.get_mut(..HEADER) {
                head[..4].copy_from_slice(b"DIRC");
                head[4..8].copy_from_slice(&2_u32.to_be_bytes());
                head[8..].copy_from_slice(&count.to_be_bytes());
            }
            let _ = refresh(&mut bytes, &Copied::new());
        }
    }
}
