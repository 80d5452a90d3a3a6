//! Objects in a key-value bucket of NATS JetStream, with keys `ship.TOWN.KEY`: dots of the name are `=`, slashes of the key dots.
//!
//! A server takes messages of 1 MiB at most, unless it is told otherwise. So a larger object is in parts, each with a key of its
//! own below that of the object, and the object itself says which.
//!
//! ```text
//!   ship.TOWN.log.7                       "parts 3 1500000 9f…"
//!   ship.TOWN.log.7.9f….0  …1  …2         its bytes
//! ```
//!
//! All parts are there before the object is written, on its condition: that one write makes it visible. They are named by the
//! digest of the whole. A writer that tries again asks which are there and writes what is missing, two writers with other bytes are not
//! in each other's way, and what one leaves that died goes with the object.

use std::time::Duration;

use bulkhead_nats::{Bucket, Cause, Document, Fault, Nats};
use bulkhead_net::Connector;
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;

use super::{MAX_OBJECT_BYTES, Put};
use crate::fault::ShipError;
use crate::segment::hex_digest;

/// An object of which nothing matters but whether it may be written.
const PROBE: &str = "ship.probe";

/// Largest object in one message, and largest part.
const PART_BYTES: usize = 512 * 1024;

/// What a message has beside them: its headers.
const AROUND: usize = 4096;

/// Parts that are written or read at once.
const AT_ONCE: usize = 8;

pub(super) struct Objects {
    bucket: Bucket,
    town: String,
}

/// What an object says that is in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    count: usize,
    bytes: usize,
    /// Of all bytes.
    digest: String,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let count = bytes.len().div_ceil(PART_BYTES);
        Self { count, bytes: bytes.len(), digest: hex_digest(bytes) }
    }

    fn note(&self) -> String {
        format!("parts {} {} {}", self.count, self.bytes, self.digest)
    }

    fn parse(note: &str) -> Option<Self> {
        let words: Vec<_> = note.split(' ').collect();
        let ["parts", count, bytes, digest] = words[..] else { return None };
        let (count, bytes): (usize, usize) = (count.parse().ok()?, bytes.parse().ok()?);
        let is_digest = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fits = bytes <= 2 * MAX_OBJECT_BYTES && count <= bytes && is_digest;
        fits.then(|| Self { count, bytes, digest: digest.to_owned() })
    }

    fn key(&self, object: &str, part: usize) -> String {
        format!("{object}.{}.{part}", self.digest)
    }
}

impl Objects {
    pub fn new(nats: &Nats, connector: Connector, call: Duration, town: &str) -> Self {
        // A server that swallows packets leaves time for another one.
        let bucket = Bucket::new(nats.clone(), connector, call / 3);
        Self { bucket, town: town.replace('.', "=") }
    }

    fn key(&self, key: &str) -> String {
        format!("ship.{}.{}", self.town, key.replace('/', "."))
    }

    pub async fn probe(&self, shown: &str) -> Result<(), ShipError> {
        let probed = self.bucket.probe(&self.key(PROBE), PART_BYTES + AROUND).await;
        probed.map_err(|fault| match fault.cause {
            Cause::Misbehaves => ShipError::damaged(shown, fault.message),
            _ => of(fault),
        })
    }

    pub async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        version: Option<&str>,
    ) -> Result<Put, ShipError> {
        let key = self.key(key);
        if bytes.len() <= PART_BYTES {
            return self.put_one(&key, &bytes, None, version).await;
        }
        let parts = Parts::of(&bytes);
        let there = format!("{key}.{}", parts.digest);
        let there = self.bucket.keys(&there, parts.count).await.map_err(of)?.keys;
        let chunks = bytes.chunks(PART_BYTES).enumerate();
        let chunks: Vec<_> =
            chunks.filter(|(part, _)| !there.contains(&part.to_string())).collect();
        for some in chunks.chunks(AT_ONCE) {
            let put = some.iter().map(|(part, bytes)| {
                let key = parts.key(&key, *part);
                async move { self.put_one(&key, bytes, None, None).await }
            });
            // One that is there already has these bytes.
            for put in join_all(put).await {
                put?;
            }
        }
        self.put_one(&key, b"", Some(&parts.note()), version).await
    }

    async fn put_one(
        &self,
        key: &str,
        bytes: &[u8],
        note: Option<&str>,
        version: Option<&str>,
    ) -> Result<Put, ShipError> {
        match self.bucket.put_if(key, bytes, note, version).await.map_err(of)? {
            bulkhead_nats::Put::Stored { version } => Ok(Put::Stored(version)),
            bulkhead_nats::Put::Conflict => Ok(Put::Conflict),
        }
    }

    pub async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, ShipError> {
        let key = self.key(key);
        let Some(Document { bytes, version, note }) = self.bucket.get(&key).await.map_err(of)?
        else {
            return Ok(None);
        };
        let Some(note) = note else { return Ok(Some((bytes, version))) };
        let wrong = |what: String| ShipError::damaged(&key, what);
        let parts = Parts::parse(&note).ok_or_else(|| wrong(format!("its note is {note:?}")))?;
        let mut whole = BytesMut::with_capacity(parts.bytes);
        let numbers: Vec<_> = (0..parts.count).collect();
        for some in numbers.chunks(AT_ONCE) {
            let read = some.iter().map(|part| {
                let key = parts.key(&key, *part);
                async move { self.bucket.get(&key).await }
            });
            for (part, read) in some.iter().zip(join_all(read).await) {
                let part =
                    read.map_err(of)?.ok_or_else(|| wrong(format!("part {part} is gone")))?;
                whole.extend_from_slice(&part.bytes);
            }
        }
        match hex_digest(&whole) == parts.digest {
            true => Ok(Some((whole.freeze(), version))),
            false => Err(wrong("its parts have another digest".into())),
        }
    }

    pub async fn remove(&self, key: &str) -> Result<(), ShipError> {
        self.bucket.remove(&self.key(key)).await.map_err(of)
    }
}

fn of(fault: Fault) -> ShipError {
    match fault.cause {
        Cause::Unavailable | Cause::Misbehaves => ShipError::Unavailable(fault.message),
        Cause::Refused => ShipError::Refused(fault.message),
    }
}
