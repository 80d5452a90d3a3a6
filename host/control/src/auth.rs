//! Who may ask.

use bulkhead_model::Secret;
use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq;

/// Routes that need no token: probes have none, and the answers tell nothing about agents' work.
const OPEN: [&str; 3] = ["/health", "/livez", "/readyz"];

/// Lets requests in by bearer token.
pub(crate) struct Gate {
    token: Option<Secret>,
}

impl Gate {
    pub(crate) fn new(token: Option<Secret>) -> Self {
        Self { token }
    }

    /// May a request with these headers go to `path`? The token is compared in constant time; its
    /// length is not a secret.
    pub(crate) fn admits(&self, path: &str, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        if OPEN.contains(&path) {
            return true;
        }
        let shown = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        shown.is_some_and(|shown| bool::from(shown.ct_eq(token.expose().as_bytes())))
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
        Gate::new(Some(Secret::from("hunter2".to_owned()))).admits(path, &headers)
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
        assert!(Gate::new(None).admits("/agents", &HeaderMap::new()));
    }
}
