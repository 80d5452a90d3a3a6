//! Which pages of the file a commit changed, for somebody who keeps a copy of it elsewhere.
//!
//! ```text
//!   writer ── commit ─▶ log of SQLite ── frames since the last look ─▶ Follower::committed
//!                                        └ another file, or no log ─▶ Follower::lost_track
//!   Database::copy ── file, with what its log has over it ─▶ a copy of all pages at one moment
//! ```
//!
//! The writer is the only one that commits, and it alone begins the log at its start again. So whoever looks after each commit
//! and before the next one misses nothing. Frames have checksums, each over all before it: what a transaction left that was
//! rolled back is not taken for one of a commit.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{NotDurable, file};

/// Pages that were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Size of each, in bytes.
    pub page_bytes: u32,
    /// Pages that the file has now.
    pub page_count: u32,
    /// As they are now, by their numbers. The first one has the number 1.
    pub pages: BTreeMap<u32, Box<[u8]>>,
}

/// Follows the file. Called on the writer's thread, before callers hear of the commit; must not wait.
pub trait Follower: Send + Sync {
    /// This was committed since the last call.
    fn committed(&self, changed: Changed);

    /// Something was committed, and nobody knows which pages: a copy is needed.
    fn lost_track(&self);

    /// Resolves when everything that was committed before is where it is kept, or says why not. Within a time of its own.
    fn all_kept(&self) -> Pin<Box<dyn Future<Output = Result<(), NotDurable>> + Send + '_>>;

    /// Counts.
    fn figures(&self) -> FollowerFigures;
}

/// Counts of who follows, since the open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FollowerFigures {
    /// Times that something was kept.
    pub segments: u64,
    /// Bytes of that.
    pub bytes: u64,
    /// How long the oldest commit waits that is not kept. Zero: all are.
    pub lag: Duration,
    /// Nothing of this run is kept yet: the first copy of all pages is due.
    pub is_first_due: bool,
    /// Why the last try failed, if it did.
    pub failing: Option<Arc<str>>,
}

/// A copy of the file, without a name.
#[derive(Debug)]
pub struct PageCopy {
    /// Size of a page, in bytes.
    pub page_bytes: u32,
    /// How many there are.
    pub page_count: u32,
    file: File,
}

impl PageCopy {
    /// Pages one after the other, from the one with the number `first` on.
    pub fn read(&self, first: u32, count: u32) -> io::Result<Vec<u8>> {
        let size = self.page_bytes as usize;
        let mut bytes = vec![0; count as usize * size];
        self.file.read_exact_at(&mut bytes, u64::from(first - 1) * size as u64)?;
        Ok(bytes)
    }
}

/// Where the log of commits begins.
const LOG_HEADER: usize = 32;

/// What stands before each page in it.
const FRAME_HEADER: usize = 24;

/// Begins a log whose sums are of numbers with the lowest byte first; one more: with the highest.
const MAGIC: u32 = 0x377f_0682;

/// The name of a copy while it is made.
const COPY: &str = "bulkhead.db.copy";

/// The way from the file to who follows it.
pub(super) struct Tap {
    follower: Arc<dyn Follower>,
    dir: PathBuf,
    /// What was read of the log.
    at: Option<Position>,
    /// Never closed while it is the database's: to close a file takes all locks of the process on it away.
    database: Option<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    salts: [u32; 2],
    page_bytes: u32,
    low_first: bool,
    sums: (u32, u32),
    /// Behind the last commit.
    offset: u64,
}

impl Tap {
    pub fn new(follower: Arc<dyn Follower>, dir: PathBuf) -> Self {
        Self { follower, dir, at: None, database: None }
    }

    /// Hands on what was committed since the last call.
    pub fn look(&mut self) {
        match self.read_log() {
            Ok(Some(changed)) => self.follower.committed(changed),
            Ok(None) => {}
            Err(_) => self.lose_track(),
        }
    }

    /// Another file is in the place of the one before, or may be.
    pub fn lose_track(&mut self) {
        self.at = None;
        self.follower.lost_track();
    }

    fn read_log(&mut self) -> io::Result<Option<Changed>> {
        let log = File::open(file::log_path(&self.dir))?;
        let Some(start) = Position::at_start(&log)? else { return Ok(None) };
        let from = match self.at {
            Some(at) if at.salts == start.salts => at,
            _ => start,
        };
        let (at, changed) = from.read_commits(&log)?;
        self.at = Some(at);
        Ok(changed)
    }

