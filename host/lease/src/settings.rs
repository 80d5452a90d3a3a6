//! Which register, and for how long a lease holds.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_bucket::{Name, S3, S3Error};
use bulkhead_nats::{Nats, NatsError};
use bulkhead_net::{BaseUrl, Connector, UrlError};
use bulkhead_types::Secret;

/// The lease of a town.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names the town in the register. All copies of the town have the same name, and no other town has it.
    pub town: Name,
    /// Where the register is.
    pub register: Address,
    /// How long a lease holds without a renewal.
    pub ttl: Ttl,
    /// The way out, for a register that is reached by the network.
    pub connector: Connector,
}

/// How long a lease holds without a renewal: 2 s to 10 minutes. What others wait at least, when a holder is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(Duration);

/// A duration that is no [`Ttl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a lease holds for 2 s to 600 s, in whole milliseconds")]
pub struct TtlError;

impl Ttl {
    /// Shortest one. Requests get a tenth of it.
    pub const MIN: Duration = Duration::from_secs(2);
    /// Longest one.
    pub const MAX: Duration = Duration::from_secs(600);

    /// Checks a duration.
    pub fn new(ttl: Duration) -> Result<Self, TtlError> {
        let fits =
            (Self::MIN..=Self::MAX).contains(&ttl) && ttl.subsec_nanos().is_multiple_of(1_000_000);
        if fits { Ok(Self(ttl)) } else { Err(TtlError) }
    }

    /// The duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Default for Ttl {
    /// 10 s: requests get a second.
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// Where a register is.
#[derive(Debug, Clone)]
pub enum Address {
    /// In a directory, which has to exist.
    File(PathBuf),
    /// In a bucket of S3, or of what speaks it and honours conditions.
    S3(S3),
    /// In etcd, version 3.4 or later, by its gateway of JSON.
    Etcd(Etcd),
    /// In Lease objects of Kubernetes.
    Kubernetes(Kubernetes),
    /// In a key-value bucket of NATS JetStream, version 2.9 or later.
    Nats(Nats),
}

/// Lease objects in a namespace.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// Their namespace.
    pub namespace: String,
    /// Begins the name of every object, before a hyphen.
    pub prefix: String,
    /// The API server. `None`: nobody said where it is.
    pub server: Option<BaseUrl>,
    /// The token of the service account, which is read for each request. It goes over TLS or to this machine only.
    pub token_file: Option<PathBuf>,
    /// Certificates of the CAs that the server's is from, instead of those of the connector.
    pub ca_file: Option<PathBuf>,
}

/// A name that no object can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "objects of Kubernetes have names of a-z 0-9 - . that begin and end with a letter or a digit, 253 with the prefix"
)]
pub struct ObjectNameError;

/// A cluster of etcd.
#[derive(Debug, Clone)]
pub struct Etcd {
    /// Its members, asked in turn: 1 to 16.
    pub servers: Vec<BaseUrl>,
    /// Begins the key of every record. Without a slash at either end.
    pub prefix: String,
    /// Name and password, where it wants them.
    pub login: Option<(String, Secret)>,
}

const MAX_SERVERS: usize = 16;
/// Of a server that names none, as etcd's own client has it.
const ETCD_PORT: u16 = 2379;
const DEFAULT_PREFIX: &str = "bulkhead/lease";
const DEFAULT_OBJECT_PREFIX: &str = "bulkhead";
/// Longest label of a name, and longest name, of Kubernetes.
const MAX_LABEL: usize = 63;
const MAX_OBJECT_NAME: usize = 253;

/// A text that is no address of a register.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error(
        "it has to begin with file:///, s3://, etcd://, etcds://, kubernetes://, nats:// or tls://"
    )]
    Scheme,
    /// A server that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No bucket, or one that there cannot be.
    #[error(transparent)]
    Bucket(#[from] S3Error),
    /// No servers of NATS, or no bucket.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// No servers, too many, or another prefix than there can be.
    #[error(
        "etcd:// is followed by 1 to 16 servers with commas between them, and perhaps a prefix of A-Z a-z 0-9 . _ - /"
    )]
    Etcd,
    /// No namespace, or a prefix that no object can begin with.
    #[error(
        "kubernetes:// is followed by a namespace, and perhaps a prefix of names, both of a-z 0-9 -"
    )]
    Kubernetes,
}

impl Address {
    /// Reads an address: `file:///directory`, `s3://bucket/prefix`, `etcd://host:2379,host:2379/prefix`, or the same with
    /// `etcds` for TLS, `kubernetes://namespace/prefix`, `nats://host:4222,host:4222/bucket`, or the same with `tls`. It is
    /// without credentials.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            return Ok(Self::File(path.into()));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return Ok(Self::S3(S3::parse(rest)?));
        }
        for (scheme, of_server) in [("etcd://", "http"), ("etcds://", "https")] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return Etcd::parse(of_server, rest).map(Self::Etcd);
            }
        }
        if let Some(rest) = text.strip_prefix("kubernetes://") {
            return Kubernetes::parse(rest).map(Self::Kubernetes);
        }
        match Nats::parse(text) {
            Some(nats) => Ok(Self::Nats(nats?)),
            None => Err(AddressError::Scheme),
        }
    }
}

