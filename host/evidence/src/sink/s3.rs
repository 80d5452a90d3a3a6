//! Documents in a bucket: `PREFIX/NAME/DOCUMENT`.

use std::time::Duration;

use bulkhead_bucket::{Bucket as Objects, Limits};
use bulkhead_net::Connector;
use bytes::Bytes;

use crate::fault::Fault;
use crate::{Name, S3, document};

pub(crate) struct Bucket(Objects);

impl Bucket {
    pub fn new(s3: &S3, connector: Connector, call: Duration) -> Result<Self, Fault> {
        // What fails is tried again with the next document that is due.
        let limits = Limits { patience: call, retries: 1, max_bytes: document::MAX_BYTES };
        Ok(Self(Objects::new(s3, connector, limits)?))
    }

    pub async fn put(&self, name: &Name, document: &str, bytes: Bytes) -> Result<(), Fault> {
        Ok(self.0.put(&key(name, document), bytes).await?)
    }

    pub async fn get(&self, name: &Name, document: &str) -> Result<Option<Bytes>, Fault> {
        Ok(self.0.get(&key(name, document)).await?.map(|object| object.bytes))
    }
}

fn key(name: &Name, document: &str) -> String {
    format!("{}/{document}", name.as_str())
}