    /// All pages. To be called when nobody writes, and nobody brings the log over into the file.
    pub fn copy(&mut self) -> io::Result<PageCopy> {
        let path = self.dir.join(COPY);
        let mut database = self.database()?;
        database.rewind()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut copy = options.open(&path)?;
        // It goes with the last one who has it open.
        fs::remove_file(&path)?;
        let bytes = io::copy(&mut database, &mut copy)?;
        let of_log = match File::open(file::log_path(&self.dir)) {
            Ok(log) => write_commits(&log, &copy)?,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (page_bytes, page_count) = match of_log {
            Some(size) => size,
            None => {
                let page_bytes = page_bytes_of(&copy)?;
                (page_bytes, u32::try_from(bytes / u64::from(page_bytes)).unwrap_or(u32::MAX))
            }
        };
        copy.set_len(u64::from(page_count) * u64::from(page_bytes))?;
        Ok(PageCopy { page_bytes, page_count, file: copy })
    }

    fn database(&mut self) -> io::Result<&File> {
        let path = file::path(&self.dir);
        let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let there = identity(fs::metadata(&path)?);
        let is_it = |file: &File| file.metadata().is_ok_and(|meta| identity(meta) == there);
        if !self.database.as_ref().is_some_and(is_it) {
            self.database = Some(File::open(&path)?);
        }
        self.database.as_ref().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Position {
    /// Where the first frame is. Nothing: the log is empty.
    fn at_start(log: &File) -> io::Result<Option<Self>> {
        let mut header = [0; LOG_HEADER];
        match log.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let word = |at: usize| number(&header[at..]);
        let low_first = match word(0) {
            MAGIC => true,
            magic if magic == MAGIC + 1 => false,
            _ => return Err(damaged("it begins with other bytes")),
        };
        let sums = add((0, 0), &header[..24], low_first);
        if sums != (word(24), word(28)) {
            return Err(damaged("the checksum of its header is wrong"));
        }
        let (page_bytes, salts) = (word(8), [word(16), word(20)]);
        if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
            return Err(damaged("its pages have no size that there is"));
        }
        Ok(Some(Self { salts, page_bytes, low_first, sums, offset: LOG_HEADER as u64 }))
    }

    /// Reads up to the last commit.
    fn read_commits(self, log: &File) -> io::Result<(Self, Option<Changed>)> {
        let (mut begun, mut changed) = (Vec::new(), None::<Changed>);
        let at = self.scan(log, |frame, page| {
            begun.push((frame.page, Box::<[u8]>::from(page)));
            if let Some(page_count) = frame.commits {
                let none =
                    Changed { page_bytes: self.page_bytes, page_count, pages: BTreeMap::new() };
                let changed = changed.get_or_insert(none);
                changed.page_count = page_count;
                changed.pages.extend(begun.drain(..));
            }
            Ok(())
        })?;
        if let Some(changed) = &mut changed {
            // Pages behind the end of a file that became smaller.
            let count = changed.page_count;
            changed.pages.retain(|number, _| *number <= count);
        }
        Ok((at, changed))
    }

    /// Each whole frame from here on, and the position behind the last commit.
    fn scan(
        mut self,
        log: &File,
        mut each: impl FnMut(Frame, &[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut frame = vec![0; FRAME_HEADER + self.page_bytes as usize];
        let mut next = self;
        loop {
            match log.read_exact_at(&mut frame, next.offset) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(self),
                read => read?,
            }
            let (header, page) = frame.split_at(FRAME_HEADER);
            let word = |at: usize| number(&header[at..]);
            let sums = add(add(next.sums, &header[..8], self.low_first), page, self.low_first);
            if [word(8), word(12)] != self.salts || (word(16), word(20)) != sums || word(0) == 0 {
                return Ok(self);
            }
            next = Self { sums, offset: next.offset + frame.len() as u64, ..next };
            let commits = Some(word(4)).filter(|page_count| *page_count > 0);
            each(Frame { page: word(0), commits, end: next.offset }, page)?;
            if commits.is_some() {
                self = next;
            }
        }
    }
}

/// One page in the log.
#[derive(Debug, Clone, Copy)]
struct Frame {
    page: u32,
    /// It is the last one of a transaction, after which the file has so many pages.
    commits: Option<u32>,
    /// Where it ends.
    end: u64,
}

/// Writes all that the log has over a copy of the file, one page in memory at a time. Returns the size of a page, and how many
/// there are. `None`: the log has nothing.
fn write_commits(log: &File, copy: &File) -> io::Result<Option<(u32, u32)>> {
    let Some(start) = Position::at_start(log)? else { return Ok(None) };
    let mut count = None;
    let at = start.scan(log, |frame, _| {
        count = frame.commits.or(count);
        Ok(())
    })?;
    let Some(count) = count else { return Ok(None) };
    let size = u64::from(start.page_bytes);
    start.scan(log, |frame, page| match frame.end <= at.offset && frame.page <= count {
        true => copy.write_all_at(page, u64::from(frame.page - 1) * size),
        false => Ok(()),
    })?;
    Ok(Some((start.page_bytes, count)))
}

/// What the first page says.
fn page_bytes_of(file: &File) -> io::Result<u32> {
    let mut field = [0; 2];
    file.read_exact_at(&mut field, 16)?;
    match u16::from_be_bytes(field) {
        1 => Ok(65_536),
        size if size >= 512 && size.is_power_of_two() => Ok(size.into()),
        _ => Err(damaged("its pages have no size that there is")),
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

/// The sums of SQLite's log, over an even number of words.
fn add(sums: (u32, u32), bytes: &[u8], low_first: bool) -> (u32, u32) {
    let (words, _) = bytes.as_chunks::<4>();
    let word = |bytes: &[u8; 4]| match low_first {
        true => u32::from_le_bytes(*bytes),
        false => u32::from_be_bytes(*bytes),
    };
    words.chunks_exact(2).fold(sums, |(mut one, mut other), pair| {
        one = one.wrapping_add(word(&pair[0])).wrapping_add(other);
        other = other.wrapping_add(word(&pair[1])).wrapping_add(one);
        (one, other)
    })
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the log of the database: {what}"))
}

/// Whether there is a database in `dir`.
pub fn exists(dir: &Path) -> bool {
    file::path(dir).is_file()
}
