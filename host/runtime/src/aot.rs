//! Compiled components on disk.
//!
//! An entry is named by the component's digest and the engine's compatibility hash, and begins with a
//! header that says both again, with the length and the SHA-256 of what follows. All of it is checked
//! before the engine sees a byte: loading machine code that is not ours would be running it. A bad entry
//! is reported, removed and made again.
//!
//! A [`Format`] is the form without the file: a compiler process hands its result over in it as well.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bulkhead_types::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: &[u8; 8] = b"BHAOT\0\0\x01";
/// What names of entries end in.
pub(crate) const EXTENSION: &str = ".cwasm";

const HEADER_BYTES: usize = 8 + 8 + 32 + 8 + 32;

/// The form of a compiled component, for one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    engine_hash: u64,
}

/// A directory of compiled components, for one engine.
pub(crate) struct AotCache {
    dir: PathBuf,
    format: Format,
    max_bytes: u64,
}

/// What a look into the cache found.
pub(crate) enum Found {
    Ready(Component),
    Nothing,
    Rejected { path: PathBuf, reason: String },
}

impl Format {
    /// What this engine compiles, and loads.
    pub(crate) fn of(engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { engine_hash: hasher.finish() }
    }

    /// The engine in a number: equal for engines that load each other's code.
    pub(crate) fn engine_hash(self) -> u64 {
        self.engine_hash
    }

    /// The name of the entry's file. Those of a component for all engines begin with its digest.
    pub(crate) fn file_name(self, digest: &Digest) -> String {
        format!("{digest}-{:016x}{EXTENSION}", self.engine_hash)
    }

    /// An entry for the component `digest` with this machine code.
    pub(crate) fn entry(&self, digest: &Digest, code: &[u8]) -> Vec<u8> {
        let mut entry = Vec::with_capacity(HEADER_BYTES + code.len());
        entry.extend_from_slice(&self.header(digest, code));
        entry.extend_from_slice(code);
        entry
    }

    /// The component of an entry that is right for it; otherwise why it is not.
    #[expect(unsafe_code, reason = "the engine believes machine code")]
    pub(crate) fn load(
        &self,
        engine: &Engine,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<Component, String> {
        let code = self.check(digest, bytes)?;
        // SAFETY: the bytes are what `entry` made for this component and this engine: magic, digest, engine hash,
        // length and checksum all agree. They come from a directory that only the owner can write to, or from a
        // process of this program over a pipe that nobody else has. Checked and loaded bytes are the same memory,
        // so they cannot change in between.
        unsafe { Component::deserialize(engine, code) }.map_err(|error| format!("{error:#}"))
    }

    /// The code of an entry, when its header is right for it.
    fn check<'a>(&self, digest: &Digest, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let Some((header, code)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(format!("{} bytes are shorter than a header", bytes.len()));
        };
        let expected = self.header(digest, code);
        if header[..8] != expected[..8] {
            return Err("not an entry of this cache".into());
        }
        if header[8..16] != expected[8..16] {
            return Err("made for another engine".into());
        }
        if header[16..48] != expected[16..48] {
            return Err("made for another component".into());
        }
        if header[48..56] != expected[48..56] {
            return Err("truncated, or with a tail".into());
        }
        if header[56..] != expected[56..] {
            return Err("checksum does not match".into());
        }
        Ok(code)
    }

    /// What an entry begins with.
    fn header(&self, digest: &Digest, code: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.engine_hash.to_le_bytes());
        header[16..48].copy_from_slice(&digest.0);
        header[48..56].copy_from_slice(&(code.len() as u64).to_le_bytes());
        header[56..].copy_from_slice(&Sha256::digest(code));
        header
    }
}

impl AotCache {
    /// Makes the directory, readable by its owner alone: who can write to it can run code here.
    pub(crate) fn open(dir: PathBuf, max_bytes: u64, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        Ok(Self { dir, format: Format::of(engine), max_bytes })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(self.format.file_name(digest))
    }

