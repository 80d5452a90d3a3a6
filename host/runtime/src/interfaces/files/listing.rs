//! A list of what is in a directory.
//!
//! It is read as a whole when it is asked for, as programs expect that change the directory meanwhile, and charged to
//! the agent while it is read: by the names that are there, and not by what the directory was once.

use std::fs::File;
use std::os::fd::AsFd;

use bulkhead_account::{Charge, OverLimit};
use rustix::fs::{AtFlags, Dir, FileType, statat};
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

/// The list grows by pieces of this. Each is charged before it is filled.
const PIECE_BYTES: usize = 16 * 1024;

/// A list on its way to the guest: for each name a byte for its type, one for its length, and the name.
pub(crate) struct Listing {
    pieces: Vec<(Vec<u8>, Charge)>,
    /// The piece and the position in it that come next.
    next: (usize, usize),
}

impl Listing {
    /// Reads it. Blocks. Without room for all of it there is none.
    pub(super) fn read(
        directory: &File,
        charge: impl Fn(u64) -> Result<Charge, OverLimit>,
    ) -> FsResult<Self> {
        let mut listing = Self { pieces: Vec::new(), next: (0, 0) };
        let mut entries = Dir::read_from(directory).map_err(std::io::Error::from)?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(std::io::Error::from)?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let known = entry.file_type();
                let kind = match known {
                    FileType::Unknown => type_of(directory, name),
                    known => known,
                };
                listing.add(kind, name.to_bytes(), &charge)?;
            }
        }
        Ok(listing)
    }

    fn add(
        &mut self,
        kind: FileType,
        name: &[u8],
        charge: impl Fn(u64) -> Result<Charge, OverLimit>,
    ) -> FsResult<()> {
        let fits = |piece: &Vec<u8>| piece.capacity() - piece.len() >= name.len() + 2;
        if !self.pieces.last().is_some_and(|(piece, _)| fits(piece)) {
            let charge = charge(PIECE_BYTES as u64).map_err(|_| ErrorCode::InsufficientMemory)?;
            self.pieces.push((Vec::with_capacity(PIECE_BYTES), charge));
        }
        if let Some((piece, _)) = self.pieces.last_mut() {
            // No file system has longer names than 255 bytes.
            piece.extend([code(kind), u8::try_from(name.len()).unwrap_or(u8::MAX)]);
            piece.extend(name.iter().take(usize::from(u8::MAX)));
        }
        Ok(())
    }

    /// The next entry. A name that is no UTF-8 cannot be returned.
    pub(super) fn next(&mut self) -> Option<FsResult<DirectoryEntry>> {
        let (index, at) = self.next;
        let (piece, _) = self.pieces.get(index)?;
        let Some((&[code, length], rest)) = piece[at..].split_first_chunk() else {
            self.next = (index + 1, 0);
            return self.next();
        };
        let name = &rest[..usize::from(length)];
        self.next = (index, at + 2 + name.len());
        Some(match str::from_utf8(name) {
            Ok(name) => Ok(DirectoryEntry { type_: kind(code), name: name.to_owned() }),
            Err(_) => Err(ErrorCode::IllegalByteSequence.into()),
        })
    }
}

fn type_of(directory: impl AsFd, name: &std::ffi::CStr) -> FileType {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}

/// All types, by code.
const TYPES: [(FileType, DescriptorType); 5] = [
    (FileType::RegularFile, DescriptorType::RegularFile),
    (FileType::Directory, DescriptorType::Directory),
    (FileType::Symlink, DescriptorType::SymbolicLink),
    (FileType::BlockDevice, DescriptorType::BlockDevice),
    (FileType::CharacterDevice, DescriptorType::CharacterDevice),
];

fn code(kind: FileType) -> u8 {
    let place = TYPES.iter().position(|(known, _)| *known == kind);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

fn kind(code: u8) -> DescriptorType {
    TYPES.get(usize::from(code)).map_or(DescriptorType::Unknown, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bulkhead_account::Account;
    use bulkhead_types::HostKind;

    use super::*;

    fn list(dir: &std::path::Path, account: &Arc<Account>) -> FsResult<Listing> {
        let charge = |bytes| account.charge(HostKind::Resources, bytes);
        Listing::read(&File::open(dir).unwrap(), charge)
    }

    #[test]
    fn a_list_has_each_name_once_with_its_type_and_is_held_by_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut names: Vec<String> = (0..200).map(|n| format!("{n:0255}")).collect();
        for name in &names {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let account = Arc::new(Account::default());
        account.begin(1 << 20, 80, None);
        let mut listing = list(dir.path(), &account).ok().unwrap();
        assert_eq!(account.reading().host.resources, 4 * PIECE_BYTES as u64);
        let mut listed = Vec::new();
        while let Some(Ok(entry)) = listing.next() {
            listed.push((entry.name, entry.type_));
        }
        assert!(listing.next().is_none());
        listed.sort_by(|one, other| one.0.cmp(&other.0));
        names.extend(["dir".into(), "link".into()]);
        assert_eq!(listed.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
        assert_eq!(listed[0].1, DescriptorType::RegularFile);
        assert_eq!(listed[200].1, DescriptorType::Directory);
        assert_eq!(listed[201].1, DescriptorType::SymbolicLink);
        drop(listing);
        assert_eq!(account.reading().host.resources, 0);
    }

    #[test]
    fn a_list_without_room_is_none_and_a_name_that_is_no_text_is_an_error_of_its_own() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let account = Arc::new(Account::default());
        account.begin(PIECE_BYTES as u64, 80, None);
        let mut listing = list(dir.path(), &account).ok().unwrap();
        let code = |error: wasmtime_wasi::p2::FsError| error.downcast().unwrap();
        let next = listing.next().unwrap().err().unwrap();
        assert!(matches!(code(next), ErrorCode::IllegalByteSequence));
        assert!(listing.next().is_none());
        let error = list(dir.path(), &account).err().unwrap();
        assert!(matches!(code(error), ErrorCode::InsufficientMemory));
    }

    #[test]
    fn a_directory_that_was_large_once_takes_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20_000 {
            std::fs::write(dir.path().join(format!("{n:0100}")), "").unwrap();
        }
        for n in 3..20_000 {
            std::fs::remove_file(dir.path().join(format!("{n:0100}"))).unwrap();
        }
        let account = Arc::new(Account::default());
        account.begin(PIECE_BYTES as u64, 80, None);
        let mut listing = list(dir.path(), &account).ok().unwrap();
        assert_eq!(std::iter::from_fn(|| listing.next()).count(), 3);
    }
}
