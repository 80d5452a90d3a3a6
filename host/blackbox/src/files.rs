//! The files of the black box, and how one run follows another.
//!
//! ```text
//!   make blackbox.new, whole ──▶ blackbox → blackbox.previous ──▶ blackbox.new → blackbox
//! ```
//!
//! A file with the name `blackbox` is always whole. When a boot dies between the two last steps, the next
//! one finds `blackbox.new` and no `blackbox`, and reads `blackbox.previous`: a run may be judged twice,
//! and is not forgotten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bulkhead_types::previous::RunState;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::layout::{self, Geometry, Run};
use super::map::Map;
use super::read::{Previous, parse};
use super::{BlackBox, OpenError};

const CURRENT: &str = "blackbox";
const NEW: &str = "blackbox.new";
const PREVIOUS: &str = "blackbox.previous";

/// Files that could not be read and are kept. The oldest makes room.
const MAX_CORRUPT: usize = 3;

/// Largest file that is read.
const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// What is read and written at once where a file's holes are filled by hand.
const PART_BYTES: usize = 64 * 1024;

/// What was found of the run before.
#[derive(Debug)]
pub enum Found {
    /// No file.
    Nothing,
    /// What it left.
    Run(Box<Previous>),
    /// A file that says nothing.
    Unreadable {
        /// Why.
        reason: String,
        /// Where it is now.
        kept_as: Option<PathBuf>,
    },
}

impl Found {
    /// What the run left, if it can be read.
    pub fn run(&self) -> Option<&Previous> {
        match self {
            Self::Run(previous) => Some(previous),
            Self::Nothing | Self::Unreadable { .. } => None,
        }
    }
}

/// A black box for a new run, and what the one before it left.
pub struct Opened {
    /// What was found, also when there is no new one.
    pub previous: Found,
    /// The new one, in the state `starting`.
    pub blackbox: Result<BlackBox, OpenError>,
}

/// Reads what the last run left, without changing anything.
pub fn read(dir: &Path) -> Found {
    let current = dir.join(CURRENT);
    match read_file(&current) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_whole(&dir.join(NEW)) => {
            found(read_file(&dir.join(PREVIOUS)))
        }
        result => found(result),
    }
}

/// What runs left that can be read: of the box in place, of one that a boot that died had just made, and of the one
/// before. Each says itself whose it is.
pub fn left(dir: &Path) -> Vec<Previous> {
    let parsed = |name| parse(&read_file(&dir.join(name)).ok()?).ok();
    [CURRENT, NEW, PREVIOUS].into_iter().filter_map(parsed).collect()
}

/// Reads what the last run left, keeps its file, and begins a new one.
///
/// The directory belongs to one host at a time. When there can be no new black box, the old one is put
/// aside all the same, so that the next run does not take it for its predecessor's.
pub fn open(dir: &Path, run: &Run, geometry: Geometry) -> Opened {
    let mut previous = read(dir);
    let made = create(dir, run, geometry);
    let kept = keep(dir, &mut previous);
    let blackbox = made.and_then(|blackbox| {
        kept.and_then(|()| fs::rename(dir.join(NEW), dir.join(CURRENT)))
            .map_err(OpenError::Rotate)?;
        // The names of files outlive the machine as well. What they hold was synced before.
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
        Ok(blackbox)
    });
    if blackbox.is_err() {
        let _ = fs::remove_file(dir.join(NEW));
    }
    Opened { previous, blackbox }
}

/// A black box of memory alone, where the disk takes none. It ends with the process; what was copied from it by then
/// ([`BlackBox::contents`]) does not.
pub fn in_memory(run: &Run, geometry: Geometry) -> Result<BlackBox, OpenError> {
    let map = Map::anonymous(geometry.bytes()).map_err(OpenError::Map)?;
    begin(map, run, geometry)
}

