//! Who may ask.

use bulkhead_model::Secret;
use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq;

/// Routes that need no token: probes have none, and the answers tell nothing about agents' work.
const OPEN: [&str; 3] = ["/health", "/livez", "/readyz"];

/// Marks a request whose sender has shown the token, or may do everything without one.
#[derive(Clone, Copy)]
pub(crate) struct Trusted;

/// Lets requests in by bearer token.
pub(crate) struct Gate {
    token: Option<Secret>,
}

impl Gate {
    pub(crate) fn new(token: Option<Secret>) -> Self {
        Self { token }
    }

    /// May a request go to `path`, when its sender is trusted or not?
    pub(crate) fn admits(&self, path: &str, trusted: Option<Trusted>) -> bool {
        trusted.is_some() || OPEN.contains(&path)
    }

    /// Whether the headers show the token, or there is none to show. It is compared in constant time;
    /// its length is not a secret.
    pub(crate) fn trusts(&self, headers: &HeaderMap) -> Option<Trusted> {
        let Some(token) = &self.token else { return Some(Trusted) };
        let shown = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        shown.filter(|shown| shown.ct_eq(token.expose().as_bytes()).into()).map(|_| Trusted)
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
        let gate = Gate::new(Some(Secret::from("hunter2".to_owned())));
        gate.admits(path, gate.trusts(&headers))
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
        assert!(Gate::new(None).trusts(&HeaderMap::new()).is_some());
    }
}
