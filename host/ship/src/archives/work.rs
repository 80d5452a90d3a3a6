//! Shipping a workspace, bringing one here, removing one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bulkhead_types::AgentId;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::index::{KEY, Packed};
use super::note::Note;
use super::walk::{Seen, Survey, survey};
use super::{ArchiveError, Arrived, Inner, Shipped, lock, pack, unpack};
use crate::fault::ShipError;
use crate::segment::{hex, random};

/// Directories beside those of agents. No id of an agent begins with a dot.
pub(super) const DIRECTORIES: [&str; 3] = [NOTES, ARRIVING, OLDER];

/// What this disk knows of archives.
const NOTES: &str = ".shipped";

/// Where archives are unpacked.
const ARRIVING: &str = ".arriving";

/// Workspaces that were on this disk when a newer one arrived: the last one of each agent.
const OLDER: &str = ".older";

/// What is being deleted: of all workspaces, by who lists them.
const REMOVED: &str = ".removed";

/// Between two tries, at first and at most.
const AGAIN: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_millis(200), std::time::Duration::from_secs(2));

/// Objects that nothing names and that are still to be removed, at most.
const MAX_GARBAGE: usize = 4096;

/// Removes what an earlier process was about to unpack.
pub(super) fn clear(folder: &Path) {
    for entry in fs::read_dir(folder.join(ARRIVING)).into_iter().flatten().flatten() {
        let _ = fs::remove_dir_all(entry.path());
    }
}

fn key(agent: &AgentId, id: &str, part: u32) -> String {
    // Not every place has colons in its keys.
    let agent = agent.as_str().replace(':', "=");
    format!("workspaces/{agent}.{id}.{part}")
}

fn keys<'a>(agent: &'a AgentId, packed: &'a Packed) -> impl Iterator<Item = String> + 'a {
    (0..packed.parts).map(move |part| key(agent, &packed.id, part))
}

/// Does something on a thread that may wait for the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    spawn_blocking(work).await.unwrap_or(Err(ArchiveError::Interrupted))
}

impl Inner {
    fn note_path(&self, agent: &AgentId) -> PathBuf {
        self.folder.join(NOTES).join(agent.as_str())
    }

    /// What this disk knows.
    pub(super) fn note(&self, agent: &AgentId) -> Option<Note> {
        Note::read(&self.note_path(agent), self.place.identity())
    }

    /// Whether the workspace on this disk is as new as an archive, or newer.
    pub(super) fn is_here(&self, agent: &AgentId, id: &str) -> bool {
        let path = self.folder.join(agent.as_str());
        fs::symlink_metadata(path).is_ok_and(|it| it.is_dir())
            && self.note(agent).is_some_and(|note| note.knows(id))
    }

    fn write_note(&self, agent: &AgentId, note: &Note) -> Result<(), ArchiveError> {
        let path = self.note_path(agent);
        note.write(&path).map_err(|error| ArchiveError::disk("write", &path, &error))
    }

    /// Nothing: it is shipped as it is, or there is nothing.
    pub(super) async fn ship(
        self: &Arc<Self>,
        agent: &AgentId,
    ) -> Result<Option<Shipped>, ArchiveError> {
        let began = Instant::now();
        let before = self.index.get(agent);
        let (inner, of) = (Arc::clone(self), agent.clone());
        let looked = on_disk(move || {
            Ok((survey(&inner.folder.join(of.as_str()), inner.limits)?, inner.note(&of)))
        });
        let (Some(Survey { seen, fingerprint }), note) = looked.await? else { return Ok(None) };
        let note = note.unwrap_or_default();
        match &before {
            None if seen.entries == 0 => return Ok(None),
            Some(before) if !note.knows(&before.id) => return Err(ArchiveError::Overtaken),
            Some(before) if note.is_unchanged(&before.id, &fingerprint) => return Ok(None),
            _ => {}
        }
        if !self.index.takes(agent) {
            let text = format!("{} names as many archives as it may", self.place.shown(KEY));
            return Err(ShipError::Refused(text).into());
        }
        let _permit = self.at_once.acquire().await;
        let id = format!("{:032x}", random()?);
        let (packed, seen) = self.put_parts(agent, id).await?;
        let ids = before.iter().map(|before| before.id.clone()).chain([packed.id.clone()]);
        let note = Note { to: self.place.identity().to_owned(), ids: ids.collect(), fingerprint };
        // First: an archive that is named and that this disk does not know would be newer than the disk.
        let (inner, of) = (Arc::clone(self), agent.clone());
        on_disk(move || inner.write_note(&of, &note)).await?;
        let doubtful = std::mem::take(&mut *lock(&self.doubtful));
        let changed = self.retried(|| self.index.change(&self.place, agent, Some(packed.clone())));
        if let Err(error) = changed.await {
            lock(&self.doubtful).extend(doubtful.into_iter().chain(keys(agent, &packed)));
            return Err(error.into());
        }
        self.discard(doubtful.into_iter());
        if let Some(before) = &before {
            self.discard(keys(agent, before));
        }
        let inner = Arc::clone(self);
        drop(self.runtime.spawn(async move { inner.sweep().await }));
        let Seen { bytes, entries, skipped } = seen;
        let packed_bytes = packed.packed_bytes;
        Ok(Some(Shipped { bytes, packed_bytes, entries, skipped, took: began.elapsed() }))
    }