fn found(bytes: io::Result<Vec<u8>>) -> Found {
    match bytes {
        Ok(bytes) => match parse(&bytes) {
            Ok(previous) => Found::Run(Box::new(previous)),
            Err(damage) => Found::Unreadable { reason: damage.to_string(), kept_as: None },
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Unreadable { reason: format!("read: {error}"), kept_as: None },
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe that nobody writes to must not hold the boot.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file, or too large"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_whole(path: &Path) -> bool {
    read_file(path).is_ok_and(|bytes| parse(&bytes).is_ok())
}

/// Puts the file of the last run aside.
fn keep(dir: &Path, previous: &mut Found) -> io::Result<()> {
    let current = dir.join(CURRENT);
    let to = match previous {
        Found::Unreadable { .. } if current.symlink_metadata().is_ok() => place_for_corrupt(dir),
        Found::Unreadable { .. } => return Ok(()),
        Found::Nothing | Found::Run(_) => dir.join(PREVIOUS),
    };
    match fs::rename(&current, &to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    if let Found::Unreadable { kept_as, .. } = previous {
        *kept_as = Some(to);
    }
    Ok(())
}

/// A name that is free, or that of the oldest.
fn place_for_corrupt(dir: &Path) -> PathBuf {
    let path = |n: usize| dir.join(format!("{CURRENT}.corrupt-{n}"));
    let age = |n: &usize| fs::symlink_metadata(path(*n)).and_then(|meta| meta.modified()).ok();
    // No time is less than any time.
    path((0..MAX_CORRUPT).min_by_key(age).unwrap_or(0))
}

fn create(dir: &Path, run: &Run, geometry: Geometry) -> Result<BlackBox, OpenError> {
    if !geometry.is_sound() {
        return Err(OpenError::Describe("numbers of slots out of bounds"));
    }
    let path = dir.join(NEW);
    let mut file = open_new(&path).map_err(OpenError::Create)?;
    let bytes = geometry.bytes() as u64;
    reserve(&mut file, bytes).map_err(|source| OpenError::NoSpace { bytes, source })?;
    begin(Map::of(&file).map_err(OpenError::Map)?, run, geometry)
}

fn begin(map: Map, run: &Run, geometry: Geometry) -> Result<BlackBox, OpenError> {
    layout::write_header(map.words(), &geometry, run)?;
    let blackbox = BlackBox::new(map, geometry, run.run_id.clone());
    // A disk that cannot sync is a disk that loses things, and no reason to have no black box.
    let _ = blackbox.reached(RunState::Starting);
    Ok(blackbox)
}

/// Makes a file of so many bytes in place of one that a boot left that died, with all its blocks, for its owner alone.
pub fn create_private(path: &Path, bytes: u64) -> io::Result<Map> {
    let mut file = open_new(path)?;
    reserve(&mut file, bytes)?;
    Map::of(&file)
}

/// Where a file is that was to get out of the way of a new one, for messages.
pub fn whereabouts(kept_as: Option<&Path>) -> String {
    match kept_as {
        Some(path) => format!("kept as {}", path.display()),
        None => "it stays where it is".into(),
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Gives a new file its blocks now: a store into a mapped page that finds the disk full is a SIGBUS.
fn reserve(file: &mut File, bytes: u64) -> io::Result<()> {
    if allocate(file, bytes)? {
        return Ok(());
    }
    // Some file systems only know blocks that were written.
    io::copy(&mut io::repeat(0).take(bytes), file)?;
    file.flush()?;
    file.sync_data()
}

/// The same for a file that has something: it may be a copy with holes.
pub fn fill_holes(file: &File, bytes: u64) -> io::Result<()> {
    if allocate(file, bytes)? {
        return Ok(());
    }
    let mut part = vec![0; PART_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = bytes.saturating_sub(at).min(PART_BYTES as u64);
        let part = &mut part[..usize::try_from(length).unwrap_or(PART_BYTES)];
        file.read_exact_at(part, at)?;
        file.write_all_at(part, at)?;
        at += length;
    }
    file.sync_data()
}

/// Allocates the first `bytes` of a file, whose content stays. `false`: its file system cannot.
fn allocate(file: &File, bytes: u64) -> io::Result<bool> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
