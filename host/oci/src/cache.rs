//! Components on the disk, each under the digest that references name.
//!
//! ```text
//!   DIR/HEX/0.json            the manifest or index with this digest
//!       HEX/1.json            the manifest that an index leads to
//!       HEX/component.wasm    the layer
//!       HEX/signature.json    a signature that was believed
//!   DIR/.new-*                being fetched
//! ```
//!
//! An entry is written beside its place, synced, and moved there. It is believed only after its digests were computed
//! again, from the name of its directory to the last byte: what a kill, a full disk or another program left is removed
//! and fetched again. Several processes may use one directory: an entry that is used is locked (`flock`, shared), and
//! only one that nobody has locked is removed for another.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bulkhead_types::Digest;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::failure::Cause;
use crate::manifest::{self, Layer, Leads};
use crate::place::{self, COMPONENT};
use crate::settings::Bounds;
use crate::signature::{MAX_PAYLOAD_BYTES, Signature};

const SIGNATURE: &str = "signature.json";
const DOCUMENTS: [&str; 2] = ["0.json", "1.json"];

/// How directories begin that are no entries.
const NEW: &str = ".new-";

/// Most directories that are read, many more than there are entries.
const MAX_LISTED: usize = 65_536;

/// How often a directory that is removed meanwhile is made again.
const MAKE_TRIES: usize = 3;

#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    bounds: Bounds,
}

/// A component that is there. Not removed while this exists.
#[derive(Debug)]
pub(crate) struct Entry {
    pub path: PathBuf,
    pub digest: Digest,
    pub bytes: u64,
    pub lock: File,
}

/// An entry that is not one yet. Removed when it is dropped.
pub(crate) struct Making {
    dir: TempDir,
    _lock: File,
}

/// Where an entry is and when it was used last.
struct Listed {
    path: PathBuf,
    used_at: SystemTime,
    bytes: u64,
}

impl Cache {
    /// Removes what a process left that was killed while it fetched.
    pub(crate) fn open(dir: PathBuf, bounds: Bounds) -> Self {
        let cache = Self { dir, bounds };
        for path in cache.list().filter(|path| !is_entry(path)) {
            if name(&path).starts_with(NEW) {
                remove_unused(&path);
            }
        }
        cache
    }

