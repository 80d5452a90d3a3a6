//! Objects in a bucket, by conditional writes.

use std::time::Duration;

use bulkhead_bucket::{Bucket, Limits, S3};
use bulkhead_net::Connector;
use bytes::Bytes;

use super::{MAX_OBJECT_BYTES, Put, of};
use crate::fault::ShipError;

/// An object of which nothing matters but that it is there.
const PROBE: &str = "ship.probe";

pub(super) struct Objects {
    bucket: Bucket,
    town: String,
}

impl Objects {
    pub fn new(
        s3: &S3,
        connector: Connector,
        call: Duration,
        town: &str,
    ) -> Result<Self, ShipError> {
        // What fails is tried again by who knows what it may believe of it.
        let limits = Limits { patience: call, retries: 0, max_bytes: 2 * MAX_OBJECT_BYTES };
        Ok(Self { bucket: Bucket::new(s3, connector, limits).map_err(of)?, town: town.to_owned() })
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.town)
    }

    /// A server that does not know conditions ignores them silently: of two writes where there must be
    /// none the second one has to fail, and one that replaces a version that never was.
    pub async fn probe(&self, shown: &str) -> Result<(), ShipError> {
        self.put(PROBE, Bytes::from_static(b"first"), None).await?;
        let conditions = [("If-None-Match", None), ("If-Match", Some("\"0\""))];
        for (condition, version) in conditions {
            let put = self.put(PROBE, Bytes::from_static(b"conditions"), version).await?;
            if put != Put::Conflict {
                return Err(ShipError::Damaged {
                    object: shown.to_owned(),
                    what: format!(
                        "its server ignores the condition {condition} of a write, so it cannot hold the state of a town"
                    ),
                });
            }
        }
        Ok(())
    }

    pub async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        version: Option<&str>,
    ) -> Result<Put, ShipError> {
        self.bucket.put_if(&self.key(key), bytes, version).await.map(Into::into).map_err(of)
    }

    pub async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, ShipError> {
        let object = self.bucket.get(&self.key(key)).await.map_err(of)?;
        Ok(object.map(|object| (object.bytes, object.etag)))
    }

    pub async fn remove(&self, key: &str) -> Result<(), ShipError> {
        self.bucket.remove(&self.key(key)).await.map_err(of)
    }
}
