//! The token: swapped in place, refreshed by one caller at a time.
//!
//! Every call takes the token that holds when it begins to send. A swap raises the generation, so that a
//! call that was refused with an old token just goes again with the new one, and only one that was refused
//! with the newest asks for another.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_types::{Secret, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;

/// A token that ends sooner than this is replaced.
pub(crate) const REFRESH_BEFORE: Duration = Duration::from_secs(30 * 60);

/// Between two tries of a refresh that failed, and for tokens that are born old.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);

/// Longest token, in bytes. The head of a request has room for it everywhere.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token as one call uses it.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) secret: Secret,
    /// Rises with every swap.
    pub(crate) generation: u64,
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// An empty one is nearly always an unset variable.
    #[error("is empty")]
    Empty,
    /// It would not fit into a request.
    #[error("is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// A header cannot carry it.
    #[error("has blanks or characters that a header cannot carry; use visible ASCII")]
    Unusable,
}

/// Whether a token can be sent.
pub fn check(token: &Secret) -> Result<(), TokenError> {
    let text = token.expose();
    match text {
        "" => Err(TokenError::Empty),
        _ if text.len() > MAX_TOKEN_BYTES => Err(TokenError::TooLong),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err(TokenError::Unusable),
        _ => Ok(()),
    }
}

/// The token of this container.
pub(crate) struct Token {
    inner: Mutex<Inner>,
    /// Held by the one who refreshes.
    pub(crate) refreshing: tokio::sync::Mutex<()>,
}

struct Inner {
    current: Current,
    expires_at: Option<Timestamp>,
    /// The town gave it when it was asked for a new one: another would not live longer.
    is_refreshed: bool,
    /// No refresh of this generation before then.
    not_before: Option<(u64, Instant)>,
}

impl Token {
    pub(crate) fn new(secret: Secret) -> Self {
        let expires_at = expiry(secret.expose());
        let current = Current { secret, generation: 0 };
        let inner = Inner { current, expires_at, is_refreshed: false, not_before: None };
        Self { inner: Mutex::new(inner), refreshing: tokio::sync::Mutex::new(()) }
    }

    pub(crate) fn current(&self) -> Current {
        self.inner.lock().current.clone()
    }

    /// From now on every call uses this one. Says when it ends.
    pub(crate) fn swap(&self, secret: Secret) -> Option<Timestamp> {
        self.inner.lock().swap(secret, false)
    }

    /// What a refresh of `generation` brought. A token that came from elsewhere meanwhile stays, unless it
    /// ends sooner. Says whether the new one is in place, and when it ends.
    pub(crate) fn refreshed(&self, generation: u64, secret: Secret) -> (bool, Option<Timestamp>) {
        let mut inner = self.inner.lock();
        let expires_at = expiry(secret.expose());
        let overtaken = inner.current.generation != generation;
        if overtaken && (expires_at.is_none() || expires_at <= inner.expires_at) {
            return (false, expires_at);
        }
        (true, inner.swap(secret, true))
    }

    /// A refresh of `generation` failed.
    pub(crate) fn refresh_failed(&self, generation: u64, now: Instant) {
        self.inner.lock().not_before = Some((generation, now + REFRESH_PAUSE));
    }

    /// Whether a refresh of `generation` failed just now.
    pub(crate) fn is_backing_off(&self, generation: u64, now: Instant) -> bool {
        self.inner.lock().not_before.is_some_and(|(of, until)| of == generation && now < until)
    }

    /// How long until the token has to be replaced. `None`: it has no known end.
    pub(crate) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        let inner = self.inner.lock();
        let left = inner.expires_at?.0.saturating_sub(now.0);
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Some(match left.checked_sub(REFRESH_BEFORE) {
            Some(due) => due,
            // Where tokens are valid no longer than this, each is replaced at half of its lifetime.
            None if inner.is_refreshed => left / 2,
            None => Duration::ZERO,
        })
    }
}

