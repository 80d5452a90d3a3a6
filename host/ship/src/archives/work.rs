//! Shipping a workspace, bringing one here, removing one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_types::AgentId;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::index::{KEY, Packed};
use super::note::Note;
use super::walk::{Seen, Survey, survey};
use super::{ArchiveError, Arrived, Inner, Limits, Shipped, pack, unpack};
use crate::fault::ShipError;
use crate::place::Put;
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
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Objects that nothing names and that are still to be removed, at most.
const MAX_GARBAGE: usize = 4096;

/// Removes what an earlier process was about to unpack.
pub(super) fn clear(folder: &Path) {
    for entry in fs::read_dir(folder.join(ARRIVING)).into_iter().flatten().flatten() {
        let _ = delete(folder, &entry.path());
    }
}

/// Agents whose workspace may have more than is shipped, by what an earlier process noted.
pub(super) fn owed(folder: &Path, to: &str) -> Vec<AgentId> {
    let notes = fs::read_dir(folder.join(NOTES)).into_iter().flatten().flatten();
    let is_owed = |agent: &AgentId| {
        folder.join(agent.as_str()).is_dir()
            && Note::read(&folder.join(NOTES).join(agent.as_str()), to)
                .is_some_and(|it| it.is_owed())
    };
    let names = notes.filter_map(|entry| AgentId::parse(entry.file_name().to_str()?).ok());
    names.filter(is_owed).collect()
}