    pub(crate) fn find(&self, engine: &Engine, digest: &Digest) -> Found {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return Found::Rejected { path, reason: format!("read: {error}") },
        };
        match self.format.load(engine, digest, &bytes) {
            Ok(component) => {
                // The time of last use decides what goes first when the directory is full.
                let _ = fs::File::open(&path)
                    .and_then(|file| file.set_modified(std::time::SystemTime::now()));
                Found::Ready(component)
            }
            Err(reason) => {
                let _ = fs::remove_file(&path);
                Found::Rejected { path, reason }
            }
        }
    }

    /// Writes an entry: whole or not at all.
    pub(crate) fn store(&self, digest: &Digest, entry: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(entry)?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        self.make_room();
        Ok(())
    }

    /// Removes the entries unused for longest until the rest fits.
    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        files.sort_unstable_by(|a, b| b.cmp(a));
        let mut total = 0;
        for (index, (_, bytes, path)) in files.iter().enumerate() {
            total += bytes;
            if index > 0 && total > self.max_bytes {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Reads a file of at most `max_bytes`. `Ok(Err(size))` when it is larger.
pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<Result<Vec<u8>, u64>> {
    // A pipe that nobody writes to must not hold the thread before it is seen to be one.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    if meta.len() > max_bytes {
        return Ok(Err(meta.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    // The file may grow while it is read.
    (&mut file).take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Ok(Err(bytes.len() as u64));
    }
    Ok(Ok(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn cache(dir: &Path, engine: &Engine) -> (AotCache, Digest) {
        let cache = AotCache::open(dir.to_owned(), 1 << 20, engine).unwrap();
        let digest = Digest(Sha256::digest(EMPTY).into());
        cache.store(&digest, &entry(&cache, engine, &digest)).unwrap();
        (cache, digest)
    }

    fn entry(cache: &AotCache, engine: &Engine, digest: &Digest) -> Vec<u8> {
        cache.format.entry(digest, &engine.precompile_component(EMPTY).unwrap())
    }

    fn reason(cache: &AotCache, engine: &Engine, digest: &Digest) -> String {
        match cache.find(engine, digest) {
            Found::Rejected { reason, path } => {
                assert!(!path.exists(), "a bad entry is removed");
                reason
            }
            Found::Ready(_) => "ready".into(),
            Found::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn what_was_stored_is_found_and_everything_else_is_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let (cache, digest) = cache(dir.path(), &engine);
        let path = cache.path(&digest);
        let good = fs::read(&path).unwrap();
        assert_eq!(reason(&cache, &engine, &digest), "ready");
        assert_eq!(reason(&cache, &engine, &Digest([7; 32])), "nothing");

        let bad = |at: usize, expected: &str| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert_eq!(reason(&cache, &engine, &digest), expected);
        };
        bad(0, "not an entry of this cache");
        bad(8, "made for another engine");
        bad(16, "made for another component");
        bad(48, "truncated, or with a tail");
        bad(56, "checksum does not match");
        bad(HEADER_BYTES + 100, "checksum does not match");
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert_eq!(reason(&cache, &engine, &digest), "truncated, or with a tail");
        fs::write(&path, b"x").unwrap();
        assert!(reason(&cache, &engine, &digest).contains("shorter than a header"));
        fs::write(&path, &good).unwrap();
        assert_eq!(reason(&cache, &engine, &digest), "ready");
    }

    #[test]
    fn the_directory_is_the_owners_alone_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let (mut cache, digest) = cache(dir.path(), &engine);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        cache.max_bytes = 1;
        let other = Digest([1; 32]);
        let old = fs::File::open(cache.path(&digest)).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        cache.store(&other, &entry(&cache, &engine, &other)).unwrap();
        assert!(cache.path(&other).exists() && !cache.path(&digest).exists());
    }
}
