//! Which component of which registry.

use std::fmt;
use std::str::FromStr;

use bulkhead_net::{Destination, UrlError};
use bulkhead_types::Digest;
use http::Uri;

/// How a reference begins.
pub const SCHEME: &str = "oci://";

/// Longest repository, in bytes, as registries have it.
const MAX_REPOSITORY: usize = 255;

/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

/// Docker Hub by the name that people use, and the host that answers for it.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// `oci://registry[:port]/repository[:tag]@sha256:<64 hex>`. Two are equal when they name the same thing at the same
/// place; a tag is for readers alone and not compared.
#[derive(Clone)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Digest,
}

/// A text that is no [`Reference`]. It is quoted, except where it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Another scheme, or none.
    #[error("{0} names no component in a registry: it has to begin with oci://")]
    Scheme(String),
    /// A user or a password.
    #[error(
        "a component's reference must not hold a user or a password; set credentials_file or username and \
         password_file of the registry"
    )]
    Credentials,
    /// No host, or none that can be.
    #[error("{text} names no registry: {reason}; write oci://registry/repository@sha256:...")]
    Registry {
        /// The reference.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// No repository, or none that can be.
    #[error(
        "{0} names no repository: it has parts of a-z 0-9 with single . _ - inside, parted by /, in at most \
         {MAX_REPOSITORY} bytes"
    )]
    Repository(String),
    /// A tag that cannot be.
    #[error("{0} has a bad tag: it has 1 to {MAX_TAG} characters of A-Z a-z 0-9 . _ -")]
    Tag(String),
    /// Only a tag, or nothing.
    #[error(
        "{text} has no digest{}: only a digest names one component; add @sha256:..., which a push prints",
        tag.as_ref().map_or_else(String::new, |tag| format!(", and the tag {tag} may move"))
    )]
    NoDigest {
        /// The reference.
        text: String,
        /// What it has instead.
        tag: Option<String>,
    },
    /// A digest of another kind, or of another length.
    #[error("{0} has a bad digest: it is sha256: and 64 digits of 0-9 a-f")]
    Digest(String),
}

impl Reference {
    /// Whether a text wants to be a reference, so that everything else is a path.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads a reference.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let whole = || text.to_owned();
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| ReferenceError::Scheme(whole()))?;
        let (name, digest) = match rest.rsplit_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest, None),
        };
        // What is before an `@` that no digest follows may be a password.
        let has_user = rest.split('/').next().is_some_and(|authority| authority.contains('@'));
        if name.contains('@') || has_user && !digest.is_some_and(|it| it.starts_with("sha256:")) {
            return Err(ReferenceError::Credentials);
        }
        let (registry, path) = name.split_once('/').unwrap_or((name, ""));
        let registry = registry.to_ascii_lowercase();
        destination(&registry, true).map_err(|error| ReferenceError::Registry {
            text: whole(),
            reason: error.to_string(),
        })?;
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !is_repository(repository) {
            return Err(ReferenceError::Repository(whole()));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(whole()));
        }
        let tag = tag.map(str::to_owned);
        let Some(digest) = digest else {
            return Err(ReferenceError::NoDigest { text: whole(), tag });
        };
        let digest = digest_of(digest).ok_or_else(|| ReferenceError::Digest(whole()))?;
        Ok(Self { registry, repository: repository.to_owned(), tag, digest })
    }

    /// Host and perhaps port, in lower case, as it was written.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// SHA-256 of the manifest, or of the index, that names the component.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the registry can only be this machine.
    pub fn is_loopback(&self) -> bool {
        self.destination(false).is_loopback()
    }

    /// Where the registry answers.
    pub fn destination(&self, tls: bool) -> Destination {
        let host = if self.registry == DOCKER.0 { DOCKER.1 } else { &self.registry };
        destination(host, tls).expect("it was checked when it was read")
    }
}

/// A digest as manifests write it. Other algorithms than SHA-256 are nothing.
pub(crate) fn digest_of(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix("sha256:")?;
    let is_lower = !hex.bytes().any(|byte| byte.is_ascii_uppercase());
    Digest::parse(hex).filter(|_| is_lower)
}

fn destination(registry: &str, tls: bool) -> Result<Destination, UrlError> {
    let scheme = if tls { "https" } else { "http" };
    let uri = format!("{scheme}://{registry}/").parse::<Uri>();
    Destination::of(&uri.map_err(|error| UrlError::NoUrl(error.to_string()))?)
}

fn is_repository(text: &str) -> bool {
    text.len() <= MAX_REPOSITORY && text.split('/').all(is_part)
}

