//! A tree as parts of an archive: tar, deflated as gzip, so that anybody can read one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::Stat;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc::Sender;

use super::walk::{Found, Seen, walk};
use super::{ArchiveError, Limits};

/// Bytes of a part: of one object.
pub(super) const PART_BYTES: usize = 4 * 1024 * 1024;

/// Permissions that are kept: no set-user-id.
const MODE: u32 = 0o777;

/// Packs a tree. Blocks while `parts` is full.
pub(super) fn pack(top: &Path, limits: Limits, parts: Sender<Bytes>) -> Result<Seen, ArchiveError> {
    let out = GzEncoder::new(Parts { parts, filled: Vec::new() }, Compression::fast());
    let mut archive = Builder::new(out);
    let seen = walk(top, limits, &mut |path, stat, found| match found {
        Some(found) => add(&mut archive, path, stat, found),
        None => Ok(()),
    })?;
    let failed = |error: io::Error| ArchiveError::Disk(format!("pack it: {error}"));
    let out = archive.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    out.end().map_err(failed)?;
    Ok(seen)
}

fn add(
    archive: &mut Builder<impl Write>,
    path: &Path,
    stat: &Stat,
    found: Found,
) -> Result<(), ArchiveError> {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & MODE);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let added = match found {
        Found::Directory => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, path, io::empty())
        }
        Found::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
        Found::File(file) => {
            let size = stat.st_size.cast_unsigned();
            header.set_size(size);
            header.set_entry_type(EntryType::Regular);
            let mut contents = File::from(file).take(size);
            let added = archive.append_data(&mut header, path, &mut contents);
            // Its size is written already.
            if contents.limit() > 0 {
                return Err(ArchiveError::Changed(path.to_owned()));
            }
            added
        }
    };
    added.map_err(|error| ArchiveError::disk("pack", path, &error))
}

/// Sends what is written in parts.
struct Parts {
    parts: Sender<Bytes>,
    filled: Vec<u8>,
}

impl Parts {
    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.filled);
        // Who took them has given up.
        self.parts.blocking_send(part.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn end(mut self) -> io::Result<()> {
        if self.filled.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.filled.len());
        self.filled.extend_from_slice(&bytes[..taken]);
        if self.filled.len() == PART_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
