//! Tokens: which of them is good, and who used an old one.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Tokens of a town that are known. The oldest are forgotten, and are then as good as any other text.
const MAX: usize = 10_000;

/// How long a token lasts unless a test says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// How good a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the one.
    Current,
    /// It is the one, but its time is over, or it was called stale: good for a refresh only.
    Expired,
    /// Another one took its place.
    Replaced,
    /// None of ours, or none at all.
    Unknown,
}

/// The tokens of a town.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The newest is the last.
    issued: VecDeque<Issued>,
    generation: u64,
    /// How long the next ones last.
    pub lifetime: Duration,
}

#[derive(Debug, Clone)]
struct Issued {
    token: String,
    generation: u64,
    expires: SystemTime,
    stale: bool,
    /// When another one was first used in its place.
    outdated: Option<Instant>,
    /// The latest use of this one after that.
    late_use: Option<Duration>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { issued: VecDeque::new(), generation: 0, lifetime: LIFETIME }
    }
}

impl Tokens {
    /// A new token in the place of the one before, which is not good any more.
    pub fn issue(&mut self, town: &str) -> String {
        if self.issued.len() == MAX {
            self.issued.pop_front();
        }
        self.generation += 1;
        let expires = SystemTime::now() + self.lifetime;
        let (generation, stale) = (self.generation, false);
        let token = make(town, generation, expires);
        let issued = Issued {
            token: token.clone(),
            generation,
            expires,
            stale,
            outdated: None,
            late_use: None,
        };
        self.issued.push_back(issued);
        token
    }

    /// The one that is good, made when there is none.
    pub fn current(&mut self, town: &str) -> String {
        match self.issued.back() {
            Some(issued) => issued.token.clone(),
            None => self.issue(town),
        }
    }

    /// From now on the current one is good for a refresh only.
    pub fn make_stale(&mut self) {
        if let Some(issued) = self.issued.back_mut() {
            issued.stale = true;
        }
    }

    /// The generation of the current one; 0 when there is none.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every token so far.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.issued.iter().map(|issued| issued.token.as_str())
    }

    /// How good a token is, and its generation. Writes down the use.
    pub fn check(&mut self, token: &str) -> (Standing, Option<u64>) {
        let Some(place) = self.issued.iter().position(|issued| issued.token == token) else {
            return (Standing::Unknown, None);
        };
        for old in self.issued.iter_mut().take(place) {
            old.outdated.get_or_insert_with(Instant::now);
        }
        let is_last = place + 1 == self.issued.len();
        let issued = &mut self.issued[place];
        if let Some(outdated) = issued.outdated {
            issued.late_use = Some(outdated.elapsed());
        }
        let standing = match is_last {
            false => Standing::Replaced,
            true if issued.stale || issued.expires <= SystemTime::now() => Standing::Expired,
            true => Standing::Current,
        };
        (standing, Some(issued.generation))
    }

    /// Old tokens that were used when a newer one had been used already: their generation, and how long after
    /// the first use of a newer one.
    pub fn late_uses(&self) -> Vec<(u64, Duration)> {
        self.issued.iter().filter_map(|old| Some((old.generation, old.late_use?))).collect()
    }
}

/// A text of three parts as a JWT has them. The signature is made up: nobody here can check one.
fn make(town: &str, generation: u64, expires: SystemTime) -> String {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(&json!({"alg": "HS256", "typ": "JWT"}));
    let claims = part(&json!({
        "sub": town, "gen": generation, "iat": seconds(SystemTime::now()), "exp": seconds(expires),
    }));
    let signature: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(32).collect();
    format!("{head}.{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_says_when_it_ends() {
        let token = Tokens::default().issue("t");
        let parts: Vec<_> = token.split('.').collect();
        let [_, claims, _] = parts[..] else { panic!("{token}") };
        let claims: Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let left = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert!((3599..=3601).contains(&left), "{claims}");
    }

    #[test]
    fn only_the_newest_is_good_and_uses_of_older_ones_are_written_down() {
        let mut tokens = Tokens::default();
        let first = tokens.issue("t");
        let second = tokens.issue("t");
        assert_eq!(tokens.check(&first), (Standing::Replaced, Some(1)));
        assert_eq!(tokens.late_uses(), [], "nobody has used the second");
        assert_eq!(tokens.check(&second), (Standing::Current, Some(2)));
        assert_eq!(tokens.check(&first).0, Standing::Replaced);
        assert_eq!(tokens.late_uses().len(), 1);
        assert_eq!(tokens.check("x"), (Standing::Unknown, None));
    }

    #[test]
    fn a_stale_token_and_one_whose_time_is_over_are_good_for_a_refresh_only() {
        let mut tokens = Tokens::default();
        let token = tokens.current("t");
        assert_eq!(tokens.current("t"), token);
        tokens.make_stale();
        assert_eq!(tokens.check(&token).0, Standing::Expired);
        tokens.lifetime = Duration::ZERO;
        let token = tokens.issue("t");
        assert_eq!(tokens.check(&token).0, Standing::Expired);
    }
}
