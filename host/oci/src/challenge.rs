//! What a registry wants to see: the header `WWW-Authenticate` of a 401 (RFC 9110, section 11.6.1). Pure.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How to ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With a user and a password.
    Basic,
    /// With a token, which another server grants.
    Bearer { realm: String, service: Option<String> },
}

/// Most parameters that are read.
const MAX_PARAMETERS: usize = 32;

impl Challenge {
    /// The best one: a token before a password.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|it| it.to_str().ok());
        let all: Vec<_> = texts.flat_map(schemes).collect();
        let bearer = all.iter().filter(|it| it.is("bearer")).find_map(|it| {
            let realm = it.parameter("realm")?;
            Some(Self::Bearer { realm, service: it.parameter("service") })
        });
        bearer.or_else(|| all.iter().any(|it| it.is("basic")).then_some(Self::Basic))
    }
}

/// One scheme of a header, with its parameters.
#[derive(Debug, Default)]
struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Scheme {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

/// `Basic realm="a", Bearer realm="b",service="c"`: a word that no `=` follows begins a scheme.
fn schemes(text: &str) -> Vec<Scheme> {
    let mut schemes: Vec<Scheme> = Vec::new();
    let mut rest = text;
    for _ in 0..MAX_PARAMETERS {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            None => {
                schemes.push(Scheme { name: word.to_owned(), parameters: Vec::new() });
                rest = after;
            }
            Some(after) => {
                let (value, after) = value(after.trim_start());
                if let Some(scheme) = schemes.last_mut() {
                    scheme.parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
        }
    }
    schemes
}

/// A value, quoted or not, and what comes after it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let (mut value, mut chars) = (String::new(), quoted.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(headers: &[&str]) -> Option<Challenge> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, header.parse().unwrap());
        }
        Challenge::of(&map)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
    }

    #[test]
    fn a_token_is_preferred_wherever_it_is_offered() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#;
        let expected = bearer("https://auth.docker.io/token", Some("registry.docker.io"));
        assert_eq!(challenge(&[hub]), expected);
        assert_eq!(challenge(&["Basic realm=\"x\"", hub]), expected);
        assert_eq!(challenge(&[&format!("Basic realm=\"a, b\", {hub}")]), expected);
        assert_eq!(
            challenge(&["bearer Realm = https://a/t , Service=s"]),
            bearer("https://a/t", Some("s"))
        );
        assert_eq!(
            challenge(&[r#"Bearer realm="https://a/\"t\"""#]),
            bearer("https://a/\"t\"", None)
        );
    }

    #[test]
    fn a_password_is_wanted_otherwise() {
        assert_eq!(challenge(&["Basic realm=\"Registry\""]), Some(Challenge::Basic));
        assert_eq!(challenge(&["basic"]), Some(Challenge::Basic));
        assert_eq!(challenge(&["Bearer service=\"x\"", "Basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn anything_else_is_nothing_and_comes_to_an_end() {
        for headers in
            [&[][..], &[""], &["Digest realm=\"x\""], &["= = ="], &["realm=\"x"], &[",,,"]]
        {
            assert_eq!(challenge(headers), None, "{headers:?}");
        }
        assert_eq!(challenge(&[&"Basi c=d ,".repeat(1000)]), None);
    }
}
