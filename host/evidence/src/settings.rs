//! Where evidence goes, under which name, and how long anything may take.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_bucket::{Name, S3, S3Error};
use bulkhead_net::{BaseUrl, Connector, Credential, UrlError};

/// What is stored where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose evidence it is.
    pub name: Name,
    /// Where it goes.
    pub sink: Address,
    /// The way out.
    pub connector: Connector,
    /// Between two digests of the black box.
    pub heartbeat: Duration,
    /// How long a boot waits for what earlier runs left.
    pub fetch: Duration,
    /// How long one document may take.
    pub call: Duration,
}

/// Where documents lie.
#[derive(Debug, Clone)]
pub enum Address {
    /// Below a URL, by PUT and GET.
    Http {
        /// The URL.
        base: BaseUrl,
        /// Sent as `Authorization: Bearer`.
        token: Credential,
    },
    /// In a bucket of S3, or of what speaks it.
    S3(S3),
    /// In a directory, which has to exist.
    File(PathBuf),
}

/// A text that is no address of a sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("it has to begin with https://, http://, s3:// or file:///")]
    Scheme,
    /// An address by HTTP that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No bucket, or one that there cannot be.
    #[error(transparent)]
    Bucket(#[from] S3Error),
}

impl Address {
    /// Reads an address: `https://host/path`, `s3://bucket/prefix` or `file:///directory`. It is without credentials.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            return Ok(Self::File(path.into()));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return Ok(Self::S3(S3::parse(rest)?));
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(AddressError::Scheme);
        }
        Ok(Self::Http { base: BaseUrl::parse(text)?, token: Credential::default() })
    }
}

impl fmt::Display for Address {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { base, .. } => write!(f, "{base}"),
            Self::S3(s3) => write!(f, "{s3}"),
            Self::File(dir) => write!(f, "file://{}", dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_was_written_and_without_credentials() {
        for text in [
            "https://x.example/a",
            "http://127.0.0.1:81",
            "s3://bucket/a/b",
            "s3://bucket",
            "file:///a/b",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("s3://bucket/a/").unwrap().to_string(), "s3://bucket/a");
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_quoted() {
        for text in [
            "",
            "x.example",
            "ftp://x",
            "file://host/a",
            "file:relative",
            "s3://",
            "s3://B/a",
            "s3://ab/",
            "s3://bucket/../x",
            "https://u:hunter2@x",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
        }
    }
}
