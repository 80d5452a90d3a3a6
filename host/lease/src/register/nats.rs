//! A record in a key-value bucket of NATS JetStream, with the key `lease.TOWN`, in which dots of the name are `=`: dots divide
//! keys. Its version is the number of its message in the stream.
//!
//! The leader of the stream is asked, and none of its replicas. One that was cut off may answer with a record that was
//! replaced meanwhile; nothing is lost by that, because what is written on such a version is refused.

use std::time::Duration;

use async_trait::async_trait;
use bulkhead_bucket::Name;
use bulkhead_nats::{Bucket, Cause, Document, Fault, Keys, Nats, Put};
use bulkhead_net::Connector;

use super::{Names, Register, Written};
use crate::document::{self, MAX_BYTES};
use crate::fault::RegisterError;
use crate::protocol::{Record, Version};

/// Before the name of the town.
const PREFIX: &str = "lease";

/// The record of one town.
pub(super) struct Key {
    bucket: Bucket,
    key: String,
}

impl Key {
    pub fn new(nats: Nats, connector: Connector, patience: Duration, town: &Name) -> Self {
        Self { bucket: bucket(nats, connector, patience), key: key(town) }
    }
}

#[async_trait]
impl Register for Key {
    async fn probe(&self) -> Result<(), RegisterError> {
        self.bucket.probe(&self.key, MAX_BYTES).await.map_err(of)
    }

    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        read(&self.bucket, &self.key).await
    }

    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        let bytes = document::encode(record)?;
        let expected = expected.map(|version| &*version.0);
        match self.bucket.put_if(&self.key, &bytes, None, expected).await.map_err(of)? {
            Put::Stored { version } => Ok(Written::Stored(Version(version.into()))),
            Put::Conflict => Ok(Written::Conflict),
        }
    }
}

/// Those of all towns.
pub(super) struct Records {
    bucket: Bucket,
}

impl Records {
    pub fn new(nats: Nats, connector: Connector, patience: Duration) -> Self {
        Self { bucket: bucket(nats, connector, patience) }
    }
}

#[async_trait]
impl super::Records for Records {
    async fn names(&self, most: usize) -> Result<Names, RegisterError> {
        let Keys { keys, has_more } = self.bucket.keys(PREFIX, most).await.map_err(of)?;
        let names = keys.iter().filter_map(|key| Name::parse(&key.replace('=', ".")).ok());
        Ok(Names { names: names.collect(), has_more })
    }

    async fn read(&self, town: &Name) -> Result<Option<Record>, RegisterError> {
        Ok(read(&self.bucket, &key(town)).await?.map(|(_, record)| record))
    }
}

fn bucket(nats: Nats, connector: Connector, patience: Duration) -> Bucket {
    // A server that swallows packets leaves time for another one.
    Bucket::new(nats, connector, patience / 3)
}

fn key(town: &Name) -> String {
    format!("{PREFIX}.{}", town.as_str().replace('.', "="))
}

async fn read(bucket: &Bucket, key: &str) -> Result<Option<(Version, Record)>, RegisterError> {
    let Some(Document { bytes, version, .. }) = bucket.get(key).await.map_err(of)? else {
        return Ok(None);
    };
    Ok(Some((Version(version.into()), document::decode(&bytes)?)))
}

fn of(fault: Fault) -> RegisterError {
    match fault.cause {
        Cause::Unavailable => RegisterError::unavailable(fault.message),
        Cause::Refused => RegisterError::refused(fault.message),
        Cause::Misbehaves => RegisterError::misbehaves(fault.message),
    }
}
