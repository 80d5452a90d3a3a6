//! A record in a directory, as the file `TOWN.lease.json`. Beside it `TOWN.lease.lock`, on which writers lock each other
//! out (`flock`), and which nobody removes. Its version is the digest of its content; the nonce makes each content another one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_bucket as bucket;
use bulkhead_bucket::{Cause, DirectoryRules, Fault, Name, Put};
use tokio::task::spawn_blocking;

use super::{Names, Register, Written};
use crate::document::{self, MAX_BYTES};
use crate::fault::RegisterError;
use crate::protocol::{Record, Version};

/// Calls at once.
const MAX_CALLS: usize = 4;

/// Follows the name of the town.
const RECORD: &str = ".lease.json";

pub(super) struct Directory {
    at: bucket::Directory,
    dir: PathBuf,
    record: String,
}

impl Directory {
    pub fn new(dir: &Path, town: &Name, patience: Duration) -> Self {
        let lock = format!("{}.lease.lock", town.as_str());
        let rules = DirectoryRules { lock, patience, calls: MAX_CALLS, max_bytes: MAX_BYTES };
        let record = format!("{}{RECORD}", town.as_str());
        Self { at: bucket::Directory::new(dir, rules), dir: dir.to_owned(), record }
    }

    fn failed(&self, doing: &str, fault: &Fault) -> RegisterError {
        let text = format!("{doing} {}: {fault}", self.dir.join(&self.record).display());
        match fault.cause {
            Cause::Connect | Cause::Protocol => RegisterError::unavailable(text),
            Cause::Refused | Cause::Full | Cause::NoBucket => RegisterError::refused(text),
        }
    }
}

#[async_trait]
impl Register for Directory {
    /// Whether the file system has locks and hard links.
    async fn probe(&self) -> Result<(), RegisterError> {
        let failed = |fault| self.failed("lock", &fault);
        if !self.at.honours_conditions().await.map_err(failed)? {
            let text =
                format!("{} is on a file system without locks or hard links", self.dir.display());
            return Err(RegisterError::misbehaves(text));
        }
        self.at.tidy(&self.record).await.map_err(failed)
    }

    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        let read = self.at.get(&self.record).await.map_err(|fault| self.failed("read", &fault))?;
        let Some(object) = read else { return Ok(None) };
        Ok(Some((Version(object.etag.into()), document::decode(&object.bytes)?)))
    }

    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        let bytes = document::encode(record)?;
        let expected = expected.map(|version| &*version.0);
        let put = self.at.put_if(&self.record, bytes, expected).await;
        match put.map_err(|fault| self.failed("write", &fault))? {
            Put::Stored { etag } => Ok(Written::Stored(Version(etag.into()))),
            Put::Conflict => Ok(Written::Conflict),
        }
    }
}

/// Those of all towns.
pub(super) struct Records {
    dir: PathBuf,
    patience: Duration,
}

impl Records {
    pub fn new(dir: &Path, patience: Duration) -> Self {
        Self { dir: dir.to_owned(), patience }
    }
}

#[async_trait]
impl super::Records for Records {
    async fn names(&self, most: usize) -> Result<Names, RegisterError> {
        let dir = self.dir.clone();
        let listed = spawn_blocking(move || names(&dir, most)).await;
        listed.unwrap_or_else(|_| Err(RegisterError::unavailable("the call panicked")))
    }

    async fn read(&self, town: &Name) -> Result<Option<Record>, RegisterError> {
        let read = Directory::new(&self.dir, town, self.patience).read().await?;
        Ok(read.map(|(_, record)| record))
    }
}

fn names(dir: &Path, most: usize) -> Result<Names, RegisterError> {
    let failed =
        |error: io::Error| RegisterError::unavailable(format!("read {}: {error}", dir.display()));
    let mut found = Names::default();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        let town = file.to_str().and_then(|file| file.strip_suffix(RECORD));
        let Some(name) = town.and_then(|town| Name::parse(town).ok()) else { continue };
        if found.names.len() == most {
            found.has_more = true;
            break;
        }
        found.names.push(name);
    }
    Ok(found)
}
