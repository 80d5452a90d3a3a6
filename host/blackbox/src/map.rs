//! The mapping: a file as atomic words.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};

// Words are stored in the order of the machine, and the reader takes them for little-endian.
const _: () = assert!(cfg!(target_endian = "little"));

/// A shared, writable mapping of a whole file, or of memory.
pub struct Map {
    raw: MmapRaw,
}

impl Map {
    /// The file's blocks are reserved and nobody shortens it: see `files`.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self { raw: MmapOptions::new().map_raw(file)? })
    }

    /// One of memory alone, of so many bytes.
    pub fn anonymous(bytes: usize) -> io::Result<Self> {
        Ok(Self { raw: MmapOptions::new().len(bytes).map_anon()?.into() })
    }

    /// The file's bytes as words.
    #[expect(unsafe_code, reason = "memmap2 has no view of atomics")]
    pub fn words(&self) -> &[AtomicU64] {
        let (start, words) = (self.raw.as_ptr().cast::<AtomicU64>(), self.raw.len() / 8);
        // SAFETY: a mapping begins at a page, so it is aligned; it is `len` bytes long, writable, and
        // exists as long as `self`. All bit patterns are valid words. All access in this process is
        // through these atomics, and other processes only read the file.
        unsafe { std::slice::from_raw_parts(start, words) }
    }

    /// Waits until the disk has all of it.
    pub fn sync(&self) -> io::Result<()> {
        self.raw.flush()
    }
}
