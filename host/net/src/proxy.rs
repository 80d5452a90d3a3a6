//! Proxies, as the environment names them.
//!
//! `HTTP_PROXY` is for `http://`, `HTTPS_PROXY` for `https://`, `ALL_PROXY` for what has none of its own; each may
//! be lower case. `NO_PROXY` lists names (with all below them), addresses and networks that are reached directly,
//! `*` all. This machine is reached directly whatever they say.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::{Destination, NotUtf8, UrlError, text};

/// The proxies of the environment. Cheap to clone.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<Matcher>>);

/// A proxy for one connection.
pub(crate) struct Proxy {
    pub(crate) at: Destination,
    /// The header `Proxy-Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Why a proxy cannot be used. Quotes no value, because a password may be in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// No UTF-8.
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    /// Another scheme.
    #[error("{variable} names a proxy that is no http:// or https:// proxy; others are not spoken")]
    Scheme {
        /// Which variable.
        variable: String,
    },
    /// No name, address or network that needs none.
    #[error(
        "{variable}: entry {entry} is no name, address or network; write a.example, 10.0.0.1 or 10.0.0.0/8"
    )]
    Excepted {
        /// Which variable.
        variable: String,
        /// Which entry of its list, from 1.
        entry: usize,
    },
    /// No address of a proxy.
    #[error("{variable} is no address of a proxy: {problem}; write http://host:port")]
    Bad {
        /// Which variable.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Proxies {
    /// Reads the environment. The error names the variable.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ProxyError> {
        let first = |upper: &str| -> Result<Option<(String, String)>, NotUtf8> {
            for name in [upper.to_owned(), upper.to_ascii_lowercase()] {
                if let Some(value) = text(&variable, &name)? {
                    return Ok(Some((name, value)));
                }
            }
            Ok(None)
        };
        let value = |found: Option<(String, String)>| found.map_or_else(String::new, |(_, v)| v);
        let mut builder = Matcher::builder();
        let mut has_any = false;
        for (name, set) in [
            ("HTTP_PROXY", Builder::http::<String> as fn(Builder, String) -> Builder),
            ("HTTPS_PROXY", Builder::https::<String>),
            ("ALL_PROXY", Builder::all::<String>),
        ] {
            let Some((variable, proxy)) = first(name)? else { continue };
            check(&variable, &proxy)?;
            builder = set(builder, proxy);
            has_any = true;
        }
        let excepted = first("NO_PROXY")?;
        if let Some((variable, list)) = excepted.as_ref().filter(|_| has_any) {
            check_excepted(variable, list)?;
        }
        let matcher = builder.no(value(excepted)).build();
        Ok(Self(has_any.then(|| Arc::new(matcher))))
    }

    /// The proxy on the way to this destination, if there is one.
    pub(crate) fn of(&self, to: &Destination) -> Option<Proxy> {
        let matcher = self.0.as_ref().filter(|_| !to.is_loopback())?;
        let uri = format!("{}://{}/", to.scheme(), to.host_and_port()).parse::<Uri>().ok()?;
        let found = matcher.intercept(&uri)?;
        let at = Destination::of(found.uri()).ok()?;
        Some(Proxy { at, authorization: found.basic_auth().cloned() })
    }

    /// How the way to a destination is described to a person: ` through the proxy host:port`, or nothing.
    pub fn describe(&self, to: &Destination) -> String {
        let proxy = self.of(to);
        proxy.map_or_else(String::new, |p| format!(" through the proxy {}", p.at.host_and_port()))
    }
}

type Builder = hyper_util::client::proxy::matcher::Builder;

