//! Where documents lie: a bucket, a prefix, and names that are one part of a key.

use std::fmt;

use bulkhead_net::{BaseUrl, Destination};
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

/// An option of a bucket that cannot be used. Quotes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct OptionError {
    /// AWS's name for its variable.
    pub name: &'static str,
    /// What is wrong with it.
    pub message: String,
}

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

    /// Whether URLs can be made of the options. What signs requests believes them, and panics of others.
    pub fn check(&self) -> Result<(), OptionError> {
        let of_region = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for (index, (name, value)) in self.options.iter().enumerate() {
            let is_overridden = self.options[index + 1..].iter().any(|(later, _)| later == name);
            let value = value.expose();
            let checked = match *name {
                _ if is_overridden => Ok(()),
                "AWS_REGION" | "AWS_DEFAULT_REGION" => match value.chars().all(of_region) {
                    true if !value.is_empty() => Ok(()),
                    _ => Err("a region has A-Z a-z 0-9 . _ -".to_owned()),
                },
                name if name.starts_with("AWS_ENDPOINT_URL") => {
                    BaseUrl::parse(value).map(drop).map_err(|error| error.to_string())
                }
                "AWS_CONTAINER_CREDENTIALS_FULL_URI" => {
                    let url = value.parse::<http::Uri>().map_err(|error| error.to_string());
                    url.and_then(|url| Destination::of(&url).map_err(|error| error.to_string()))
                        .map(drop)
                }
                _ => Ok(()),
            };
            checked.map_err(|message| OptionError { name, message })?;
        }
        Ok(())
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
    fn an_option_that_makes_no_url_is_named() {
        let with = |options: &[(&'static str, &str)]| {
            let options =
                options.iter().map(|(name, value)| (*name, Secret::from((*value).to_owned())));
            S3 { options: options.collect(), ..S3::parse("bucket").unwrap() }.check()
        };
        let bad =
            ["minio:9000", "127.0.0.1:1", "http://", "http:///x", "https://x y", "", "ftp://x"];
        for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"] {
            for bad in bad {
                assert_eq!(with(&[(name, bad)]).unwrap_err().name, name, "{bad}");
            }
            assert_eq!(with(&[(name, "http://minio:9000/x"), ("AWS_REGION", "eu-west-1")]), Ok(()));
            assert_eq!(with(&[(name, "minio:9000"), (name, "http://minio:9000")]), Ok(()));
        }
        assert_eq!(with(&[("AWS_REGION", "eu west")]).unwrap_err().name, "AWS_REGION");
        let name = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
        assert_eq!(with(&[(name, "there")]).unwrap_err().name, name);
        assert_eq!(with(&[(name, "http://169.254.170.23/v1?a=b")]), Ok(()));
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