/// Letters and digits, parted by `.`, `_`, `__` or any number of `-`.
fn is_part(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    let separators = bytes.split(|byte| is_plain(*byte)).filter(|it| !it.is_empty());
    let is_separator =
        |it: &[u8]| matches!(it, b"." | b"_" | b"__") || it.iter().all(|b| *b == b'-');
    ends.is_some_and(|(first, last)| is_plain(*first) && is_plain(*last))
        && separators.into_iter().all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MAX_TAG).contains(&tag.len()) && tag.chars().all(is_fit) && !tag.starts_with(['.', '-'])
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Reference {}

impl std::hash::Hash for Reference {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Reference {
    fn key(&self) -> (&str, &str, Digest) {
        (&self.registry, &self.repository, self.digest)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        write!(f, "@sha256:{}", self.digest)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parsed(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(&text.replace("HEX", HEX))
    }

    #[test]
    fn a_reference_is_shown_as_it_was_written() {
        for text in [
            "oci://ghcr.io/town/toast@sha256:HEX",
            "oci://localhost:5000/a@sha256:HEX",
            "oci://[::1]:5000/a/b-c__d.e/f--g@sha256:HEX",
            "oci://127.0.0.1/a:v1.2_3-x@sha256:HEX",
        ] {
            assert_eq!(parsed(text).unwrap().to_string(), text.replace("HEX", HEX));
        }
        let reference = parsed("oci://GHCR.io/town/toast:v1@sha256:HEX").unwrap();
        assert_eq!((reference.registry(), reference.repository()), ("ghcr.io", "town/toast"));
        assert_eq!(reference.digest().to_string(), HEX);
    }

    #[test]
    fn a_tag_makes_no_other_component() {
        let one = parsed("oci://h/a:v1@sha256:HEX").unwrap();
        assert_eq!(one, parsed("oci://h/a@sha256:HEX").unwrap());
        assert_ne!(one, parsed("oci://h/b@sha256:HEX").unwrap());
    }

    #[test]
    fn a_tag_alone_is_refused_by_its_name() {
        let error = parsed("oci://ghcr.io/town/toast:latest").unwrap_err().to_string();
        assert!(error.starts_with("oci://ghcr.io/town/toast:latest has no digest"), "{error}");
        assert!(error.contains("the tag latest may move"), "{error}");
        let error = parsed("oci://ghcr.io/town/toast").unwrap_err().to_string();
        assert!(error.contains("add @sha256:...") && !error.contains("tag"), "{error}");
    }

    #[test]
    fn what_is_no_reference_says_which_part_is_wrong() {
        for (text, part) in [
            ("toast.wasm", "begin with oci://"),
            ("https://ghcr.io/a@sha256:HEX", "begin with oci://"),
            ("oci://", "no registry"),
            ("oci:///a@sha256:HEX", "no registry"),
            ("oci://h:0/a@sha256:HEX", "no registry"),
            ("oci://h:port/a@sha256:HEX", "no registry"),
            ("oci://a b/c@sha256:HEX", "no registry"),
            ("oci://h@sha256:HEX", "no repository"),
            ("oci://h/@sha256:HEX", "no repository"),
            ("oci://h/A@sha256:HEX", "no repository"),
            ("oci://h/a//b@sha256:HEX", "no repository"),
            ("oci://h/../b@sha256:HEX", "no repository"),
            ("oci://h/a..b@sha256:HEX", "no repository"),
            ("oci://h/a?x=1@sha256:HEX", "no repository"),
            ("oci://h/a:@sha256:HEX", "bad tag"),
            ("oci://h/a:b:c@sha256:HEX", "bad tag"),
            ("oci://h/a@sha512:HEX", "bad digest"),
            ("oci://h/a@sha256:0123", "bad digest"),
            ("oci://h/a@", "bad digest"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let upper = format!("oci://h/a@sha256:{}", HEX.to_uppercase());
        assert!(Reference::parse(&upper).is_err());
    }

    #[test]
    fn a_password_is_not_quoted() {
        for text in ["oci://u:hunter2@h/a@sha256:HEX", "oci://u:hunter2@h/a:v1", "oci://hunter2@h"]
        {
            let error = parsed(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn docker_hub_answers_under_another_name() {
        let reference = parsed("oci://docker.io/library/a@sha256:HEX").unwrap();
        assert_eq!(reference.destination(true).host, "registry-1.docker.io");
        assert!(parsed("oci://localhost:5000/a@sha256:HEX").unwrap().is_loopback());
    }
}