/// Whether the matcher understands it; it leaves out without a word what it does not.
fn check(variable: &str, proxy: &str) -> Result<(), ProxyError> {
    let bad = |problem: String| ProxyError::Bad { variable: variable.to_owned(), problem };
    let scheme = || ProxyError::Scheme { variable: variable.to_owned() };
    if proxy.split_once("://").is_some_and(|(it, _)| !matches!(it, "http" | "https")) {
        return Err(scheme());
    }
    let found = Matcher::builder().all(proxy.to_owned()).build();
    let asked = found.intercept(&Uri::from_static("http://a.example/"));
    let intercept = asked.ok_or_else(|| bad("it cannot be read".into()))?;
    match Destination::of(intercept.uri()) {
        Ok(_) => Ok(()),
        Err(UrlError::Scheme) => Err(scheme()),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// Whether each entry can be somebody's: the matcher takes what is no address and no network for a name.
fn check_excepted(variable: &str, list: &str) -> Result<(), ProxyError> {
    let mut entries = list.split(',').map(str::trim);
    let bad = entries.position(|entry| entry.contains('/') && !is_network(entry));
    match bad {
        None => Ok(()),
        Some(index) => {
            Err(ProxyError::Excepted { variable: variable.to_owned(), entry: index + 1 })
        }
    }
}

/// `10.0.0.0/8`, `fd00::/8`.
fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.bytes().all(|byte| byte.is_ascii_digit())
        && bits.parse().is_ok_and(|bits: u8| bits <= most)
}

impl fmt::Debug for Proxies {
    /// Passwords are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxies({})", if self.0.is_some() { "some" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        let found = |name: &str| {
            let is_it = |(known, _): &&(&str, &str)| *known == name;
            variables.iter().find(is_it).map(|(_, value)| OsString::from(value))
        };
        Proxies::from_env(found)
    }

    fn way(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let to = Destination::of(&url.parse().unwrap()).unwrap();
        proxies(variables).unwrap().of(&to).map(|proxy| proxy.at.host_and_port())
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let env = [("HTTP_PROXY", "http://a:1"), ("https_proxy", "b:2")];
        assert_eq!(way(&env, "http://x/").as_deref(), Some("a:1"));
        assert_eq!(way(&env, "https://x/").as_deref(), Some("b:2"));
        let env = [("ALL_PROXY", "http://c:3"), ("HTTP_PROXY", "")];
        assert_eq!(way(&env, "http://x/").as_deref(), Some("c:3"));
        assert_eq!(way(&[], "http://x/"), None);
    }

    #[test]
    fn what_no_proxy_lists_and_this_machine_are_reached_directly() {
        let env =
            [("HTTP_PROXY", "a:1"), ("NO_PROXY", "in.example, 10.0.0.0/8,192.168.1.1,fd00::/8")];
        for direct in [
            "http://in.example/",
            "http://deep.in.example:81/",
            "http://10.9.8.7/",
            "http://192.168.1.1/",
            "http://[fd00::1]/",
            "http://localhost:8080/",
            "http://127.0.0.1/",
            "http://[::1]/",
        ] {
            assert_eq!(way(&env, direct), None, "{direct}");
        }
        for through in ["http://notin.example/", "http://11.0.0.1/", "http://192.168.1.2/"] {
            assert_eq!(way(&env, through).as_deref(), Some("a:1"), "{through}");
        }
        assert_eq!(way(&[("HTTP_PROXY", "a:1"), ("no_proxy", "*")], "http://x/"), None);
    }

    #[test]
    fn a_password_goes_into_a_header_and_nowhere_else() {
        let proxies = proxies(&[("HTTP_PROXY", "http://user:hunter2@a:1")]).unwrap();
        assert!(!format!("{proxies:?}").contains("hunter2"));
        let to = Destination { host: "x".into(), port: 80, tls: false };
        let proxy = proxies.of(&to).unwrap();
        assert_eq!(proxy.at.host, "a");
        let authorization = proxy.authorization.unwrap();
        assert!(authorization.is_sensitive());
        assert_eq!(authorization, "Basic dXNlcjpodW50ZXIy");
    }

    #[test]
    fn what_is_no_proxy_names_the_variable_and_not_its_value() {
        for (name, value) in [
            ("HTTP_PROXY", "hunter2 hunter2"),
            ("https_proxy", "socks5://hunter2:1"),
            ("ALL_PROXY", "http://u:hunter2@a:99999"),
            ("HTTPS_PROXY", "http://"),
        ] {
            let error = proxies(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("hunter2"), "{error}");
        }
    }
}
