//! Base URLs, and where a request goes.

use std::net::IpAddr;

use http::Uri;
use http::uri::PathAndQuery;

/// Host, port, and whether TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Name or address, without the brackets of an IPv6 literal.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// `https`.
    pub tls: bool,
}

/// Why a text is no usable URL. Quotes nothing that could be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// A user or a password: it would end up in logs, or with the wrong server.
    #[error("it must not hold a user or a password")]
    Credentials,
    /// Not a URL at all.
    #[error("it is no URL: {0}")]
    NoUrl(String),
    /// Another scheme, or none.
    #[error("it has to begin with http:// or https://")]
    Scheme,
    /// No host.
    #[error("it names no host")]
    NoHost,
    /// A port that is no number from 1 to 65535.
    #[error("port {0:?} is not between 1 and 65535")]
    Port(String),
    /// What comes after the path.
    #[error("it must not have a query or a fragment")]
    Query,
}

impl Destination {
    /// Where a request for an absolute URL goes. As in `fetch`, a URL with a user or a password is refused.
    pub fn of(uri: &Uri) -> Result<Self, UrlError> {
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlError::Scheme),
        };
        let authority = uri.authority().ok_or(UrlError::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority.host();
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None | Some("") => default_port(tls),
            // `Uri` takes a port that is too large for none.
            Some(text) => match text.parse() {
                Ok(port @ 1..) => port,
                _ => return Err(UrlError::Port(text.to_owned())),
            },
        };
        let host = without_brackets(host);
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// As it stands in the header `Host`: without a port that the scheme implies.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            return self.bracketed();
        }
        self.host_and_port()
    }

    /// Host and port, always with both.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    /// Whether it can only be this machine.
    pub fn is_loopback(&self) -> bool {
        let is_local = |host: &str| {
            let host = host.trim_end_matches('.');
            host.eq_ignore_ascii_case("localhost")
                || host.len() > 10
                    && host
                        .get(host.len() - 10..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
        };
        match self.address() {
            Some(address) => address.to_canonical().is_loopback(),
            None => is_local(&self.host),
        }
    }

    /// The address, when the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn bracketed(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        }
    }
}

/// What a request asks its server for: a path, and perhaps a query.
pub fn path_of(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.clone(),
        // `http://host?q=1`: the path is the root.
        Some(path) => format!("/{}", path.as_str()).parse().unwrap_or_else(|_| root()),
        None => root(),
    }
}

fn root() -> PathAndQuery {
    PathAndQuery::from_static("/")
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The URL of an API: a destination, and a path that comes before every path of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Where it is.
    pub destination: Destination,
    /// Begins with `/` and does not end with one, or is empty.
    pub prefix: String,
}

impl BaseUrl {
    /// Checks a base URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.contains('@') {
            return Err(UrlError::Credentials);
        }
        let uri: Uri = text.parse().map_err(|error| UrlError::NoUrl(format!("{error}")))?;
        let destination = Destination::of(&uri)?;
        if uri.query().is_some() || text.contains('#') {
            return Err(UrlError::Query);
        }
        Ok(Self { destination, prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl std::fmt::Display for BaseUrl {
    /// As a person writes it, without a slash at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { destination, prefix } = self;
        write!(f, "{}://{}{prefix}", destination.scheme(), destination.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(url: &str) -> Result<Destination, UrlError> {
        Destination::of(&url.parse().unwrap())
    }

    #[test]
    fn a_base_url_may_have_a_port_and_a_path() {
        let url = BaseUrl::parse("https://town.example:8443/gas/v1/").unwrap();
        let destination = Destination { host: "town.example".into(), port: 8443, tls: true };
        assert_eq!((&url.destination, url.prefix.as_str()), (&destination, "/gas/v1"));
        assert_eq!(url.to_string(), "https://town.example:8443/gas/v1");
        let url = BaseUrl::parse("http://[::1]").unwrap();
        assert_eq!((url.destination.host.as_str(), url.destination.port), ("::1", 80));
        assert_eq!((url.destination.authority().as_str(), url.prefix.as_str()), ("[::1]", ""));
        assert_eq!(url.destination.host_and_port(), "[::1]:80");
    }

    #[test]
    fn a_port_that_there_is_not_is_an_error_and_never_the_default() {
        for port in ["0", "65536", "99999", "4294967376"] {
            for scheme in ["http", "https"] {
                let error = destination(&format!("{scheme}://host:{port}/")).unwrap_err();
                assert_eq!(error, UrlError::Port(port.into()), "{scheme}");
            }
        }
        assert_eq!(destination("https://host:/").unwrap().port, 443);
        assert_eq!(destination("http://[::1]:65535/").unwrap().port, 65535);
    }

    #[test]
    fn a_user_is_refused() {
        for url in ["http://user@host/", "http://user:pass@host:1/", "http://host@127.0.0.1/"] {
            assert_eq!(destination(url).unwrap_err(), UrlError::Credentials, "{url}");
        }
    }

    #[test]
    fn a_query_without_a_path_asks_for_the_root() {
        let path = |url: &str| path_of(&url.parse().unwrap()).to_string();
        assert_eq!(path("http://host?q=1"), "/?q=1");
        assert_eq!(path("http://host"), "/");
        assert_eq!(path("http://host/a?b"), "/a?b");
        let uri = Uri::builder().scheme("http").authority("host").path_and_query("?q=1");
        assert_eq!(path_of(&uri.build().unwrap()).to_string(), "/?q=1");
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_quoting_secrets() {
        for (bad, error) in [
            ("https://user:hunter2@town", UrlError::Credentials),
            ("ftp://town", UrlError::Scheme),
            ("town.example:80", UrlError::Scheme),
            ("http://town?x=1", UrlError::Query),
            ("http://town#x", UrlError::Query),
            ("http://town:99999", UrlError::Port("99999".into())),
            ("http://:80", UrlError::NoHost),
        ] {
            assert_eq!(BaseUrl::parse(bad).unwrap_err(), error, "{bad}");
        }
        for bad in ["", "http://", "http://a b", "town.example/path"] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
        let error = BaseUrl::parse("https://user:hunter2@town").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for local in
            ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.9", "::1", "::ffff:127.0.0.1"]
        {
            let destination = Destination { host: local.into(), port: 1, tls: false };
            assert!(destination.is_loopback(), "{local}");
        }
        for other in ["localhost.example", "notlocalhost", "10.0.0.1", "é.example"] {
            let destination = Destination { host: other.into(), port: 1, tls: false };
            assert!(!destination.is_loopback(), "{other}");
        }
    }
}