    /// The component with this digest, if it is there and what it should be. Marks it as used.
    pub(crate) fn find(&self, digest: Digest) -> Result<Option<Entry>, Cause> {
        let dir = self.place(digest);
        let lock = match File::open(&dir) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Cause::disk(format!("open {}", dir.display()), &error)),
        };
        // One that is being removed is not there.
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
            return Ok(None);
        }
        let path = dir.join(COMPONENT);
        match layer_in(&dir, digest).and_then(|layer| is_whole(&path, layer).map(|()| layer)) {
            Ok(layer) => {
                // Where nothing can be written nothing is removed either.
                let _ = lock.set_modified(SystemTime::now());
                Ok(Some(Entry { path, digest: layer.digest, bytes: layer.bytes, lock }))
            }
            Err(reason) => {
                drop(lock);
                // Another process may have removed it for a newer one.
                if dir.exists() {
                    let dir = dir.display().to_string();
                    tracing::warn!(
                        dir,
                        reason,
                        "a component in the cache is damaged and is fetched again"
                    );
                }
                remove_unused(&dir);
                Ok(None)
            }
        }
    }

    /// An empty file for a component, in an entry to be.
    pub(crate) fn begin(&self) -> Result<(Making, File), Cause> {
        let failed = |error: io::Error| {
            Cause::disk(format!("make a directory in {}", self.dir.display()), &error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)?;
        for _ in 0..MAKE_TRIES {
            let dir = tempfile::Builder::new().prefix(NEW).tempdir_in(&self.dir).map_err(failed)?;
            let lock = File::open(dir.path()).map_err(failed)?;
            flock(&lock, FlockOperation::LockShared).map_err(|error| failed(error.into()))?;
            // A process that starts removes what nobody has locked yet.
            match File::create_new(dir.path().join(COMPONENT)) {
                Ok(file) => return Ok((Making { dir, _lock: lock }, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::Error::other("it is removed again and again")))
    }

    /// Puts an entry in its place, when there is room or can be made.
    pub(crate) fn keep(
        &self,
        digest: Digest,
        making: Making,
        documents: &[Vec<u8>],
        signature: Option<&Signature>,
        layer_bytes: u64,
    ) -> Result<(), Cause> {
        let entry = self.place(digest);
        let failed = |error: io::Error| Cause::disk(format!("write {}", entry.display()), &error);
        for (name, document) in DOCUMENTS.iter().zip(documents) {
            write(&making.dir.path().join(name), document).map_err(failed)?;
        }
        if let Some(signature) = signature {
            let place = making.dir.path().join(SIGNATURE);
            let written = serde_json::to_vec(signature).map_err(io::Error::from);
            written.and_then(|bytes| write(&place, &bytes)).map_err(failed)?;
        }
        let beside: usize = documents.iter().map(Vec::len).sum();
        self.make_room(layer_bytes + beside as u64)?;
        File::open(making.dir.path()).and_then(|dir| dir.sync_all()).map_err(failed)?;
        match fs::rename(making.dir.path(), &entry) {
            Ok(()) => {
                let _ = making.dir.keep();
                File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
            }
            // Another process fetched it too.
            Err(_) if entry.is_dir() => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The signature that was believed, if any. Believe it again.
    pub(crate) fn signature(&self, digest: Digest) -> Option<Signature> {
        let bytes = read(&self.place(digest).join(SIGNATURE), 2 * MAX_PAYLOAD_BYTES).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps a signature beside its component.
    pub(crate) fn keep_signature(
        &self,
        digest: Digest,
        signature: &Signature,
    ) -> Result<(), Cause> {
        let place = self.place(digest).join(SIGNATURE);
        let kept = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(self.place(digest))?;
            file.write_all(&serde_json::to_vec(signature)?)?;
            file.as_file().sync_all()?;
            file.persist(&place).map_err(|error| error.error)?;
            Ok(())
        };
        kept().map_err(|error| Cause::disk(format!("write {}", place.display()), &error))
    }

    fn place(&self, digest: Digest) -> PathBuf {
        place::entry(&self.dir, digest)
    }

    fn list(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().take(MAX_LISTED);
        entries.filter_map(Result::ok).map(|entry| entry.path())
    }

    /// Removes what was not used for longest, until so many bytes more fit.
    fn make_room(&self, bytes: u64) -> Result<(), Cause> {
        let Bounds { max_bytes, max_entries, .. } = self.bounds;
        let mut listed: Vec<_> =
            self.list().filter(|path| is_entry(path)).filter_map(Listed::of).collect();
        listed.sort_by_key(|entry| entry.used_at);
        let (mut used, mut used_bytes) =
            (listed.len(), listed.iter().map(|entry| entry.bytes).sum::<u64>());
        let fits = |used: usize, used_bytes: u64| {
            used < max_entries && used_bytes.saturating_add(bytes) <= max_bytes
        };
        for entry in &listed {
            if fits(used, used_bytes) {
                break;
            }
            if remove_unused(&entry.path) {
                used -= 1;
                used_bytes -= entry.bytes;
            }
        }
        match fits(used, used_bytes) {
            true => Ok(()),
            false => {
                let dir = self.dir.display().to_string();
                Err(Cause::CacheFull { dir, bytes, used, used_bytes, max_bytes, max_entries })
            }
        }
    }
}

impl Making {
    /// Where it is made.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Listed {
    fn of(path: PathBuf) -> Option<Self> {
        let used_at = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
        let files = fs::read_dir(&path).ok()?.filter_map(Result::ok);
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
        Some(Self { path, used_at, bytes })
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_entry(path: &Path) -> bool {
    Digest::parse(name(path)).is_some()
}

/// Removes a directory that nobody has locked. One that is removed in part is damaged, and so removed later.
fn remove_unused(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        && fs::remove_dir_all(dir).is_ok()
}

/// Where the documents of an entry lead.
fn layer_in(dir: &Path, digest: Digest) -> Result<Layer, String> {
    let mut wanted = digest;
    for (index, name) in DOCUMENTS.iter().enumerate() {
        let bytes =
            read(&dir.join(name), manifest::MAX_BYTES).map_err(|it| format!("{name}: {it}"))?;
        if Sha256::digest(&bytes)[..] != wanted.0 {
            return Err(format!("{name} has another digest"));
        }
        match manifest::read(wanted, &bytes, index > 0).map_err(|cause| cause.to_string())? {
            Leads::ToLayer(layer) => return Ok(layer),
            Leads::ToManifest(manifest) => wanted = manifest,
        }
    }
    unreachable!("an index does not lead to another one")
}

/// Whether a file is this layer to the last byte.
fn is_whole(path: &Path, layer: Layer) -> Result<(), String> {
    let failed = |error: io::Error| format!("{COMPONENT}: {error}");
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes != layer.bytes {
        return Err(format!("{COMPONENT} has {bytes} of {} bytes", layer.bytes));
    }
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    match hash.finalize()[..] == layer.digest.0 {
        true => Ok(()),
        false => Err(format!("{COMPONENT} has another digest")),
    }
}

/// A small file.
fn read(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max_bytes as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > max_bytes {
        true => Err(io::Error::other(format!("it has more than {max_bytes} bytes"))),
        false => Ok(bytes),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
