//! Where evidence goes, under which name, and how long anything may take.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_net::{BaseUrl, Connector, Credential, UrlError};
use bulkhead_types::Secret;

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

/// Names a container over all its runs and disks: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, the first no dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// A text that is no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 128 characters of A-Z a-z 0-9 . _ - and does not begin with a dot")]
pub struct NameError;

const MAX_NAME: usize = 128;

impl Name {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = (1..=MAX_NAME).contains(&text.len()) && text.chars().all(is_fit);
        (fits && !text.starts_with('.')).then(|| Self(text.to_owned())).ok_or(NameError)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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

/// A bucket.
#[derive(Debug, Clone, Default)]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// Begins the key of every object; empty, or without a slash at either end.
    pub prefix: String,
    /// Region, endpoint and credentials, by AWS's names for their variables: `AWS_REGION`, `AWS_ACCESS_KEY_ID`. A later
    /// one overrides an earlier one.
    pub options: Vec<(&'static str, Secret)>,
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
    #[error(
        "s3:// is followed by a bucket of a-z 0-9 . - and perhaps a prefix of A-Z a-z 0-9 . _ - /"
    )]
    Bucket,
}

impl Address {
    /// Reads an address: `https://host/path`, `s3://bucket/prefix` or `file:///directory`. It is without credentials.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            return Ok(Self::File(path.into()));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return S3::parse(rest).map(Self::S3).ok_or(AddressError::Bucket);
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(AddressError::Scheme);
        }
        Ok(Self::Http { base: BaseUrl::parse(text)?, token: Credential::default() })
    }
}

impl S3 {
    fn parse(rest: &str) -> Option<Self> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let of_bucket =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        let of_prefix = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let fits = (3..=63).contains(&bucket.len()) && bucket.chars().all(of_bucket);
        let prefix = prefix.trim_matches('/');
        let is_plain = prefix.split('/').all(|part| part != "." && part != "..");
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        let fits = fits && is_plain && prefix.len() <= 512 && prefix.chars().all(of_prefix);
        fits.then(|| Self { bucket, prefix, options: Vec::new() })
    }
}

impl fmt::Display for Address {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { base, .. } => write!(f, "{base}"),
            Self::S3(S3 { bucket, prefix, .. }) if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3(S3 { bucket, prefix, .. }) => write!(f, "s3://{bucket}/{prefix}"),
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

    #[test]
    fn a_name_is_one_plain_part_of_a_path() {
        for good in ["a", "town-1.example_2", &"x".repeat(128)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert_eq!(Name::parse(bad), Err(NameError), "{bad}");
        }
    }
}
