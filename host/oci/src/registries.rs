//! The face of the crate: a reference in, a file out.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bulkhead_net::Boxed;
use bulkhead_types::Digest;
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::cache::{Cache, Entry};
use crate::download;
use crate::failure::Cause;
use crate::session::Session;
use crate::settings::Settings;
use crate::signature::Signature;
use crate::{FetchError, PublicKey, Reference};

/// Components of registries, and those that are kept of them. Cheap to clone.
#[derive(Clone)]
pub struct Registries(Arc<Inner>);

struct Inner {
    settings: Arc<Settings>,
    cache: Cache,
    /// Downloads that somebody waits for, one for each reference and each key that it has to be signed by.
    under_way: Mutex<HashMap<Wanted, WeakShared<Download>>>,
}

type Wanted = (Reference, Option<PublicKey>);

type Download = Boxed<'static, Result<(), Cause>>;

/// A component on the disk. It stays there while this or a clone of it exists.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its file. Not to be changed.
    pub path: Arc<Path>,
    /// SHA-256 of its bytes, which is not the digest of the reference.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    _lock: Arc<File>,
}

impl Registries {
    /// Asks nobody. Removes what a process left that was killed while it fetched.
    pub fn open(settings: Settings) -> Self {
        let cache = Cache::open(settings.dir.clone(), settings.bounds);
        let settings = Arc::new(settings);
        Self(Arc::new(Inner { settings, cache, under_way: Mutex::default() }))
    }

    /// The component, if it is kept and its signature with it, where one is wanted. Asks no registry. Reads the whole
    /// file: it blocks for a second for each few hundred megabytes.
    pub fn kept(
        &self,
        reference: &Reference,
        key: Option<&PublicKey>,
    ) -> Result<Option<Component>, FetchError> {
        let entry = self.0.cache.find(reference.digest()).map_err(|cause| cause.of(reference))?;
        let key = key.or_else(|| self.0.settings.public_key(reference));
        let is_signed = key.is_none_or(|key| self.0.is_signed(reference, key));
        Ok(entry.filter(|_| is_signed).map(Component::of))
    }

    /// The component, from the disk if it is kept, else from its registry, within [`Times::fetch`]. It has to be signed
    /// by `key`; without one by the key of the settings, if there is one. What is not is not kept.
    ///
    /// Callers that want the same at the same time share one download, which ends when the last of them is dropped.
    ///
    /// [`Times::fetch`]: crate::Times::fetch
    pub async fn get(
        &self,
        reference: &Reference,
        key: Option<&PublicKey>,
    ) -> Result<Component, FetchError> {
        self.0.get(reference, key).await.map_err(|cause| cause.of(reference))
    }

    /// Callers that wait for the download of a reference.
    #[cfg(test)]
    pub(crate) fn waiting(&self, reference: &Reference) -> usize {
        let under_way = self.0.under_way.lock();
        let shared = under_way.get(&(reference.clone(), None)).and_then(WeakShared::upgrade);
        // One is this one.
        shared.and_then(|it| it.strong_count()).map_or(0, |count| count - 1)
    }
}

impl Inner {
    async fn get(
        self: &Arc<Self>,
        reference: &Reference,
        key: Option<&PublicKey>,
    ) -> Result<Component, Cause> {
        let until = Instant::now() + self.settings.times.fetch;
        let key = key.or_else(|| self.settings.public_key(reference));
        let entry = match self.find(reference).await? {
            Some(entry) => entry,
            None => {
                self.download((reference.clone(), key.cloned())).await?;
                let found = self.find(reference).await?;
                found.ok_or_else(|| Cause::Disk {
                    doing: "read the component that was just written".into(),
                    reason: "it is gone or damaged".into(),
                })?
            }
        };
        if let Some(key) = key {
            self.verify(reference, key, until).await?;
        }
        Ok(Component::of(entry))
    }

    async fn find(self: &Arc<Self>, reference: &Reference) -> Result<Option<Entry>, Cause> {
        let digest = reference.digest();
        self.on_disk(move |cache| cache.find(digest)).await
    }

