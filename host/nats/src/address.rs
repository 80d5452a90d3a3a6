//! Where a bucket is.

use std::fmt;

use bulkhead_net::{BaseUrl, Destination, UrlError};

use crate::login::Login;

/// A bucket at a server, or a cluster of servers.
#[derive(Debug, Clone)]
pub struct Nats {
    /// The servers, asked in turn: 1 to 16. With TLS from the scheme; a server that requires it gets it anyway.
    pub servers: Vec<Destination>,
    /// The bucket. Its stream is `KV_BUCKET`.
    pub bucket: String,
    /// How the client is known to them.
    pub login: Login,
}

/// A text that is no [`Nats`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NatsError {
    /// A server that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No servers, too many, or no bucket.
    #[error(
        "nats:// is followed by 1 to 16 servers with commas between them, a slash, and a bucket of A-Z a-z 0-9 _ -"
    )]
    Form,
}

const MAX_SERVERS: usize = 16;
const MAX_BUCKET: usize = 128;
const PORT: u16 = 4222;

impl Nats {
    /// Reads an address: `nats://host:4222,host:4222/BUCKET`, or the same with `tls`. `None`: it has another scheme.
    pub fn parse(text: &str) -> Option<Result<Self, NatsError>> {
        let schemes = [("nats://", "http"), ("tls://", "https")];
        let mut rests = schemes.iter().filter_map(|(ours, of_url)| {
            text.strip_prefix(ours).map(|rest| Self::parse_rest(of_url, rest))
        });
        rests.next()
    }

    fn parse_rest(scheme: &str, rest: &str) -> Result<Self, NatsError> {
        // A password may have a slash in it.
        if rest.contains('@') {
            return Err(UrlError::Credentials.into());
        }
        let (servers, bucket) = rest.split_once('/').ok_or(NatsError::Form)?;
        let of_bucket = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !(1..=MAX_BUCKET).contains(&bucket.len()) || !bucket.chars().all(of_bucket) {
            return Err(NatsError::Form);
        }
        let servers = servers.split(',').map(|server| {
            if server.is_empty() || server.ends_with(':') || server.contains(['?', '#']) {
                return Err(NatsError::Form);
            }
            let has_port = server.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let port = if has_port { String::new() } else { format!(":{PORT}") };
            Ok(BaseUrl::parse(&format!("{scheme}://{server}{port}"))?.destination)
        });
        let servers = servers.collect::<Result<Vec<_>, NatsError>>()?;
        if servers.len() > MAX_SERVERS {
            return Err(NatsError::Form);
        }
        Ok(Self { servers, bucket: bucket.to_owned(), login: Login::None })
    }
}

impl fmt::Display for Nats {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.servers.iter().any(|server| server.tls);
        f.write_str(if tls { "tls://" } else { "nats://" })?;
        for (index, server) in self.servers.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            f.write_str(&server.host_and_port())?;
        }
        write!(f, "/{}", self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_was_written() {
        for text in ["nats://a:4222/towns", "tls://a:4443,[::1]:4222/of_towns-1"] {
            assert_eq!(Nats::parse(text).unwrap().unwrap().to_string(), text);
        }
        let short = Nats::parse("nats://a,[::1]/b").unwrap().unwrap();
        assert_eq!(short.to_string(), "nats://a:4222,[::1]:4222/b");
        assert!(Nats::parse("etcd://a/b").is_none());
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_quoted() {
        let many = format!("nats://{}a/b", "a,".repeat(16));
        for text in [
            "nats://",
            "nats://a",
            "nats://a/",
            "nats:///b",
            "nats://a,,b/c",
            "nats://a:/b",
            "nats://a:0/b",
            "nats://a?x/b",
            "nats://a/b/c",
            "nats://a/b.c",
            "nats://a/b?tls",
            "nats://u:hunter2@a/b",
            "nats://u:hunter2/3@a/b",
            &many,
        ] {
            let error = Nats::parse(text).unwrap().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
        }
    }
}
