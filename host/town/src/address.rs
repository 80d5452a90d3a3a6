//! Where the town is, and what its paths are made of.

use std::fmt::Write as _;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a segment of a path may have as it is.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// The base URL of the town API, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Without the brackets of an IPv6 literal.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// For the header `Host`.
    pub(crate) authority: String,
    /// Begins with `/` and does not end with one, or is empty.
    pub(crate) prefix: String,
}

/// Why a text is no base URL. Quotes nothing that could be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A password in a URL ends up in logs.
    #[error("it must not hold a user or a password; use town.token")]
    Credentials,
    /// Not a URL at all.
    #[error("it is no URL: {0}")]
    NoUrl(String),
    /// Another scheme, or none.
    #[error("it has to begin with http:// or https://")]
    Scheme,
    /// What comes after the path.
    #[error("it must not have a query")]
    Query,
}

impl Address {
    /// Checks a base URL. It may have a path, which comes before every path of the API.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.contains('@') {
            return Err(AddressError::Credentials);
        }
        let uri: Uri = text.parse().map_err(|error| AddressError::NoUrl(format!("{error}")))?;
        let (tls, default_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(AddressError::Scheme),
        };
        if uri.query().is_some() {
            return Err(AddressError::Query);
        }
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(AddressError::NoUrl("it names no host".into()));
        };
        if host.is_empty() {
            return Err(AddressError::NoUrl("it names no host".into()));
        }
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            tls,
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// One segment of a path, whatever is in it.
pub(crate) fn segment(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// The paths of one town.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    town: String,
}

impl Paths {
    pub(crate) fn new(address: &Address, town_id: &str) -> Self {
        Self { town: format!("{}/api/towns/{}", address.prefix, segment(town_id)) }
    }

    /// A call of the town.
    pub(crate) fn town(&self, name: &str) -> String {
        format!("{}/{name}", self.town)
    }

    /// A call of a rig. An agent without one has `-` in its place.
    pub(crate) fn rig(&self, rig_id: Option<&str>, name: &str) -> String {
        format!("{}/rigs/{}/{name}", self.town, segment(rig_id.unwrap_or_default()))
    }

    /// A call of an agent.
    pub(crate) fn agent(&self, rig_id: Option<&str>, agent_id: &str, name: &str) -> String {
        let mut path = self.rig(rig_id, "agents/");
        let _ = write!(path, "{}/{name}", segment(agent_id));
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_port_and_a_path() {
        let address = Address::parse("https://town.example:8443/gas/v1/").unwrap();
        assert_eq!(
            (address.host.as_str(), address.port, address.tls),
            ("town.example", 8443, true)
        );
        assert_eq!(address.prefix, "/gas/v1");
        let paths = Paths::new(&address, "t 1/..");
        assert_eq!(paths.town("container-ready"), "/gas/v1/api/towns/t%201%2F../container-ready");
        let address = Address::parse("http://[::1]").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.prefix.as_str()), ("::1", 80, ""));
        assert_eq!(address.authority, "[::1]");
    }

    #[test]
    fn an_agent_without_a_rig_has_a_dash() {
        let paths = Paths::new(&Address::parse("http://h").unwrap(), "t");
        assert_eq!(
            paths.agent(None, "a:1", "heartbeat"),
            "/api/towns/t/rigs/-/agents/a:1/heartbeat"
        );
        assert_eq!(paths.agent(Some(".."), "a", "x"), "/api/towns/t/rigs/%2E%2E/agents/a/x");
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_quoting_secrets() {
        for (bad, error) in [
            ("https://user:hunter2@town", AddressError::Credentials),
            ("ftp://town", AddressError::Scheme),
            ("town.example/path", AddressError::NoUrl(String::new())),
            ("http://town?x=1", AddressError::Query),
        ] {
            let found = Address::parse(bad).unwrap_err();
            let same = std::mem::discriminant(&found) == std::mem::discriminant(&error);
            assert!(same && !found.to_string().contains("hunter2"), "{bad}: {found}");
        }
        assert!(Address::parse("").is_err() && Address::parse("town").is_err());
    }
}
