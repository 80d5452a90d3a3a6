//! Which names this server goes by, and which web pages may ask it.
//!
//! A browser takes orders from every page that is open in it, and reaches what its machine reaches, this server
//! among it. Three things distinguish such a request from one of a program, and a page can forge none of them:
//!
//! | header | refused | because |
//! | --- | --- | --- |
//! | `Host` | a name that is none of ours | by DNS rebinding the page's own name leads here, and it reads the answers |
//! | `Origin` | a page of another address than the one asked | it would start and stop agents |
//! | `Sec-Fetch-Site` | anything but `same-origin` and `none` | the same for pictures, scripts, frames and links |
//!
//! A literal address is always ours: a page under it was served by this server. Programs send `Host` alone.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::{StatusCode, Version};

use crate::answer::Refusal;
use crate::refused::truncated;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Longest part of a header that an answer repeats, in characters.
const SHOWN_CHARS: usize = 128;

/// A name that this server may be asked by, beside `localhost` and literal addresses: `town.example`,
/// `town.example:8443`, `*.example`, or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    name: Name,
    /// `None`: any port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Any,
    /// With its leading dot.
    Below(String),
    Exactly(String),
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no host; write town.example, town.example:8443, *.example or *")
        };
        if text == "*" {
            return Ok(Self { name: Name::Any, port: None });
        }
        let (below, rest) = text.strip_prefix('*').map_or((false, text), |rest| (true, rest));
        let bare = if below { rest.strip_prefix('.').ok_or_else(wrong)? } else { rest };
        let asked =
            Asked::parse(bare).filter(|asked| !asked.host.contains('*')).ok_or_else(wrong)?;
        let name =
            if below { Name::Below(format!(".{}", asked.host)) } else { Name::Exactly(asked.host) };
        Ok(Self { name, port: asked.port })
    }
}

impl AllowedHost {
    fn is(&self, asked: &Asked) -> bool {
        let named = match &self.name {
            Name::Any => true,
            Name::Below(suffix) => asked.host.ends_with(suffix.as_str()),
            Name::Exactly(name) => asked.host == *name,
        };
        named && self.port.is_none_or(|port| asked.port == Some(port))
    }
}

/// What a `Host` header names.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// In lower case, without the dot at its end and without brackets.
    host: String,
    port: Option<u16>,
}

impl Asked {
    fn parse(text: &str) -> Option<Self> {
        let authority = Authority::from_str(text).ok()?;
        // A port that is none, or too large, has no number.
        let after = authority.as_str().strip_prefix(authority.host())?;
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => None,
            None => return None,
            Some(port) => Some(port.parse().ok()?),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        (!host.is_empty()).then_some(Self { host, port })
    }

    fn is_literal_or_local(&self) -> bool {
        let local = self.host == "localhost" || self.host.ends_with(".localhost");
        local || self.host.parse::<IpAddr>().is_ok()
    }
}

/// Says which requests come from where they may.
pub(crate) struct Origins {
    allowed: Vec<AllowedHost>,
}

impl Origins {
    pub(crate) fn new(allowed: Vec<AllowedHost>) -> Self {
        Self { allowed }
    }

    /// Refuses a request by a name that is none of ours, or from a page of another address. `probe`: the
    /// request is one of those that need no token.
    pub(crate) fn check(&self, request: &Parts, probe: bool) -> Result<(), Refusal> {
        let host = one(&request.headers, &HOST)?;
        let asked = match (host, request.version) {
            (Some(host), _) => Some(self.named(host)?),
            // Old load balancers probe like this, and no browser does.
            (None, Version::HTTP_10) if probe => None,
            (None, _) => return Err(bad_request("the header Host is missing")),
        };
        if let Some(authority) = request.uri.authority() {
            self.named(authority.as_str())?;
        }
        self.site(&request.headers)?;
        match one(&request.headers, &ORIGIN)? {
            Some(origin) => self.page(origin, asked.as_ref()),
            None => Ok(()),
        }
    }

    fn named(&self, host: &str) -> Result<Asked, Refusal> {
        let shown = || truncated(host, SHOWN_CHARS);
        let Some(asked) = Asked::parse(host) else {
            return Err(bad_request(format!("the header Host is no host: {:?}", shown())));
        };
        if asked.is_literal_or_local() || self.allowed.iter().any(|one| one.is(&asked)) {
            return Ok(asked);
        }
        let error = format!("this server does not go by the name {:?}", shown());
        let action = "ask it by an address or by localhost, or add the name to server.allowed_hosts \
                      (BULKHEAD_ALLOWED_HOSTS)";
        Err(forbidden(error, "host-not-allowed", action))
    }

    fn site(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match one(headers, &SEC_FETCH_SITE)? {
            None | Some("same-origin" | "none") => Ok(()),
            Some(site) => {
                let shown = truncated(site, SHOWN_CHARS);
                let error =
                    format!("a web page of another origin asks (Sec-Fetch-Site is {shown:?})");
                Err(forbidden(error, "cross-site", OTHER_PAGE))
            }
        }
    }

    fn page(&self, origin: &str, asked: Option<&Asked>) -> Result<(), Refusal> {
        let (scheme, rest) = origin.split_once("://").unwrap_or(("", ""));
        let default_port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
        let page = Asked::parse(rest);
        let port = |of: &Asked| of.port.unwrap_or(default_port);
        let allowed = page.is_some_and(|page| {
            let same =
                asked.is_some_and(|asked| page.host == asked.host && port(&page) == port(asked));
            // A proxy may put another name into `Host`. `*` is about names, and lets no page in.
            let named = self.allowed.iter().any(|one| one.name != Name::Any && one.is(&page));
            same || named
        });
        if allowed {
            return Ok(());
        }
        let error = format!(
            "a web page of another origin asks (Origin is {:?})",
            truncated(origin, SHOWN_CHARS)
        );
        Err(forbidden(error, "origin-not-allowed", OTHER_PAGE))
    }
}