    /// Packs the tree, part by part, and writes each. What is written is removed after an error.
    async fn put_parts(
        self: &Arc<Self>,
        agent: &AgentId,
        id: String,
    ) -> Result<(Packed, Seen), ArchiveError> {
        let (sender, mut receiver) = channel(1);
        let (path, limits) = (self.folder.join(agent.as_str()), self.limits);
        let packing = spawn_blocking(move || pack::pack(&path, limits, sender));
        let mut written = Written { inner: self, keys: Vec::new() };
        let (mut digest, mut packed_bytes, mut parts) = (Sha256::new(), 0, 0);
        while let Some(part) = receiver.recv().await {
            digest.update(&part);
            packed_bytes += part.len() as u64;
            let key = key(agent, &id, parts);
            written.keys.push(key.clone());
            // One that is there already is this one: nobody else knows its name.
            self.retried(|| self.place.create(&key, part.clone())).await?;
            parts += 1;
        }
        let seen = packing.await.unwrap_or(Err(ArchiveError::Interrupted))?;
        written.keys.clear();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let packed = Packed {
            id,
            epoch: self.index.epoch(),
            parts,
            packed_bytes,
            digest: hex(&digest.finalize()),
            bytes: seen.bytes,
            entries: seen.entries,
            written_at: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        };
        Ok((packed, seen))
    }

    /// Nothing: this disk has it, or something newer.
    pub(super) async fn arrive(
        self: &Arc<Self>,
        agent: &AgentId,
        packed: &Packed,
    ) -> Result<Option<Arrived>, ArchiveError> {
        let began = Instant::now();
        let (inner, of, id) = (Arc::clone(self), agent.clone(), packed.id.clone());
        if on_disk(move || Ok(inner.is_here(&of, &id))).await? {
            return Ok(None);
        }
        let _permit = self.at_once.acquire().await;
        let staging = Staging(self.folder.join(ARRIVING).join(format!("{:032x}", random()?)));
        let seen = self.fetch(agent, packed, &staging.0).await?;
        let (inner, of, id) = (Arc::clone(self), agent.clone(), packed.id.clone());
        let kept_as = on_disk(move || inner.install(&of, id, staging)).await?;
        let Seen { bytes, entries, .. } = seen;
        Ok(Some(Arrived { bytes, entries, took: began.elapsed(), kept_as }))
    }

    /// Unpacks an archive into a new directory, and checks that it is all of it.
    async fn fetch(
        self: &Arc<Self>,
        agent: &AgentId,
        packed: &Packed,
        into: &Path,
    ) -> Result<Seen, ArchiveError> {
        let (sender, receiver) = channel(1);
        let (into, limits) = (into.to_owned(), self.limits);
        let unpacking = spawn_blocking(move || {
            use std::os::unix::fs::DirBuilderExt;
            let made = fs::DirBuilder::new().mode(0o700).create(&into);
            made.map_err(|error| ArchiveError::disk("make", &into, &error))?;
            unpack::unpack(receiver, &into, limits)
        });
        let sent = self.send_parts(agent, packed, sender).await;
        let unpacked = unpacking.await.unwrap_or(Err(ArchiveError::Interrupted));
        // What is missing is why it cannot be unpacked.
        sent?;
        let (seen, digest) = unpacked?;
        match digest == packed.digest {
            true => Ok(seen),
            false => Err(ArchiveError::Damaged(format!(
                "{} has another checksum than {} says",
                self.place.shown(&key(agent, &packed.id, 0)),
                self.place.shown(KEY)
            ))),
        }
    }