/// For a run that does not ship workspaces: agents go on here from what was shipped.
pub(super) fn go_on(folder: &Path) -> io::Result<()> {
    let notes = match fs::read_dir(folder.join(NOTES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        notes => notes?,
    };
    let mut all = Ok(());
    for entry in notes {
        let path = entry?.path();
        let note = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let noted = match note.filter(|note| !note.is_used) {
            Some(note) => note.used().write(&path),
            None => Ok(()),
        };
        all = all.and(noted);
    }
    all
}

/// Deletes a directory, if it is there. What cannot be deleted is out of the way, and deleted at a boot.
fn delete(folder: &Path, path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let number = random().map_err(io::Error::other)?;
    let aside = folder.join(REMOVED).join(format!("{number:032x}"));
    fs::create_dir_all(&aside)?;
    fs::rename(path, aside.join(path.file_name().unwrap_or_default()))?;
    let _ = fs::remove_dir_all(&aside);
    Ok(())
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
    pub(super) fn is_here(&self, agent: &AgentId, packed: &Packed) -> Result<bool, ArchiveError> {
        let id = packed.id.as_str();
        let path = self.folder.join(agent.as_str());
        if !fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
            return Ok(false);
        }
        let Some(note) = self.note(agent).filter(|note| note.knows(id)) else { return Ok(false) };
        if note.is_ahead_of(id) {
            return Ok(true);
        }
        match survey(&path, self.limits_of(packed)) {
            Ok(now) => Ok(now.is_some_and(|now| note.is_unchanged(id, &now.fingerprint))),
            Err(ArchiveError::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One that is there is taken, whatever the limit is by now.
    fn limits_of(&self, packed: &Packed) -> Limits {
        let Limits { bytes, entries } = self.limits;
        Limits { bytes: bytes.max(packed.bytes), entries: entries.max(packed.entries) }
    }

    /// The agent begins: from now on there may be more here than in the archive.
    pub(super) fn begins(&self, agent: &AgentId) -> Result<(), ArchiveError> {
        let mut begun = self.begun.lock();
        *begun.entry(agent.clone()).or_default() += 1;
        match self.note(agent) {
            Some(note) if note.is_used_now() => Ok(()),
            Some(note) => self.write_note_soon(agent, &note.used()),
            None => self.write_note_soon(agent, &Note::new(self.place.identity())),
        }
    }

    /// Does something with the note of an agent, unless it has begun since it was counted.
    async fn while_down(
        self: &Arc<Self>,
        agent: &AgentId,
        begun: u64,
        work: impl FnOnce() -> Result<(), ArchiveError> + Send + 'static,
    ) -> Result<(), ArchiveError> {
        let (inner, agent) = (Arc::clone(self), agent.clone());
        on_disk(move || {
            let counts = inner.begun.lock();
            match counts.get(&agent).copied().unwrap_or_default() == begun {
                true => work(),
                false => Err(ArchiveError::Interrupted),
            }
        })
        .await
    }

    fn write_note(&self, agent: &AgentId, note: &Note) -> Result<(), ArchiveError> {
        let path = self.note_path(agent);
        note.write(&path).map_err(|error| ArchiveError::disk("write", &path, &error))
    }

    fn write_note_soon(&self, agent: &AgentId, note: &Note) -> Result<(), ArchiveError> {
        let path = self.note_path(agent);
        note.write_soon(&path).map_err(|error| ArchiveError::disk("write", &path, &error))
    }

    /// Nothing: it is shipped as it is, or there is nothing.
    pub(super) async fn changed(
        self: &Arc<Self>,
        agent: &AgentId,
    ) -> Result<Option<Changed>, ArchiveError> {
        let before = self.index.get(agent);
        let (inner, of) = (Arc::clone(self), agent.clone());
        let looked = on_disk(move || {
            let begun = inner.begun.lock().get(&of).copied().unwrap_or_default();
            let found = survey(&inner.folder.join(of.as_str()), inner.limits)?;
            Ok((found, inner.note(&of), begun))
        });
        let (Some(Survey { seen, fingerprint }), note, begun) = looked.await? else {
            return Ok(None);
        };
        let note = note.unwrap_or_default();
        match &before {
            None if seen.entries == 0 => return Ok(None),
            Some(before) if !note.knows(&before.id) => return Err(ArchiveError::Overtaken),
            Some(before) if note.is_unchanged(&before.id, &fingerprint) => {
                if note.is_owed() {
                    let (inner, of) = (Arc::clone(self), agent.clone());
                    let write = move || inner.write_note_soon(&of, &note.named());
                    self.while_down(agent, begun, write).await?;
                }
                return Ok(None);
            }
            // The disk has lost what is in the archive.
            Some(before) if !note.is_ahead_of(&before.id) => return Err(ArchiveError::Overtaken),
            _ => {}
        }
        if !self.index.takes(agent) {
            let text = format!("{} names as many archives as it may", self.place.shown(KEY));
            return Err(ShipError::Refused(text).into());
        }
        Ok(Some(Changed { before, note, fingerprint, begun }))
    }

    /// Packs it, and has the index name it.
    pub(super) async fn ship(
        self: &Arc<Self>,
        agent: &AgentId,
        Changed { before, note, fingerprint, begun }: Changed,
    ) -> Result<Shipped, ArchiveError> {
        let began = Instant::now();
        let id = format!("{:032x}", random()?);
        let (packed, seen, written) = self.put_parts(agent, id).await?;
        let note = note.with(self.place.identity(), packed.id.clone(), fingerprint, seen.skipped);
        // First: an archive that is named and that this disk does not know would be newer than the disk.
        let (inner, of, packed_note) = (Arc::clone(self), agent.clone(), note.clone());
        let write = move || inner.write_note(&of, &packed_note);
        self.while_down(agent, begun, write).await?;
        let both = before.into_iter().chain([packed.clone()]);
        let doubts = Doubts::take(self, both.map(|packed| (agent.clone(), packed)));
        written.keep();
        self.retried(self.wait, || self.index.change(&self.place, agent, Some(packed.clone())))
            .await?;
        doubts.settle();
        // Now what is here is known to be there. Without this the next look finds it.
        let (inner, of) = (Arc::clone(self), agent.clone());
        let write = move || inner.write_note_soon(&of, &note.named());
        let _ = self.while_down(agent, begun, write).await;
        let inner = Arc::clone(self);
        drop(self.runtime.spawn(async move { inner.sweep().await }));
        let Seen { bytes, entries, skipped } = seen;
        let packed_bytes = packed.packed_bytes;
        Ok(Shipped { bytes, packed_bytes, entries, skipped, took: began.elapsed() })
    }

    /// Packs the tree, part by part, and writes each. What is written is removed, unless it is kept.
    async fn put_parts(
        &self,
        agent: &AgentId,
        id: String,
    ) -> Result<(Packed, Seen, Written<'_>), ArchiveError> {
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
            self.retried(self.patience(part.len()), || self.put_part(&key, &part)).await?;
            parts += 1;
        }
        let seen = packing.await.unwrap_or(Err(ArchiveError::Interrupted))?;
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
        Ok((packed, seen, written))
    }

    async fn put_part(&self, key: &str, part: &Bytes) -> Result<(), ShipError> {
        if let Put::Stored(_) = self.place.create(key, part.clone()).await? {
            return Ok(());
        }
        // Nobody else knows its name. It is the same part, or a server that is still busy with another try of it.
        match self.place.get(key).await? {
            Some((there, _)) if there == *part => Ok(()),
            Some(_) => {
                let what = "it is not what was written";
                Err(ShipError::damaged(&self.place.shown(key), what.to_owned()))
            }
            None => {
                let shown = self.place.shown(key);
                Err(ShipError::Unavailable(format!(
                    "the server refuses {shown}, and does not have it"
                )))
            }
        }
    }

    /// Brings an archive here. `guard` keeps others away from the workspace, also while it is put in its place after this was
    /// dropped.
    pub(super) async fn arrive(
        self: &Arc<Self>,
        agent: &AgentId,
        packed: &Packed,
        guard: impl Send + 'static,
    ) -> Result<Arrived, ArchiveError> {
        let began = Instant::now();
        let (staging, seen) = self.fetch(agent, packed).await?;
        let (inner, of, packed) = (Arc::clone(self), agent.clone(), packed.clone());
        let installed = on_disk(move || {
            let _guard = guard;
            inner.install(&of, packed, staging)
        });
        let (Seen { bytes, entries, .. }, kept_as) = (seen, installed.await?);
        Ok(Arrived { bytes, entries, took: began.elapsed(), kept_as })
    }

    /// Unpacks an archive into a new directory, and checks that it is all of it.
    async fn fetch(
        self: &Arc<Self>,
        agent: &AgentId,
        packed: &Packed,
    ) -> Result<(Staging, Seen), ArchiveError> {
        let (sender, receiver) = channel(1);
        let (inner, number, limits) = (Arc::clone(self), random()?, self.limits_of(packed));
        // It is removed where it is written, and not before that has ended.
        let unpacking = spawn_blocking(move || {
            use std::os::unix::fs::DirBuilderExt;
            let path = inner.folder.join(ARRIVING).join(format!("{number:032x}"));
            let made = fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|error| ArchiveError::disk("make", &path, &error))?;
            let staging = Staging { inner, path };
            let (seen, digest) = unpack::unpack(receiver, &staging.path, limits)?;
            Ok((staging, seen, digest))
        });
        let sent = self.send_parts(agent, packed, sender).await;
        let unpacked = unpacking.await.unwrap_or(Err(ArchiveError::Interrupted));
        // What is missing is why it cannot be unpacked.
        sent?;
        let (staging, seen, digest) = unpacked?;
        if digest == packed.digest {
            return Ok((staging, seen));
        }
        let _ = spawn_blocking(move || drop(staging)).await;
        Err(ArchiveError::Damaged(format!(
            "{} has another checksum than {} says",
            self.place.shown(&key(agent, &packed.id, 0)),
            self.place.shown(KEY)
        )))
    }

    async fn send_parts(
        &self,
        agent: &AgentId,
        packed: &Packed,
        to: Sender<Bytes>,
    ) -> Result<(), ArchiveError> {
        let patience = self.patience(pack::PART_BYTES);
        for key in keys(agent, packed) {
            let Some((part, _)) = self.retried(patience, || self.place.get(&key)).await? else {
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
        packed: Packed,
        staging: Staging,
    ) -> Result<Option<PathBuf>, ArchiveError> {
        let limits = self.limits_of(&packed);
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
        // Before it is there: a tree without this would be one that was never shipped, and push that out which is kept.
        let print = survey(&staging.path, limits)?.map(|survey| survey.fingerprint);
        let note = Note::of(self.place.identity(), packed.id, print.unwrap_or_default());
        let begun = self.begun.lock();
        self.write_note(agent, &note)?;
        drop(begun);
        fs::rename(&staging.path, &path).map_err(failed)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(kept_as)
    }

    fn set_aside(&self, agent: &AgentId, path: &Path) -> io::Result<Option<PathBuf>> {
        let now = survey(path, self.limits).ok().flatten();
        let is_shipped = self.note(agent).zip(now).is_some_and(|(note, now)| note.is_shipped(&now));
        if is_shipped {
            return delete(&self.folder, path).map(|()| None);
        }
        let older = self.folder.join(OLDER).join(agent.as_str());
        delete(&self.folder, &older)?;
        fs::rename(path, &older)?;
        Ok(Some(older))
    }

    /// Whether there was an archive.
    pub(super) async fn withdraw(self: &Arc<Self>, agent: &AgentId) -> Result<bool, ArchiveError> {
        let packed = self.index.get(agent);
        let is_in_doubt = self.doubtful.lock().iter().any(|(of, _)| of == agent);
        if packed.is_some() || is_in_doubt {
            let named = packed.clone().map(|packed| (agent.clone(), packed));
            let doubts = Doubts::take(self, named);
            self.retried(self.wait, || self.index.change(&self.place, agent, None)).await?;
            doubts.settle();
        }
        self.due.settle(agent);
        let (inner, of) = (Arc::clone(self), agent.clone());
        let forget = move || {
            let _ = fs::remove_file(inner.note_path(&of));
            Ok(())
        };
        on_disk(forget).await?;
        let inner = Arc::clone(self);
        drop(self.runtime.spawn(async move { inner.sweep().await }));
        Ok(packed.is_some())
    }

    /// Deletes what was kept of a workspace when a newer one arrived.
    pub(super) async fn delete_older(
        self: &Arc<Self>,
        agent: &AgentId,
    ) -> Result<(), ArchiveError> {
        let (inner, older) = (Arc::clone(self), self.folder.join(OLDER).join(agent.as_str()));
        on_disk(move || {
            let deleted = delete(&inner.folder, &older);
            deleted.map_err(|error| ArchiveError::disk("remove", &older, &error))
        })
        .await
    }

    /// Nothing names these objects any more.
    fn discard(&self, keys: impl Iterator<Item = String>) {
        let mut garbage = self.garbage.lock();
        let room = MAX_GARBAGE.saturating_sub(garbage.len());
        garbage.extend(keys.take(room));
    }

    /// Removes what nothing names. What the place does not remove now is tried again with what comes next.
    pub(super) async fn sweep(&self) {
        // What is left when this is dropped is garbage again.
        let mut rest = Written { inner: self, keys: std::mem::take(&mut *self.garbage.lock()) };
        while let Some(key) = rest.keys.last() {
            if self.place.remove(key).await.is_err() {
                return;
            }
            rest.keys.pop();
        }
    }

    /// How long a part may take on its way: as long for each MiB as the place may not answer.
    fn patience(&self, bytes: usize) -> Duration {
        self.wait * u32::try_from(bytes.div_ceil(1024 * 1024)).unwrap_or(u32::MAX).max(1)
    }

    /// Calls the place again while it does not answer, for [`Self::wait`]; once, if it did not answer just now. One call may take
    /// `patience`.
    async fn retried<T, F>(&self, patience: Duration, call: impl Fn() -> F) -> Result<T, ShipError>
    where
        F: Future<Output = Result<T, ShipError>>,
    {
        let began = Instant::now();
        let (until, at_most, mut pause) = (began + self.wait, began + patience, AGAIN.0);
        let is_failing = self.failing.lock().is_some_and(|since| since.elapsed() < self.wait);
        loop {
            let left = at_most.saturating_duration_since(Instant::now()).max(AGAIN.0);
            let answer = timeout(left, call()).await.unwrap_or_else(|_| {
                let text = format!("no answer in {patience:?} (ship.wait_ms for each MiB)");
                Err(ShipError::Unavailable(text))
            });
            match answer {
                Err(error) if error.may_pass() => {
                    if is_failing || Instant::now() + pause >= until {
                        *self.failing.lock() = Some(Instant::now());
                        return Err(error);
                    }
                }
                answer => {
                    *self.failing.lock() = None;
                    return answer;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }
}

/// A workspace that is not shipped as it is.
pub(super) struct Changed {
    /// The archive that the index names now.
    before: Option<Packed>,
    note: Note,
    fingerprint: String,
    /// How often the agent had begun when this was found.
    begun: u64,
}

/// Archives of which it is not known whether the index names them. With the next write of the index it is.
struct Doubts<'a> {
    inner: &'a Inner,
    /// In doubt before, and until this settles them: who withdraws one has to know.
    known: Vec<(AgentId, Packed)>,
    /// In doubt if this is dropped. Nobody else settles what may be about to be named.
    own: Vec<(AgentId, Packed)>,
}

impl<'a> Doubts<'a> {
    /// All that there are, and more.
    fn take(inner: &'a Inner, own: impl IntoIterator<Item = (AgentId, Packed)>) -> Self {
        let known = inner.doubtful.lock().clone();
        Self { inner, known, own: own.into_iter().collect() }
    }

    /// The index was written: what it does not name is nobody's any more.
    fn settle(mut self) {
        let mut settled = std::mem::take(&mut self.own);
        let is_known = |archive: &mut _| self.known.contains(archive);
        settled.extend(self.inner.doubtful.lock().extract_if(.., is_known));
        for (agent, packed) in settled {
            let named = self.inner.index.get(&agent);
            if named.is_none_or(|named| named.id != packed.id) {
                self.inner.discard(keys(&agent, &packed));
            }
        }
    }
}

impl Drop for Doubts<'_> {
    fn drop(&mut self) {
        let mut doubtful = self.inner.doubtful.lock();
        let room = MAX_GARBAGE.saturating_sub(doubtful.len());
        doubtful.extend(self.own.drain(..).take(room));
    }
}

/// Objects that nothing names yet. They are removed if nothing ever does.
struct Written<'a> {
    inner: &'a Inner,
    keys: Vec<String>,
}

impl Written<'_> {
    /// Somebody else cares for them.
    fn keep(mut self) {
        self.keys.clear();
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        self.inner.discard(std::mem::take(&mut self.keys).into_iter());
    }
}

/// A directory that is removed, unless it was moved away.
struct Staging {
    inner: Arc<Inner>,
    path: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = delete(&self.inner.folder, &self.path);
    }
}

#[cfg(test)]
mod tests;