const OTHER_PAGE: &str = "serve the page from this server's own address through a proxy, and add its host to \
                          server.allowed_hosts (BULKHEAD_ALLOWED_HOSTS); programs send neither header";

/// The value of a header that may be there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_request(format!("the header {name} is there more than once")));
    }
    let text = value.to_str().map_err(|_| bad_request(format!("the header {name} is no ASCII")))?;
    Ok(Some(text))
}

fn bad_request(error: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error).kind("bad-head")
}

fn forbidden(error: String, kind: &str, action: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, error).kind(kind).action(action)
}

/// Headers of every answer: no browser guesses its type, and no page of another origin embeds it.
pub(crate) fn keep_to_ourselves(headers: &mut HeaderMap) {
    const NOSNIFF: (HeaderName, HeaderValue) =
        (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    const OURS: (HeaderName, HeaderValue) = (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    for (name, value) in [NOSNIFF, OURS] {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    /// The status of a request with these headers, 200 when it passes.
    fn status(allowed: &[&str], headers: &[(&str, &str)]) -> u16 {
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        let mut request = Request::builder().uri("/agents");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Origins::new(allowed)
            .check(&parts, false)
            .map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn literal_addresses_and_localhost_are_ours_and_other_names_are_not() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST.",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:9000",
            "[::1]:8080",
            "10.1.2.3:80",
            "[fd00::1]",
        ] {
            assert_eq!(status(&[], &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "notlocalhost",
            "0x7f000001.evil",
            "container",
        ] {
            assert_eq!(status(&[], &[("host", host)]), 403, "{host}");
        }
        for host in
            ["", ":8080", "a b", "user@127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "[::1", "a/b"]
        {
            assert_eq!(status(&[], &[("host", host)]), 400, "{host}");
        }
        assert_eq!(status(&[], &[]), 400);
        assert_eq!(status(&[], &[("host", "localhost"), ("host", "localhost")]), 400);
    }

    #[test]
    fn names_that_are_allowed_are_ours() {
        let allowed = ["town.example", "Proxy.example:8443", "*.internal"];
        for (host, expected) in [
            ("town.example", 200),
            ("TOWN.example:99", 200),
            ("proxy.example:8443", 200),
            ("proxy.example", 403),
            ("a.b.internal", 200),
            ("internal", 403),
            ("ainternal", 403),
            ("x.town.example", 403),
        ] {
            assert_eq!(status(&allowed, &[("host", host)]), expected, "{host}");
        }
        assert_eq!(status(&["*"], &[("host", "whatever.example")]), 200);
        for wrong in ["", "*x", "*.", "a b", "http://x", "x/y", "*.*", "u@h", "h:99999"] {
            assert!(wrong.parse::<AllowedHost>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_page_of_another_origin_may_not_ask() {
        let from =
            |allowed: &[&str], host, origin| status(allowed, &[("host", host), ("origin", origin)]);
        for origin in ["http://127.0.0.1:8080", "HTTP://127.0.0.1:8080"] {
            assert_eq!(from(&[], "127.0.0.1:8080", origin), 200, "{origin}");
        }
        assert_eq!(from(&[], "localhost", "http://localhost:80"), 200);
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:3000",
            "http://localhost:8080",
            "file://",
            "chrome-extension://abc",
        ] {
            assert_eq!(from(&[], "127.0.0.1:8080", origin), 403, "{origin}");
        }
        let proxy = ["town.example"];
        assert_eq!(from(&proxy, "town.example", "https://town.example"), 200);
        assert_eq!(from(&proxy, "127.0.0.1:8080", "https://town.example"), 200);
        assert_eq!(from(&["*"], "127.0.0.1:8080", "https://evil.example"), 403);
    }

    #[test]
    fn what_a_browser_says_of_the_site_counts() {
        for (site, expected) in [
            ("same-origin", 200),
            ("none", 200),
            ("cross-site", 403),
            ("same-site", 403),
            ("x", 403),
            ("", 403),
        ] {
            assert_eq!(
                status(&[], &[("host", "localhost"), ("sec-fetch-site", site)]),
                expected,
                "{site}"
            );
        }
    }

    #[test]
    fn both_names_of_an_absolute_target_count() {
        for (uri, host, expected) in [
            ("http://localhost/agents", "localhost", 200),
            ("http://evil.example/agents", "localhost", 403),
            ("http://localhost/agents", "evil.example", 403),
        ] {
            let request = Request::builder().uri(uri).header("host", host).body(()).unwrap();
            let checked = Origins::new(Vec::new()).check(&request.into_parts().0, false);
            assert_eq!(
                checked.map_or_else(|refusal| refusal.status.as_u16(), |()| 200),
                expected,
                "{uri} {host}"
            );
        }
    }

    #[test]
    fn only_a_probe_of_old_may_name_no_host() {
        let checked = |version, probe| {
            let request = Request::builder().uri("/livez").version(version).body(()).unwrap();
            Origins::new(Vec::new()).check(&request.into_parts().0, probe).is_ok()
        };
        assert!(checked(Version::HTTP_10, true));
        assert!(!checked(Version::HTTP_10, false) && !checked(Version::HTTP_11, true));
    }
}
