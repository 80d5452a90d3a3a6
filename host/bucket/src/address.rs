//! Where documents lie: a bucket, a prefix, and names that are one part of a key.

use std::fmt;

use bulkhead_types::Secret;

/// One part of a key, or of a path: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, the first no dot. It names a container
/// over all its runs and disks, or a town.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// A text that is no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 128 characters of A-Z a-z 0-9 . _ - and does not begin with a dot")]
pub struct NameError;

/// A text that is no [`S3`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("s3:// is followed by a bucket of a-z 0-9 . - and perhaps a prefix of A-Z a-z 0-9 . _ - /")]
pub struct S3Error;

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

impl S3 {
    /// Reads what follows `s3://`: a bucket of `a-z 0-9 . -`, and perhaps a prefix of `A-Z a-z 0-9 . _ - /`.
    pub fn parse(rest: &str) -> Result<Self, S3Error> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let of_bucket =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        let of_prefix = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        let fits = (3..=63).contains(&bucket.len()) && bucket.chars().all(of_bucket);
        let prefix = prefix.trim_matches('/');
        let is_plain = prefix.split('/').all(|part| part != "." && part != "..");
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        let fits = fits && is_plain && prefix.len() <= 512 && prefix.chars().all(of_prefix);
        fits.then(|| Self { bucket, prefix, options: Vec::new() }).ok_or(S3Error)
    }
}

impl fmt::Display for S3 {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { bucket, prefix, .. } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self { bucket, prefix, .. } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_part_of_a_path() {
        for good in ["a", "town-1.example_2", &"x".repeat(128)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert_eq!(Name::parse(bad), Err(NameError), "{bad}");
        }
    }

    #[test]
    fn a_bucket_is_shown_as_it_was_written() {
        for text in ["bucket", "bucket/a/b"] {
            assert_eq!(S3::parse(text).unwrap().to_string(), format!("s3://{text}"));
        }
        assert_eq!(S3::parse("bucket/a/").unwrap().to_string(), "s3://bucket/a");
        for bad in ["", "B/a", "ab/", "bucket/../x", "bucket/ä"] {
            assert!(S3::parse(bad).is_err(), "{bad}");
        }
    }
}
