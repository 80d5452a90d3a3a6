//! Why there is no component.

use std::time::Duration;

use bulkhead_types::Digest;

use crate::Reference;

/// Why a component cannot be had. The text names it, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reference}: {cause}")]
pub struct FetchError {
    /// What was wanted.
    pub reference: Reference,
    /// Why it is not there.
    pub cause: Box<Cause>,
}

/// What went wrong. Texts that come from a registry have at most 256 bytes, and are not made safe for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// There is no connection.
    #[error("cannot reach {at}: {reason}")]
    Unreachable {
        /// Host and port.
        at: String,
        /// What came instead.
        reason: String,
    },
    /// The connection broke, stalled, or carried no HTTP.
    #[error("{at} did not answer in full: {reason}")]
    Interrupted {
        /// Host and port.
        at: String,
        /// How.
        reason: String,
    },
    /// It cannot answer now.
    #[error("{at} is busy: it answered {status}")]
    Busy {
        /// Host and port.
        at: String,
        /// 408, 425, 429 or 5xx.
        status: u16,
        /// For how long it asked to be left alone.
        wait: Option<Duration>,
    },
    /// It answered with another status than it should.
    #[error("{at} answered {status}{message}")]
    Status {
        /// Host and port.
        at: String,
        /// Neither success nor one of the other causes.
        status: u16,
        /// Its own words in parentheses, or nothing.
        message: String,
    },
    /// It does not have it.
    #[error(
        "{at} has no {what} in {repository}; what follows sha256: is the digest of a manifest, not of a file"
    )]
    NotFound {
        /// Host and port.
        at: String,
        /// A manifest or a layer, by its digest.
        what: String,
        /// Where it was sought.
        repository: String,
    },
    /// It wants other credentials, or any.
    #[error(
        "registry {registry} does not let this host pull {repository}: {reason}; set credentials_file, or username \
         and password_file, in [registries.\"{registry}\"]"
    )]
    Unauthorized {
        /// As the reference names it.
        registry: String,
        /// What was to be pulled.
        repository: String,
        /// What credentials there were, and its own words.
        reason: String,
    },
    /// The credentials for it cannot be used.
    #[error("credentials for registry {registry}: {reason}")]
    Credentials {
        /// As the reference names it.
        registry: String,
        /// What is wrong with them.
        reason: String,
    },
    /// It leads somewhere else than this host follows.
    #[error("{at} {reason}")]
    Refused {
        /// Host and port.
        at: String,
        /// Where, and why not.
        reason: String,
    },
    /// Other bytes than were asked for.
    #[error("{what} is not what {at} sent: that has sha256:{got}")]
    WrongDigest {
        /// A manifest or a layer, by its digest.
        what: String,
        /// Host and port.
        at: String,
        /// The digest of what came.
        got: Digest,
    },
    /// Neither manifest nor index, or one of no use.
    #[error("manifest sha256:{digest} {reason}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// More than is taken.
    #[error("{what} has {bytes} bytes, at most {max_bytes} are taken")]
    TooLarge {
        /// A manifest or a layer.
        what: String,
        /// Its size, or more than the bound.
        bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// Components in use leave no room for it.
    #[error(
        "there is no room for {bytes} bytes more in {dir}: components in use have {used_bytes} bytes in {used} \
         entries, of {max_bytes} bytes in {max_entries} entries"
    )]
    CacheFull {
        /// The cache.
        dir: String,
        /// What it needs.
        bytes: u64,
        /// Entries that cannot be removed.
        used: usize,
        /// Their size.
        used_bytes: u64,
        /// A bound.
        max_bytes: u64,
        /// A bound.
        max_entries: usize,
    },
    /// The disk failed.
    #[error("cannot {doing}: {reason}")]
    Disk {
        /// What was done with which file.
        doing: String,
        /// The system's words.
        reason: String,
    },
    /// A signature is wanted, and there is none.
    #[error(
        "it is not signed: {at} has no signature of it in {repository} (tag sha256-{digest}.sig)"
    )]
    Unsigned {
        /// Host and port.
        at: String,
        /// Where it was sought.
        repository: String,
        /// Of the manifest.
        digest: Digest,
    },
    /// A signature is wanted, and none is by the key.
    #[error("none of its {count} signatures is by the public key of the configuration: {reason}")]
    WrongSignature {
        /// How many were tried.
        count: usize,
        /// What was wrong with the last one.
        reason: String,
    },
    /// It took too long.
    #[error("it was not there after {seconds} s")]
    Deadline {
        /// How long it was tried.
        seconds: u64,
    },
}

/// Longest text of a registry.
const MAX_TEXT: usize = 256;

impl Cause {
    /// Whether the same may go well a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Busy { .. })
    }

    /// Whether the registry could not be asked, so that nothing is known of the component.
    pub fn is_outage(&self) -> bool {
        self.is_transient() || matches!(self, Self::Deadline { .. })
    }

    pub(crate) fn disk(doing: impl Into<String>, error: &std::io::Error) -> Self {
        Self::Disk { doing: doing.into(), reason: error.to_string() }
    }

    pub(crate) fn of(self, reference: &Reference) -> FetchError {
        FetchError { reference: reference.clone(), cause: Box::new(self) }
    }
}

/// The beginning of a text that somebody else wrote.
pub(crate) fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}
