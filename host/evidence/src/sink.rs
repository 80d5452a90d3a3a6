//! Put and get of documents, wherever they lie.

mod file;
mod http;
mod s3;

use bytes::Bytes;

use crate::{Address, Fault, Name, Settings};

/// The one seam: whole documents in and out.
pub(crate) enum Sink {
    Http(http::Http),
    S3(s3::Bucket),
    File(file::Directory),
}

impl Sink {
    /// Nothing is called yet.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        let connector = settings.connector.clone();
        Ok(match &settings.sink {
            Address::Http { base, token } => {
                Self::Http(http::Http::new(base.clone(), token.clone(), connector, settings.call))
            }
            Address::S3(s3) => Self::S3(s3::Bucket::new(s3, connector, settings.call)?),
            Address::File(dir) => Self::File(file::Directory::new(dir.clone())),
        })
    }

    /// Puts a document in the place of the one before it.
    pub async fn put(
        &self,
        name: &Name,
        document: &'static str,
        bytes: Bytes,
    ) -> Result<(), Fault> {
        match self {
            Self::Http(http) => http.put(name, document, bytes).await,
            Self::S3(bucket) => bucket.put(name, document, bytes).await,
            Self::File(directory) => directory.put(name, document, bytes).await,
        }
    }

    /// Reads a document. Nothing: there is none.
    pub async fn get(&self, name: &Name, document: &'static str) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Http(http) => http.get(name, document).await,
            Self::S3(bucket) => bucket.get(name, document).await,
            Self::File(directory) => directory.get(name, document).await,
        }
    }
}
