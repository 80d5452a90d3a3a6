//! Configuration values as typed structs.
//!
//! The host knows flat keys with text values. [`load`] reads a struct from those that share a
//! prefix: each field is one key. Structs do not nest; load each group by itself.
//!
//! ```no_run
//! #[derive(serde::Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! struct Forge {
//!     base_url: String,             // forge.base-url
//!     timeout_ms: Option<u64>,      // forge.timeout-ms
//!     #[serde(default)]
//!     retries: u32,                 // forge.retries
//! }
//!
//! let forge: Forge = bulkhead_guest::config::load("forge")?;
//! # Ok::<(), bulkhead_guest::AgentError>(())
//! ```
//!
//! Text, numbers, booleans and unit enum variants are written as they are; lists and maps are JSON
//! text. An error names the key and never the value, which may be a secret. Keys that begin with `model.` are the
//! host's and have no value here; see [`model`](crate::model).

mod de;

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::AgentError;
use crate::bindings::bulkhead::agent::host as raw;

/// A configuration value is missing, or is not what the agent needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key, for example `forge.base-url`. Empty when no key is to blame.
    pub key: String,
    /// What is wrong, without the value.
    pub problem: String,
}

impl ConfigError {
    /// A problem with one key.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "config: {}", self.problem);
        }
        write!(f, "config key `{}`: {}", self.key, self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for AgentError {
    fn from(error: ConfigError) -> Self {
        Self::fatal("bad-config", error.to_string())
    }
}

/// Looks up one value as text.
pub fn text(key: &str) -> Option<String> {
    raw::config(key)
}

/// Looks up one value and parses it.
pub fn get<T: FromStr>(key: &str) -> Result<Option<T>, ConfigError> {
    text(key).map(|value| parse(key, &value)).transpose()
}

/// Looks up one value that the agent cannot do without.
pub fn require<T: FromStr>(key: &str) -> Result<T, ConfigError> {
    get(key)?.ok_or_else(|| ConfigError::new(key, "is not set"))
}

/// Reads a struct from the keys below `prefix`, or from the top when it is empty.
pub fn load<T: DeserializeOwned>(prefix: &str) -> Result<T, ConfigError> {
    load_from(prefix, &raw::config)
}

/// [`load`] with another source, for tests.
pub fn load_from<T: DeserializeOwned>(
    prefix: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<T, ConfigError> {
    T::deserialize(de::Key::new(prefix, lookup))
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T, ConfigError> {
    value.trim().parse().map_err(|_| {
        ConfigError::new(key, format!("is not a valid {}", std::any::type_name::<T>()))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    struct Forge {
        base_url: String,
        timeout_ms: Option<u64>,
        #[serde(default)]
        stream: bool,
        #[serde(default)]
        stop: Vec<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        Careful,
        Quick,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    struct Settings {
        mode: Mode,
        max_rounds: u32,
    }

    fn lookup(key: &str) -> Option<String> {
        let value = match key {
            "mode" => "quick",
            "max-rounds" => " 7 ",
            "forge.base-url" => "http://localhost/v1",
            "forge.stream" => "true",
            "forge.stop" => r#"["a", "b"]"#,
            "broken.base-url" => "x",
            "broken.timeout-ms" => "sk-secret",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn a_struct_is_read_from_the_keys_below_a_prefix() {
        let forge: Forge = load_from("forge", &lookup).unwrap();
        assert_eq!(
            forge,
            Forge {
                base_url: "http://localhost/v1".into(),
                timeout_ms: None,
                stream: true,
                stop: vec!["a".into(), "b".into()],
            }
        );
    }

    #[test]
    fn without_a_prefix_the_fields_are_the_keys() {
        let settings: Settings = load_from("", &lookup).unwrap();
        assert_eq!(settings, Settings { mode: Mode::Quick, max_rounds: 7 });
    }

    #[test]
    fn a_missing_value_names_its_whole_key() {
        let error = load_from::<Forge>("other", &lookup).unwrap_err();
        assert_eq!(error, ConfigError::new("other.base-url", "is not set"));
    }

    #[test]
    fn a_wrong_value_names_the_key_and_hides_the_value() {
        let error = load_from::<Forge>("broken", &lookup).unwrap_err();
        assert_eq!(error.key, "broken.timeout-ms");
        assert!(!error.to_string().contains("sk-secret"), "{error}");
    }

    #[test]
    fn an_unknown_variant_hides_the_value() {
        let secret = |_: &str| Some("sk-secret".to_owned());
        let error = load_from::<Mode>("mode", &secret).unwrap_err();
        assert!(!error.to_string().contains("sk-secret"), "{error}");
    }
}
