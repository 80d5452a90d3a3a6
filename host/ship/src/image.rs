//! A database file that is made from segments, page by page.
//!
//! A copy of all pages is complete with its last part. Until then what was there before counts, so it is made in a file of its
//! own, which takes the other's place at its end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::fault::ShipError;
use crate::segment::{Kind, Segment};

/// The names of files that are being made.
const NAMES: [&str; 2] = ["bulkhead.db.restoring-0", "bulkhead.db.restoring-1"];

pub(crate) struct Image {
    dir: PathBuf,
    /// Complete, as of the last segment.
    whole: Option<(File, usize)>,
    /// A copy whose last part was not read yet, and the number of its next part.
    begun: Option<(File, usize, u32)>,
    /// Who writes now.
    session: String,
    /// It has written all pages, so that its changes count.
    has_copy: bool,
    /// Sessions since the last whole copy that have not ended, its own included: each may have given numbers of its own.
    unended: u64,
}

impl Image {
    pub fn new(dir: &Path) -> Result<Self, ShipError> {
        let it = Self {
            dir: dir.to_owned(),
            whole: None,
            begun: None,
            session: String::new(),
            has_copy: false,
            unended: 0,
        };
        it.clear();
        Ok(it)
    }

    /// Applies one. `object` names it in errors.
    pub fn apply(&mut self, object: &str, segment: &Segment) -> Result<(), ShipError> {
        let head = &segment.head;
        let out_of_order =
            || ShipError::damaged(object, "it does not follow the segment before it");
        if head.session != self.session {
            // The head leads to the beginning of a copy, in the midst of a session.
            let is_first = self.session.is_empty();
            let begins = head.kind == Kind::Begin
                || (is_first && matches!(head.kind, Kind::Copy { part: 0, .. }));
            if !begins {
                return Err(out_of_order());
            }
            self.session.clone_from(&head.session);
            (self.begun, self.has_copy) = (None, false);
        }
        match head.kind {
            Kind::Begin => {
                self.unended += 1;
                Ok(())
            }
            Kind::End => {
                self.unended = self.unended.saturating_sub(1);
                Ok(())
            }
            Kind::Copy { part, is_last } => {
                let (file, at) = match self.begun.take() {
                    _ if part == 0 => self.make()?,
                    Some((file, at, next)) if next == part => (file, at),
                    _ => return Err(out_of_order()),
                };
                write(&file, object, segment)?;
                match is_last {
                    true => {
                        self.whole = Some((file, at));
                        (self.has_copy, self.unended) = (true, 1);
                    }
                    false => self.begun = Some((file, at, part + 1)),
                }
                Ok(())
            }
            Kind::Changes => match &self.whole {
                Some((file, _)) if self.has_copy && self.begun.is_none() => {
                    write(file, object, segment)
                }
                _ => Err(out_of_order()),
            },
        }
    }

    /// How many sessions may have given numbers that the file does not have.
    pub fn losses(&self) -> u64 {
        self.unended
    }

    /// Whether some segment had the last of all pages.
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    fn make(&self) -> Result<(File, usize), ShipError> {
        let at = self.whole.as_ref().map_or(0, |(_, at)| 1 - at);
        let path = self.dir.join(NAMES[at]);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path);
        let what = format!("make {}", path.display());
        Ok((file.map_err(|error| ShipError::local(&what, &error))?, at))
    }

    /// The file, on the disk. Nothing: no segment had all pages.
    pub fn finish(self) -> Result<Option<PathBuf>, ShipError> {
        let Some((file, at)) = &self.whole else { return Ok(None) };
        file.sync_all().map_err(|error| ShipError::local("sync the restored database", &error))?;
        Ok(Some(self.dir.join(NAMES[*at])))
    }

    /// Removes what an earlier run left.
    fn clear(&self) {
        for name in NAMES {
            for end in ["", "-wal", "-shm", "-journal"] {
                let _ = fs::remove_file(self.dir.join(format!("{name}{end}")));
            }
        }
    }
}

fn write(file: &File, object: &str, segment: &Segment) -> Result<(), ShipError> {
    let size = u64::from(segment.head.page_bytes);
    let count = segment.head.page_count;
    let failed = |error: &io::Error| ShipError::local("write the restored database", error);
    segment.pages(object, |number, page| {
        if number == 0 || number > count {
            return Err(ShipError::damaged(object, format!("it has a page {number} of {count}")));
        }
        file.write_all_at(page, u64::from(number - 1) * size).map_err(|error| failed(&error))
    })?;
    file.set_len(u64::from(count) * size).map_err(|error| failed(&error))
}
