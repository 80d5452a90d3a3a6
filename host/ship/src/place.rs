//! Objects of a town, by keys below its name.

mod bucket;
mod directory;
mod nats;

use std::time::Duration;

use bulkhead_bucket::{Cause, Fault};
use bytes::Bytes;
use tokio::time::timeout;

use crate::fault::ShipError;
use crate::settings::{Address, Settings};

/// Largest object that is written or read, in bytes.
pub(crate) const MAX_OBJECT_BYTES: usize = 16 * 1024 * 1024;

/// What [`Settings::call`] is for.
const CALL_BYTES: usize = 1024 * 1024;

/// A read, whose size nobody knows before, has so many times [`Settings::call`].
const READ_CALLS: u32 = 4;

/// Times that an object is read before there is no answer.
const READS: u32 = 3;

/// Where the objects of a town are.
pub(crate) struct Place {
    kind: Kind,
    /// `s3://bucket/prefix/town`, for people.
    shown: String,
    /// The same however its servers are reached.
    identity: String,
    /// For one object of up to a MiB.
    call: Duration,
}

enum Kind {
    Bucket(bucket::Objects),
    Directory(directory::Directory),
    Nats(Box<nats::Objects>),
}

/// What became of an object that was to be the first with its key, or to replace a certain one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is there, in this version.
    Stored(String),
    /// Another one is there.
    Conflict,
}

impl From<bulkhead_bucket::Put> for Put {
    fn from(put: bulkhead_bucket::Put) -> Self {
        match put {
            bulkhead_bucket::Put::Stored { etag } => Self::Stored(etag),
            bulkhead_bucket::Put::Conflict => Self::Conflict,
        }
    }
}

fn of(fault: Fault) -> ShipError {
    match fault.cause {
        Cause::Connect | Cause::Protocol => ShipError::Unavailable(fault.message),
        Cause::Refused | Cause::Full => ShipError::Refused(fault.message),
        Cause::NoBucket => ShipError::NoPlace(fault.message),
    }
}

impl Place {
    pub fn new(settings: &Settings) -> Result<Self, ShipError> {
        let town = settings.town.as_str();
        let kind = match &settings.to {
            Address::S3(s3) => {
                let connector = settings.connector.clone();
                Kind::Bucket(bucket::Objects::new(s3, connector, settings.call, town)?)
            }
            Address::File(dir) => {
                Kind::Directory(directory::Directory::new(dir, town, settings.call))
            }
            Address::Nats(nats) => {
                let connector = settings.connector.clone();
                Kind::Nats(Box::new(nats::Objects::new(nats, connector, settings.call, town)))
            }
        };
        let shown = format!("{}/{town}", settings.to);
        let identity = format!("{}/{town}", settings.to.identity());
        Ok(Self { kind, shown, identity, call: settings.call })
    }

    /// What names the town at this place, and no other one.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// An object as people know it.
    pub fn shown(&self, key: &str) -> String {
        format!("{}/{key}", self.shown)
    }

    /// Whether the place has conditions, as far as that can be seen. Removes what dead writers left in a directory.
    pub async fn probe(&self) -> Result<(), ShipError> {
        match &self.kind {
            Kind::Bucket(objects) => {
                self.bounded(1, "try conditions at", "ship.probe", objects.probe(&self.shown)).await
            }
            Kind::Directory(dir) => self.bounded(1, "tidy", "", dir.tidy()).await,
            Kind::Nats(it) => {
                self.bounded(1, "try conditions at", "ship.probe", it.probe(&self.shown)).await
            }
        }
    }

    /// Puts an object where there is none. After an error it may be there.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Put, ShipError> {
        self.put(key, bytes, None).await
    }

    /// Puts an object in the place of the one in this version. After an error it may be there.
    pub async fn replace(&self, key: &str, bytes: Bytes, version: &str) -> Result<Put, ShipError> {
        self.put(key, bytes, Some(version)).await
    }

    async fn put(&self, key: &str, bytes: Bytes, version: Option<&str>) -> Result<Put, ShipError> {
        bulkhead_fence::pass();
        let calls = u32::try_from(bytes.len().div_ceil(CALL_BYTES)).unwrap_or(u32::MAX).max(1);
        match &self.kind {
            Kind::Bucket(it) => {
                self.bounded(calls, "write", key, it.put(key, bytes, version)).await
            }
            Kind::Directory(it) => {
                self.bounded(calls, "write", key, it.put(key, bytes, version)).await
            }
            Kind::Nats(it) => self.bounded(calls, "write", key, it.put(key, bytes, version)).await,
        }
    }

    /// Reads an object, with its version. Tried again at once: a boot reads many.
    pub async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, ShipError> {
        for _ in 1..READS {
            match self.read(key).await {
                Err(ShipError::Unavailable(_)) => {}
                answer => return answer,
            }
        }
        self.read(key).await
    }

    async fn read(&self, key: &str) -> Result<Option<(Bytes, String)>, ShipError> {
        match &self.kind {
            Kind::Bucket(objects) => self.bounded(READ_CALLS, "read", key, objects.get(key)).await,
            Kind::Directory(dir) => self.bounded(READ_CALLS, "read", key, dir.get(key)).await,
            Kind::Nats(objects) => self.bounded(READ_CALLS, "read", key, objects.get(key)).await,
        }
    }

    /// Removes an object, if there is one.
    pub async fn remove(&self, key: &str) -> Result<(), ShipError> {
        bulkhead_fence::pass();
        match &self.kind {
            Kind::Bucket(objects) => self.bounded(1, "remove", key, objects.remove(key)).await,
            Kind::Directory(dir) => self.bounded(1, "remove", key, dir.remove(key)).await,
            Kind::Nats(objects) => self.bounded(1, "remove", key, objects.remove(key)).await,
        }
    }

    async fn bounded<T>(
        &self,
        calls: u32,
        doing: &str,
        key: &str,
        call: impl Future<Output = Result<T, ShipError>>,
    ) -> Result<T, ShipError> {
        let object = self.shown(key);
        let patience = self.call * calls;
        match timeout(patience, call).await {
            Ok(Err(ShipError::Unavailable(text))) => {
                Err(ShipError::Unavailable(format!("cannot {doing} {object}: {text}")))
            }
            Ok(Err(ShipError::Refused(text))) => {
                Err(ShipError::Refused(format!("cannot {doing} {object}: {text}")))
            }
            Ok(Err(ShipError::NoPlace(text))) => {
                Err(ShipError::NoPlace(format!("cannot {doing} {object}: {text}")))
            }
            Ok(answer) => answer,
            Err(_) => {
                let text =
                    format!("cannot {doing} {object}: no answer in {patience:?} (ship.call_ms)");
                Err(ShipError::Unavailable(text))
            }
        }
    }
}
