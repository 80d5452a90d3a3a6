//! Values that must not be printed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A token, key or environment value.
///
/// It can be read with [`Secret::expose`] and in no other way: `Debug` shows a placeholder, and there
/// is no `Display` and no `Serialize`, so it cannot slip into a log line, an answer or a record.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Arc<str>);

impl Secret {
    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Words at the end of a name that say that its value is a credential.
const WORDS: [&str; 4] = ["TOKEN", "KEY", "SECRET", "PASSWORD"];

/// The same, but only as a word of its own: many words end in these letters.
const WHOLE_WORD: &str = "PAT";

/// Whether a name says that its value is a credential: it ends, in any case, in `TOKEN`, `KEY`, `SECRET` or
/// `PASSWORD`, as `PGPASSWORD` and `apiKey` do, or in the word `PAT`, as `GITHUB_PAT` and `githubPat` do and
/// `COMPAT` does not.
pub fn is_secret_name(name: &str) -> bool {
    WORDS.iter().any(|word| before(name, word).is_some())
        || before(name, WHOLE_WORD).is_some_and(|before| {
            let starts_upper = name[before.len()..].starts_with('P');
            match before.chars().next_back() {
                Some(last) if last.is_lowercase() => starts_upper,
                Some(last) => !last.is_alphabetic(),
                None => true,
            }
        })
}

/// What stands before a word at the end of a name.
fn before<'a>(name: &'a str, word: &str) -> Option<&'a str> {
    let (before, end) = name.split_at_checked(name.len().checked_sub(word.len())?)?;
    end.eq_ignore_ascii_case(word).then_some(before)
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_value() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_name_says_whether_its_value_is_a_credential() {
        for name in [
            "TOKEN",
            "GITHUB_TOKEN",
            "github-token",
            "githubToken",
            "API_KEY",
            "api.key",
            "APIKEY",
            "TS_AUTHKEY",
            "PAT",
            "pat",
            "GITHUB_PAT",
            "github.pat",
            "GH2PAT",
            "githubPat",
            "CLIENT_SECRET",
            "PGPASSWORD",
            "db_password",
            "ÄTOKEN",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "",
            "KE",
            "COMPAT",
            "compat",
            "SPAT",
            "TOKENS",
            "KEY_ID",
            "TOKEN_URL",
            "PATH",
            "MODE",
            "PASSWORD_FILE",
            "SECRETS",
            "Ä",
            "ÄPAT",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
