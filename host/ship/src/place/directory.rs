//! Objects in a directory, as files `TOWN/KEY`.

use std::path::Path;
use std::time::Duration;

use bulkhead_bucket as bucket;
use bulkhead_bucket::DirectoryRules;
use bytes::Bytes;

use super::{MAX_OBJECT_BYTES, Put, of};
use crate::fault::ShipError;

/// Calls at once.
const MAX_CALLS: usize = 16;

pub(super) struct Directory {
    at: bucket::Directory,
    town: String,
}

impl Directory {
    pub fn new(base: &Path, town: &str, patience: Duration) -> Self {
        let lock = format!("{town}/lock");
        let max_bytes = 2 * MAX_OBJECT_BYTES;
        let rules = DirectoryRules { lock, patience, calls: MAX_CALLS, max_bytes };
        Self { at: bucket::Directory::new(base, rules), town: town.to_owned() }
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.town)
    }

    /// Removes what dead writers left.
    pub async fn tidy(&self) -> Result<(), ShipError> {
        for dir in ["", "log/", "workspaces/"] {
            self.at.tidy(&self.key(dir)).await.map_err(of)?;
        }
        Ok(())
    }

    pub async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        version: Option<&str>,
    ) -> Result<Put, ShipError> {
        self.at.put_if(&self.key(key), bytes, version).await.map(Into::into).map_err(of)
    }

    pub async fn get(&self, key: &str) -> Result<Option<(Bytes, String)>, ShipError> {
        let object = self.at.get(&self.key(key)).await.map_err(of)?;
        Ok(object.map(|object| (object.bytes, object.etag)))
    }

    pub async fn remove(&self, key: &str) -> Result<(), ShipError> {
        self.at.remove(&self.key(key)).await.map_err(of)
    }
}
