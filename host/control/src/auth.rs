//! Who may ask.

use bulkhead_types::Secret;
use hyper::header::{AUTHORIZATION, HeaderMap};

use crate::passes::is_secret;

/// Routes that need no token: probes have none, and the answers say nothing about agents' work.
const OPEN: [&str; 3] = ["/health", "/livez", "/readyz"];

/// Marks a request that shows the token itself, or that may do everything without one. What stands for the token, a
/// session or a ticket, opens its own few paths, and marks nothing.
#[derive(Clone, Copy)]
pub(crate) struct Trusted;

/// Lets requests in.
pub(crate) enum Gate {
    /// By this bearer token. `None`: everybody, and everybody is trusted.
    Token(Option<Secret>),
    /// Everybody, and nobody is trusted: a listener for probes has nothing that would need it.
    Probes,
}

impl Gate {
    /// Whether `path` is for everybody.
    pub(crate) fn is_open(&self, path: &str) -> bool {
        matches!(self, Self::Probes) || OPEN.contains(&path)
    }

    /// Whether the headers show the token, or there is none to show.
    pub(crate) fn trusts(&self, headers: &HeaderMap) -> Option<Trusted> {
        let token = match self {
            Self::Token(Some(token)) => token,
            Self::Token(None) => return Some(Trusted),
            Self::Probes => return None,
        };
        let shown = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        shown.filter(|shown| is_secret(shown, token.expose().as_bytes())).map(|_| Trusted)
    }
}

/// The token of `Bearer <token>`. The scheme's case does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(path: &str, authorization: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        let gate = Gate::Token(Some(Secret::from("hunter2".to_owned())));
        gate.is_open(path) || gate.trusts(&headers).is_some()
    }

    #[test]
    fn only_the_token_opens() {
        assert!(admits("/agents", Some("Bearer hunter2")));
        assert!(admits("/agents", Some("bearer  hunter2 ")));
        for wrong in
            ["Bearer hunter", "Bearer hunter22", "Bearer ", "Bearer", "hunter2", "Basic hunter2"]
        {
            assert!(!admits("/agents", Some(wrong)), "{wrong}");
        }
        assert!(!admits("/agents", None));
    }

    #[test]
    fn probes_need_no_token_and_their_lookalikes_do() {
        assert!(admits("/livez", None));
        for path in ["/livez/", "/LIVEZ", "/health/../agents", "//health"] {
            assert!(!admits(path, None), "{path}");
        }
    }

    #[test]
    fn without_a_token_everybody_may() {
        assert!(Gate::Token(None).trusts(&HeaderMap::new()).is_some());
    }

    #[test]
    fn a_listener_for_probes_trusts_nobody_and_admits_all() {
        let trusted = Gate::Probes.trusts(&HeaderMap::new());
        assert!(trusted.is_none() && Gate::Probes.is_open("/metrics"));
    }
}