impl Kubernetes {
    fn parse(rest: &str) -> Result<Self, AddressError> {
        let (namespace, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = if prefix.is_empty() { DEFAULT_OBJECT_PREFIX } else { prefix };
        let is_label =
            |text: &str| text.len() <= MAX_LABEL && is_object_name(text) && !text.contains('.');
        if !is_label(namespace) || !is_label(prefix) {
            return Err(AddressError::Kubernetes);
        }
        let (namespace, prefix) = (namespace.to_owned(), prefix.to_owned());
        Ok(Self { namespace, prefix, server: None, token_file: None, ca_file: None })
    }

    /// The name of a town's object.
    pub fn object(&self, town: &Name) -> Result<String, ObjectNameError> {
        let name = format!("{}-{}", self.prefix, town.as_str());
        if is_object_name(&name) { Ok(name) } else { Err(ObjectNameError) }
    }
}

/// As Kubernetes has it: a subdomain of DNS.
fn is_object_name(text: &str) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(is_plain)
            && bytes.last().is_some_and(is_plain)
            && bytes.iter().all(|byte| is_plain(byte) || *byte == b'-')
    };
    text.len() <= MAX_OBJECT_NAME && text.split('.').all(is_part)
}

impl Etcd {
    fn parse(scheme: &str, rest: &str) -> Result<Self, AddressError> {
        let (servers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let of_prefix = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if prefix.len() > 512 || !prefix.chars().all(of_prefix) {
            return Err(AddressError::Etcd);
        }
        let servers = servers.split(',').map(|server| {
            let has_end = server.contains(['?', '#']) || server.is_empty();
            if has_end {
                return Err(AddressError::Etcd);
            }
            let mut url = BaseUrl::parse(&format!("{scheme}://{server}"))?;
            let authority = server.rsplit_once(']').map_or(server, |(_, after)| after);
            if !authority.contains(':') {
                url.destination.port = ETCD_PORT;
            }
            Ok(url)
        });
        let servers = servers.collect::<Result<Vec<_>, AddressError>>()?;
        if servers.len() > MAX_SERVERS {
            return Err(AddressError::Etcd);
        }
        let prefix = if prefix.is_empty() { DEFAULT_PREFIX } else { prefix };
        Ok(Self { servers, prefix: prefix.to_owned(), login: None })
    }
}

impl fmt::Display for Address {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(dir) => write!(f, "file://{}", dir.display()),
            Self::S3(s3) => write!(f, "{s3}"),
            Self::Etcd(Etcd { servers, prefix, .. }) => {
                let tls = servers.iter().any(|server| server.destination.tls);
                f.write_str(if tls { "etcds://" } else { "etcd://" })?;
                for (index, server) in servers.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    f.write_str(&server.destination.host_and_port())?;
                }
                write!(f, "/{prefix}")
            }
            Self::Kubernetes(Kubernetes { namespace, prefix, .. }) => {
                write!(f, "kubernetes://{namespace}/{prefix}")
            }
            Self::Nats(nats) => write!(f, "{nats}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_was_written() {
        for text in [
            "file:///a/b",
            "s3://bucket/a",
            "etcd://a:2379,[::1]:2379/towns",
            "etcds://etcd.example:443/a/b",
            "etcd://[::1]:2379/a",
            "kubernetes://towns/of-us",
            "nats://a:4222,[::1]:4222/towns",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        let short = Address::parse("etcd://a").unwrap();
        assert_eq!(short.to_string(), "etcd://a:2379/bulkhead/lease");
    }

    #[test]
    fn an_object_of_kubernetes_is_named_after_its_town() {
        let Address::Kubernetes(at) = Address::parse("kubernetes://towns").unwrap() else {
            panic!()
        };
        let object = |town: &str| at.object(&Name::parse(town).unwrap());
        assert_eq!(object("hill-7.example").as_deref(), Ok("bulkhead-hill-7.example"));
        for bad in ["Hill", "hill_7", "hill-", "a..b"] {
            assert_eq!(object(bad), Err(ObjectNameError), "{bad}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_quoted() {
        let many = format!("etcd://{}a", "a,".repeat(16));
        for text in [
            "",
            "x.example",
            "nats://x",
            "nats://u:hunter2@x/b",
            "file:relative",
            "s3://B/a",
            "etcd://",
            "etcd://a,,b",
            "etcd://a:0",
            "etcd://a?x",
            "etcd://a/ä",
            "etcd://u:hunter2@a",
            "kubernetes://",
            "kubernetes:///a",
            "kubernetes://Towns",
            "kubernetes://towns/a/b",
            "kubernetes://u:hunter2@a",
            &many,
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_lease_holds_for_seconds_to_minutes() {
        for good in [2_000, 10_001, 600_000] {
            assert!(Ttl::new(Duration::from_millis(good)).is_ok());
        }
        for bad in [0, 1_999, 600_001] {
            assert_eq!(Ttl::new(Duration::from_millis(bad)), Err(TtlError));
        }
        assert_eq!(Ttl::new(Duration::from_nanos(3_000_000_001)), Err(TtlError));
    }
}
