//! A tree as parts of an archive: tar, deflated as gzip, so that anybody can read one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
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

/// What an entry is called that has the name or the target of the next one.
const LONG: &[u8] = b"././@LongLink";

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
    let (kind, size) = match &found {
        Found::Directory => (EntryType::Directory, 0),
        Found::Link(_) => (EntryType::Symlink, 0),
        Found::File(_) => (EntryType::Regular, stat.st_size.cast_unsigned()),
    };
    let mut header = header(kind, size);
    header.set_mode(stat.st_mode & MODE);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    let failed = |error: io::Error| ArchiveError::disk("pack", path, &error);
    name(archive, &mut header, path, Field::Name).map_err(failed)?;
    if let Found::Link(target) = &found {
        name(archive, &mut header, target, Field::Target).map_err(failed)?;
    }
    header.set_cksum();
    let Found::File(file) = found else {
        return archive.append(&header, io::empty()).map_err(failed);
    };
    let mut contents = File::from(file).take(size);
    archive.append(&header, &mut contents).map_err(failed)?;
    // Its size is written already.
    match contents.limit() {
        0 => Ok(()),
        _ => Err(ArchiveError::Changed(path.to_owned())),
    }
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[derive(Clone, Copy)]
enum Field {
    Name,
    Target,
}

/// Writes a name or a target, whatever its bytes are. The library takes no long one whose first hundred bytes begin with something
/// that is no UTF-8.
fn name(
    archive: &mut Builder<impl Write>,
    header: &mut Header,
    path: &Path,
    field: Field,
) -> io::Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let old = header.as_old_mut();
    let (room, long) = match field {
        Field::Name => (&mut old.name, EntryType::GNULongName),
        Field::Target => (&mut old.linkname, EntryType::GNULongLink),
    };
    let in_header = bytes.len().min(room.len());
    room[..in_header].copy_from_slice(&bytes[..in_header]);
    if in_header == bytes.len() {
        return Ok(());
    }
    let mut header = self::header(long, bytes.len() as u64 + 1);
    header.as_old_mut().name[..LONG.len()].copy_from_slice(LONG);
    header.set_cksum();
    archive.append(&header, bytes.chain(&[0][..]))
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