    async fn send_parts(
        &self,
        agent: &AgentId,
        packed: &Packed,
        to: Sender<bytes::Bytes>,
    ) -> Result<(), ArchiveError> {
        for key in keys(agent, packed) {
            let Some((part, _)) = self.retried(|| self.place.get(&key)).await? else {
                let why = format!("{} names it", self.place.shown(KEY));
                return Err(ShipError::Missing { object: self.place.shown(&key), why }.into());
            };
            if to.send(part).await.is_err() {
                // It says itself what is wrong.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts what was unpacked in its place. Returns where that is now which was there, if it has something that was not shipped.
    fn install(
        &self,
        agent: &AgentId,
        id: String,
        staging: Staging,
    ) -> Result<Option<PathBuf>, ArchiveError> {
        let path = self.folder.join(agent.as_str());
        let failed = |error: io::Error| ArchiveError::disk("replace", &path, &error);
        let is_there = fs::symlink_metadata(&path).is_ok();
        let kept_as = match is_there {
            // An empty one is no loss.
            true if fs::remove_dir(&path).is_err() => {
                self.set_aside(agent, &path).map_err(failed)?
            }
            _ => None,
        };
        fs::rename(&staging.0, &path).map_err(failed)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let fingerprint = survey(&path, self.limits)?.map(|survey| survey.fingerprint);
        let fingerprint = fingerprint.unwrap_or_default();
        self.write_note(
            agent,
            &Note { to: self.place.identity().to_owned(), ids: vec![id], fingerprint },
        )?;
        Ok(kept_as)
    }

    fn set_aside(&self, agent: &AgentId, path: &Path) -> io::Result<Option<PathBuf>> {
        let last = self.note(agent).and_then(|note| Some((note.ids.last()?.clone(), note)));
        let now = survey(path, self.limits).ok().flatten();
        let is_shipped = last
            .zip(now)
            .is_some_and(|((last, note), now)| note.is_unchanged(&last, &now.fingerprint));
        if is_shipped {
            return self.delete(path).map(|()| None);
        }
        let older = self.folder.join(OLDER).join(agent.as_str());
        self.delete(&older)?;
        fs::rename(path, &older)?;
        Ok(Some(older))
    }

    /// Deletes a directory, if it is there. What cannot be deleted is out of the way, and deleted at a boot.
    fn delete(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default();
        let number = random().map_err(io::Error::other)?;
        let aside = self.folder.join(REMOVED).join(format!("{number:032x}"));
        if fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        fs::create_dir_all(&aside)?;
        fs::rename(path, aside.join(name))?;
        let _ = fs::remove_dir_all(&aside);
        Ok(())
    }

    /// Whether there was one.
    pub(super) async fn remove(self: &Arc<Self>, agent: &AgentId) -> Result<bool, ArchiveError> {
        let packed = self.index.get(agent);
        if let Some(packed) = &packed {
            self.retried(|| self.index.change(&self.place, agent, None)).await?;
            self.discard(keys(agent, packed));
        }
        lock(&self.due).remove(agent);
        let (inner, of) = (Arc::clone(self), agent.clone());
        on_disk(move || {
            let _ = fs::remove_file(inner.note_path(&of));
            let older = inner.folder.join(OLDER).join(of.as_str());
            inner.delete(&older).map_err(|error| ArchiveError::disk("remove", &older, &error))
        })
        .await?;
        self.sweep().await;
        Ok(packed.is_some())
    }

    /// Nothing names these objects any more.
    fn discard(&self, keys: impl Iterator<Item = String>) {
        let mut garbage = lock(&self.garbage);
        let room = MAX_GARBAGE.saturating_sub(garbage.len());
        garbage.extend(keys.take(room));
    }

    /// Removes what nothing names. What the place does not remove now is tried again with what comes next.
    pub(super) async fn sweep(&self) {
        let keys = std::mem::take(&mut *lock(&self.garbage));
        let mut keys = keys.into_iter();
        while let Some(key) = keys.next() {
            if self.place.remove(&key).await.is_err() {
                return self.discard([key].into_iter().chain(keys));
            }
        }
    }

    /// Calls the place again while it does not answer, for [`Self::wait`]; once, if it did not answer just now.
    async fn retried<T, F>(&self, call: impl Fn() -> F) -> Result<T, ShipError>
    where
        F: Future<Output = Result<T, ShipError>>,
    {
        let (until, mut pause) = (Instant::now() + self.wait, AGAIN.0);
        let is_failing = lock(&self.failing).is_some_and(|since| since.elapsed() < self.wait);
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(AGAIN.0);
            let answer = timeout(left, call()).await.unwrap_or_else(|_| {
                let wait = self.wait;
                Err(ShipError::Unavailable(format!("no answer in {wait:?} (ship.wait_ms)")))
            });
            match answer {
                Err(error) if error.may_pass() => {
                    if is_failing || Instant::now() + pause >= until {
                        *lock(&self.failing) = Some(Instant::now());
                        return Err(error);
                    }
                }
                answer => {
                    *lock(&self.failing) = None;
                    return answer;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }
}

/// Objects that nothing names yet. They are removed if nothing ever does.
struct Written<'a> {
    inner: &'a Arc<Inner>,
    keys: Vec<String>,
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        self.inner.discard(std::mem::take(&mut self.keys).into_iter());
    }
}

/// A directory that is removed, unless it was moved away.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        if path.exists() {
            let _ = fs::remove_dir_all(path);
        }
    }
}
