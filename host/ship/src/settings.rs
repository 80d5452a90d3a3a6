//! Where a town's state is shipped.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_bucket::{Name, S3, S3Error};
use bulkhead_nats::{Nats, NatsError};
use bulkhead_net::Connector;

/// The shipping of a town.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names the town at its place, as in its lease.
    pub town: Name,
    /// Where to.
    pub to: Address,
    /// The way out, for a bucket.
    pub connector: Connector,
    /// How long a boot may take to restore.
    pub restore: Duration,
    /// How long a commit waits for others that are shipped with it, unless somebody waits for it.
    pub every: Duration,
    /// How long one object may take, for each MiB that is written. One that is read has four times as long.
    pub call: Duration,
    /// How long a start or stop waits that has to be shipped, and the end for the rest.
    pub wait: Duration,
    /// Files of a workspace that are shipped with it, in bytes. `None`: workspaces are not shipped.
    pub workspace_bytes: Option<u64>,
}

/// A place for objects.
#[derive(Debug, Clone)]
pub enum Address {
    /// A directory, which has to exist.
    File(PathBuf),
    /// A bucket of S3, or of what speaks it and honours conditions.
    S3(S3),
    /// A key-value bucket of NATS JetStream, which has to exist.
    Nats(Nats),
}

impl Settings {
    /// Where to, if that is a directory.
    pub fn directory(&self) -> Option<&Path> {
        match &self.to {
            Address::File(dir) => Some(dir),
            Address::S3(_) | Address::Nats(_) => None,
        }
    }
}

/// A text that is no address of a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("it has to begin with file:///, s3://, nats:// or tls://")]
    Scheme,
    /// No bucket, or one that there cannot be.
    #[error(transparent)]
    Bucket(#[from] S3Error),
    /// No servers of NATS, or no bucket.
    #[error(transparent)]
    Nats(#[from] NatsError),
}

impl Address {
    /// Reads an address: `file:///directory`, `s3://bucket/prefix` or `nats://host:4222/bucket` (`tls://`). It is without credentials.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            return Ok(Self::File(path.into()));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return Ok(Self::S3(S3::parse(rest)?));
        }
        match Nats::parse(text) {
            Some(nats) => Ok(Self::Nats(nats?)),
            None => Err(AddressError::Scheme),
        }
    }

    /// The place, however its servers are reached: the same text for the same place.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Nats(nats) => format!("nats:{}", nats.bucket),
            Self::File(_) | Self::S3(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Address {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(dir) => write!(f, "file://{}", dir.display()),
            Self::S3(s3) => write!(f, "{s3}"),
            Self::Nats(nats) => write!(f, "{nats}"),
        }
    }
}