impl Inner {
    fn swap(&mut self, secret: Secret, is_refreshed: bool) -> Option<Timestamp> {
        self.is_refreshed = is_refreshed;
        self.expires_at = expiry(secret.expose());
        // The same one again is no news for a call that was refused with it.
        let generation = self.current.generation + u64::from(self.current.secret != secret);
        self.current = Current { secret, generation };
        self.not_before = None;
        self.expires_at
    }
}

/// When a JWT ends, by its own word. Nothing of it is verified: the town does that.
fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: Option<f64>,
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let seconds = serde_json::from_slice::<Claims>(&json).ok()?.exp?;
    (seconds.is_finite() && seconds >= 0.0).then_some(Timestamp((seconds * 1000.0) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        text.to_owned().into()
    }

    fn jwt(exp: i64) -> Secret {
        let payload = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}"));
        secret(&format!("e30.{payload}.sig"))
    }

    #[test]
    fn only_a_jwt_says_when_it_ends() {
        assert_eq!(expiry(jwt(1_700_000_000).expose()), Some(Timestamp(1_700_000_000_000)));
        for other in ["", "hunter2", "a.b.c", "e30.e30.sig", "..", "e30.bnVsbA.s"] {
            assert_eq!(expiry(other), None, "{other}");
        }
    }

    #[test]
    fn it_is_replaced_half_an_hour_before_its_end_or_in_the_middle_of_a_short_lifetime() {
        let (now, minute) = (Timestamp(1_700_000_000_000), Duration::from_secs(60));
        let jwt_for = |minutes: i64| jwt(1_700_000_000 + minutes * 60);
        let due = |minutes| Token::new(jwt_for(minutes)).due_in(now);
        assert_eq!(due(90), Some(60 * minute));
        assert_eq!((due(29), due(-20)), (Some(Duration::ZERO), Some(Duration::ZERO)));
        assert_eq!(Token::new(secret("opaque")).due_in(now), None);
        let token = Token::new(jwt_for(20));
        assert!(token.refreshed(0, jwt_for(21)).0);
        assert_eq!(
            token.due_in(now),
            Some(10 * minute + minute / 2),
            "the town gives no longer ones"
        );
        token.swap(jwt_for(22));
        assert_eq!(token.due_in(now), Some(Duration::ZERO));
    }

    #[test]
    fn a_swap_counts_and_the_same_token_again_does_not() {
        let token = Token::new(secret("a"));
        token.swap(secret("a"));
        assert_eq!(token.current().generation, 0);
        token.swap(secret("b"));
        let current = token.current();
        assert_eq!((current.generation, current.secret.expose()), (1, "b"));
    }

    #[test]
    fn a_refresh_that_was_overtaken_yields_to_the_longer_lifetime() {
        let token = Token::new(jwt(100));
        token.swap(jwt(300));
        assert!(!token.refreshed(0, jwt(200)).0);
        assert!(!token.refreshed(0, secret("opaque")).0);
        assert!(token.refreshed(0, jwt(400)).0);
        assert_eq!(token.current().secret, jwt(400));
        assert!(token.refreshed(2, secret("opaque")).0, "nobody was faster");
    }

    #[test]
    fn a_failed_refresh_rests_until_there_is_another_token() {
        let (token, now) = (Token::new(secret("a")), Instant::now());
        token.refresh_failed(0, now);
        assert!(token.is_backing_off(0, now) && !token.is_backing_off(0, now + REFRESH_PAUSE));
        token.swap(secret("b"));
        assert!(!token.is_backing_off(1, now));
    }

    #[test]
    fn a_token_that_no_header_takes_is_none() {
        assert_eq!(check(&secret("")), Err(TokenError::Empty));
        assert_eq!(check(&secret("a b")), Err(TokenError::Unusable));
        assert_eq!(check(&secret("a\n")), Err(TokenError::Unusable));
        assert_eq!(check(&secret(&"x".repeat(MAX_TOKEN_BYTES + 1))), Err(TokenError::TooLong));
        assert_eq!(check(&secret("eyJ.x.y-_")), Ok(()));
    }
}
