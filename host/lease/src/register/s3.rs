//! A record in a bucket, as the object `PREFIX/TOWN.lease.json`, by conditional writes: `If-None-Match: *` and
//! `If-Match: ETAG`. Its version is its entity tag, which is of its content; the nonce makes each content another one.
//!
//! A server that does not know conditions ignores their headers, and answers as if the write had been the only one. So the
//! conditions are tried first, on the object `PREFIX/TOWN.lease.probe`, which stays.

use std::time::Duration;

use async_trait::async_trait;
use bulkhead_bucket::{Bucket, Cause, Fault, Limits, Name, Put, S3};
use bulkhead_net::Connector;
use bytes::Bytes;

use super::{Names, Register, Written};
use crate::document::{self, MAX_BYTES};
use crate::fault::RegisterError;
use crate::protocol::{Record, Version};

pub(super) struct Objects {
    bucket: Bucket,
    address: String,
    record: String,
    probe: String,
}

impl Objects {
    pub fn new(
        s3: &S3,
        connector: Connector,
        patience: Duration,
        town: &Name,
    ) -> Result<Self, RegisterError> {
        // What fails is tried again by the protocol, which knows what it may believe of it. An error of S3 is a page of XML.
        let limits = Limits { patience, retries: 0, max_bytes: MAX_BYTES * 16 };
        let bucket = Bucket::new(s3, connector, limits).map_err(of)?;
        let key = |end: &str| format!("{}.lease.{end}", town.as_str());
        Ok(Self { bucket, address: s3.to_string(), record: key("json"), probe: key("probe") })
    }

    fn ignores(&self, condition: &str) -> RegisterError {
        RegisterError::misbehaves(format!(
            "the server of {} ignores the condition {condition} of a write: it cannot hold leases",
            self.address
        ))
    }
}

#[async_trait]
impl Register for Objects {
    /// Two writes of which the second one must fail, for either condition. Another process may do the same at the same
    /// time: then the first one may fail too, which only a server does that knows the condition.
    async fn probe(&self) -> Result<(), RegisterError> {
        let put = async |expected: Option<&str>| {
            let mut content = [0; 16];
            getrandom::fill(&mut content).map_err(|error| {
                RegisterError::unavailable(format!("no random number: {error}"))
            })?;
            let content = Bytes::from(format!("{:032x}", u128::from_ne_bytes(content)));
            self.bucket.put_if(&self.probe, content, expected).await.map_err(of)
        };
        put(None).await?;
        if put(None).await? != Put::Conflict {
            return Err(self.ignores("If-None-Match"));
        }
        let object = self.bucket.get(&self.probe).await.map_err(of)?;
        let Some(etag) = object.map(|object| object.etag).filter(|etag| !etag.is_empty()) else {
            let text = format!("the server of {} gives objects no entity tags", self.address);
            return Err(RegisterError::misbehaves(text));
        };
        put(Some(&etag)).await?;
        match put(Some(&etag)).await? {
            Put::Conflict => Ok(()),
            Put::Stored { .. } => Err(self.ignores("If-Match")),
        }
    }

    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        let Some(object) = self.bucket.get(&self.record).await.map_err(of)? else {
            return Ok(None);
        };
        let record = document::decode(&object.bytes)?;
        Ok(Some((version(&object.etag)?, record)))
    }

    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        let bytes = document::encode(record)?;
        let expected = expected.map(|version| &*version.0);
        match self.bucket.put_if(&self.record, bytes, expected).await.map_err(of)? {
            Put::Stored { etag } => Ok(Written::Stored(version(&etag)?)),
            Put::Conflict => Ok(Written::Conflict),
        }
    }
}

/// Those of all towns.
pub(super) struct Records {
    bucket: Bucket,
}

/// Follows the name of the town.
const RECORD: &str = ".lease.json";
/// Largest page of a list: a thousand keys and what is around them.
const MAX_PAGE: usize = 4 * 1024 * 1024;
/// Pages that are read at most: other things may be beside the records.
const MAX_PAGES: usize = 100;

impl Records {
    pub fn new(s3: &S3, connector: Connector, patience: Duration) -> Result<Self, RegisterError> {
        let limits = Limits { patience, retries: 2, max_bytes: MAX_PAGE };
        Ok(Self { bucket: Bucket::new(s3, connector, limits).map_err(of)? })
    }
}

#[async_trait]
impl super::Records for Records {
    async fn names(&self, most: usize) -> Result<Names, RegisterError> {
        let (mut found, mut next) = (Names::default(), None);
        for _ in 0..MAX_PAGES {
            let page = self.bucket.list(next).await.map_err(of)?;
            let towns = page.keys.iter().filter_map(|key| key.strip_suffix(RECORD));
            found.names.extend(towns.filter_map(|town| Name::parse(town).ok()));
            next = page.next;
            if next.is_none() || found.names.len() > most {
                break;
            }
        }
        found.has_more = next.is_some() || found.names.len() > most;
        found.names.truncate(most);
        Ok(found)
    }

    async fn read(&self, town: &Name) -> Result<Option<Record>, RegisterError> {
        let object = self.bucket.get(&format!("{}{RECORD}", town.as_str())).await.map_err(of)?;
        object.map(|object| document::decode(&object.bytes)).transpose()
    }
}

/// Without a tag the next write would have no condition.
fn version(etag: &str) -> Result<Version, RegisterError> {
    match etag {
        "" => Err(RegisterError::misbehaves("the server gave an object without an entity tag")),
        etag => Ok(Version(etag.into())),
    }
}

fn of(fault: Fault) -> RegisterError {
    match fault.cause {
        Cause::Connect | Cause::Protocol => RegisterError::unavailable(fault.message),
        Cause::Refused | Cause::Full | Cause::NoBucket => RegisterError::refused(fault.message),
    }
}