    /// Joins the download of a reference, or begins it.
    async fn download(self: &Arc<Self>, wanted: Wanted) -> Result<(), Cause> {
        let shared = {
            let mut under_way = self.under_way.lock();
            // What is over, or wanted by nobody.
            under_way.retain(|_, it| it.upgrade().is_some_and(|it| it.peek().is_none()));
            under_way.get(&wanted).and_then(WeakShared::upgrade).unwrap_or_else(|| {
                let shared = self.begin(wanted.clone());
                under_way.extend(shared.downgrade().map(|it| (wanted, it)));
                shared
            })
        };
        shared.await
    }

    fn begin(self: &Arc<Self>, (reference, key): Wanted) -> Shared<Download> {
        let inner = Arc::clone(self);
        let within = self.settings.times.fetch;
        let download: Download = Box::pin(async move {
            let until = Instant::now() + within;
            let fetched = timeout_at(until, inner.fetch(&reference, key.as_ref(), until)).await;
            fetched.unwrap_or_else(|_| Err(late(&inner.settings)))
        });
        download.shared()
    }

    /// Puts the component in its place, with the signature that it has to have.
    async fn fetch(
        self: &Arc<Self>,
        reference: &Reference,
        key: Option<&PublicKey>,
        until: Instant,
    ) -> Result<(), Cause> {
        let session = Session::new(Arc::clone(&self.settings), reference.clone());
        let found = download::manifest(&session, until).await?;
        let (layer, max_bytes) = (found.layer, self.settings.bounds.max_component_bytes);
        if layer.bytes > max_bytes {
            let what = format!("layer sha256:{}", layer.digest);
            return Err(Cause::TooLarge { what, bytes: layer.bytes, max_bytes });
        }
        let signature = match key {
            Some(key) => Some(signed(&session, key, until).await?),
            None => None,
        };
        let (making, file) = self.on_disk(Cache::begin).await?;
        download::layer(&session, layer, file.into(), until).await?;
        let digest = reference.digest();
        self.on_disk(move |cache| {
            cache.keep(digest, making, &found.documents, signature.as_ref(), layer.bytes)
        })
        .await
    }

    /// Whether the signature that is kept is by this key.
    fn is_signed(&self, reference: &Reference, key: &PublicKey) -> bool {
        let digest = reference.digest();
        let kept = self.cache.signature(digest);
        kept.is_some_and(|signature| key.verify(&signature, digest).is_ok())
    }

    /// Asks for signatures, unless one is kept.
    async fn verify(
        self: &Arc<Self>,
        reference: &Reference,
        key: &PublicKey,
        until: Instant,
    ) -> Result<(), Cause> {
        if self.is_signed(reference, key) {
            return Ok(());
        }
        let session = Session::new(Arc::clone(&self.settings), reference.clone());
        let asked = timeout_at(until, signed(&session, key, until)).await;
        let signature = asked.map_err(|_| late(&self.settings))??;
        let digest = reference.digest();
        self.on_disk(move |cache| cache.keep_signature(digest, &signature)).await
    }

    /// On another thread, which a disk may block.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Cache) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, Cause> {
        let inner = Arc::clone(self);
        let done = spawn_blocking(move || work(&inner.cache)).await;
        done.unwrap_or_else(|_| {
            let (doing, reason) =
                ("use the cache of components".into(), "the call panicked".into());
            Err(Cause::Disk { doing, reason })
        })
    }
}

impl Component {
    fn of(entry: Entry) -> Self {
        let Entry { path, digest, bytes, lock } = entry;
        Self { path: path.into(), digest, bytes, _lock: Arc::new(lock) }
    }
}

/// Asks for the signatures of a component, and finds one by this key.
async fn signed(session: &Session, key: &PublicKey, until: Instant) -> Result<Signature, Cause> {
    let found = download::signatures(session, until).await?;
    let (count, mut reason) = (found.len(), None);
    let reference = session.reference();
    for signature in found {
        match key.verify(&signature, reference.digest()) {
            Ok(()) => return Ok(signature),
            Err(why) => reason = Some(why),
        }
    }
    Err(match reason {
        Some(reason) => Cause::WrongSignature { count, reason },
        None => {
            let (repository, digest) = (reference.repository().to_owned(), reference.digest());
            Cause::Unsigned { at: session.at(), repository, digest }
        }
    })
}

fn late(settings: &Settings) -> Cause {
    Cause::Deadline { seconds: settings.times.fetch.as_secs() }
}
