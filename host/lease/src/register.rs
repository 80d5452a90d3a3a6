//! The store of the one record of a town.

mod etcd;
mod file;
mod kubernetes;
mod nats;
mod s3;

use std::time::Duration;

use async_trait::async_trait;
use bulkhead_bucket::Name;
use bulkhead_net::Connector;

use crate::fault::RegisterError;
use crate::protocol::{Record, Version, request_patience};
use crate::settings::{Address, Settings};

/// A record that is read, and replaced where it has a certain version. Writes have one order: the one that a version
/// names happens once, and a read sees the last one that was answered or a later one.
///
/// Nothing bounds the time of a call but its caller, who drops it. A write that was dropped may arrive.
#[async_trait]
pub trait Register: Send + Sync {
    /// Whether it does what a register has to do, as far as that can be seen from here. Called once, before all else.
    /// [`RegisterError::Misbehaves`]: it does not.
    async fn probe(&self) -> Result<(), RegisterError>;

    /// The record. `None`: there is none.
    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError>;

    /// Writes the record if the one that is there has the expected version; `None`: if there is none. After an error it
    /// may be written or not.
    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError>;
}

/// Names of towns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In no order.
    pub names: Vec<Name>,
    /// There are more than were asked for.
    pub has_more: bool,
}

/// The records of all towns below one address.
#[async_trait]
pub(crate) trait Records: Send + Sync {
    /// Which towns have a record, at most so many.
    async fn names(&self, most: usize) -> Result<Names, RegisterError>;

    /// The record of one of them. `None`: it has none any more.
    async fn read(&self, town: &Name) -> Result<Option<Record>, RegisterError>;
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is the record now, in this version.
    Stored(Version),
    /// The record had another version, or the server was busy with another write. It is not written.
    Conflict,
}

/// The register that the settings name. Nothing is called yet.
pub(crate) fn open(settings: &Settings) -> Result<Box<dyn Register>, RegisterError> {
    let connector = settings.connector.clone();
    let patience = request_patience(settings.ttl.get());
    Ok(match &settings.register {
        Address::File(dir) => Box::new(file::Directory::new(dir, &settings.town, patience)),
        Address::S3(s3) => Box::new(s3::Objects::new(s3, connector, patience, &settings.town)?),
        Address::Etcd(etcd) => {
            Box::new(etcd::Cluster::new(etcd.clone(), connector, patience, &settings.town))
        }
        Address::Kubernetes(at) => {
            Box::new(kubernetes::Object::new(at, connector, patience, &settings.town)?)
        }
        Address::Nats(nats) => {
            Box::new(nats::Key::new(nats.clone(), connector, patience, &settings.town))
        }
    })
}

/// The same for all towns of a register.
pub(crate) fn open_all(
    register: &Address,
    connector: Connector,
    patience: Duration,
) -> Result<Box<dyn Records>, RegisterError> {
    Ok(match register {
        Address::File(dir) => Box::new(file::Records::new(dir, patience)),
        Address::S3(s3) => Box::new(s3::Records::new(s3, connector, patience)?),
        Address::Etcd(etcd) => Box::new(etcd::Records::new(etcd.clone(), connector, patience)),
        Address::Kubernetes(at) => Box::new(kubernetes::Records::new(at, connector, patience)?),
        Address::Nats(nats) => Box::new(nats::Records::new(nats.clone(), connector, patience)),
    })
}
