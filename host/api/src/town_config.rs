//! `POST /sync-config`, and the header `X-Town-Config` of any call: what a town sends to its container.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_types::Secret;
use bulkhead_types::settings::{MAX_TOWN_VALUE_BYTES, MAX_TOWN_VALUES};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Issue, parse_json};
use crate::unknown::{Parsed, parse_shared};

/// Configuration values that a town may set, and that one call may change. The original's has tens.
pub const MAX_VALUES: usize = MAX_TOWN_VALUES;

/// Bytes of all their keys and values together. Every agent with an environment gets a copy.
pub const MAX_VALUE_BYTES: usize = MAX_TOWN_VALUE_BYTES;

/// Longest key.
const MAX_KEY_BYTES: usize = 256;

/// Of a key that is at fault, in characters.
const SHOWN_KEY_CHARS: usize = 64;

/// A change of the town's configuration values. The original's configuration has more; what
/// belongs to git and to its own model gateway is not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
pub struct TownConfig {
    /// For `host.config` and the environment of agents. Null takes a value away.
    #[schemars(with = "Option<BTreeMap<String, Scalar>>", extend("maxProperties" = MAX_VALUES))]
    #[schemars(extend("propertyNames" = { "pattern": "^[^=\\u0000]+$", "maxLength": MAX_KEY_BYTES }))]
    pub env_vars: BTreeMap<String, Option<Secret>>,
    /// They are all that there are: what is not named is gone. Not where nothing was said of values.
    #[schemars(skip)]
    pub is_whole: bool,
    /// Keys that were named with something that is no value: what they were before stays.
    #[schemars(skip)]
    pub unread: BTreeSet<String>,
}

/// What a value may be: text, as an environment has nothing else.
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
#[expect(dead_code, reason = "stands for the JSON that `text` takes")]
enum Scalar {
    Text(Secret),
    Number(f64),
    Boolean(bool),
    Null(()),
}

type Values = BTreeMap<String, Box<RawValue>>;

/// As it comes in. Values keep their text, so that a number of any length comes out as it went in.
#[derive(Deserialize)]
struct Raw {
    env_vars: Option<Values>,
    #[serde(rename = "envVars")]
    env_vars_in_camel_case: Option<Values>,
}

/// The same where what is wrong is left out.
#[derive(Deserialize)]
struct RawHeader {
    env_vars: Option<Box<RawValue>>,
    #[serde(rename = "envVars")]
    env_vars_in_camel_case: Option<Box<RawValue>>,
}

impl TownConfig {
    /// Reads a header, as far as it can be read, and says what is wrong with the rest. A header comes with a call that
    /// is about something else, and must not be what fails it.
    pub fn parse_header(json: &[u8]) -> (Self, Vec<Issue>) {
        let mut config = Self::default();
        let raw: RawHeader = match parse_json(json) {
            Ok(raw) => raw,
            Err(issues) => return (config, issues),
        };
        let mut issues = Vec::new();
        for (name, values) in [("env_vars", raw.env_vars), ("envVars", raw.env_vars_in_camel_case)]
        {
            match values.map(|values| serde_json::from_str::<Values>(values.get())) {
                None => {}
                Some(Ok(values)) => {
                    if values.len() > MAX_VALUES {
                        let count = values.len();
                        let text = format!("has {count} values, the first {MAX_VALUES} are taken");
                        issues.push(Issue::new(name, text));
                    }
                    config.take(name, values, &mut issues);
                }
                Some(Err(_)) => issues.push(Issue::new(name, "expected an object of values")),
            }
        }
        (config, issues)
    }

    /// Parses and checks a body.
    pub fn parse_body(body: &[u8]) -> Result<Parsed<Self>, Vec<Issue>> {
        parse_shared(body, &[])?.map(Self::check)
    }

    fn check(raw: Raw) -> Result<Self, Vec<Issue>> {
        let (mut config, mut issues) = (Self::default(), Vec::new());
        for (name, values) in [("env_vars", raw.env_vars), ("envVars", raw.env_vars_in_camel_case)]
        {
            let Some(values) = values else { continue };
            if values.len() > MAX_VALUES {
                let count = values.len();
                let text = format!("has {count} values, at most {MAX_VALUES} are taken at once");
                issues.push(Issue::new(name, text));
                continue;
            }
            config.take(name, values, &mut issues);
        }
        if issues.is_empty() { Ok(config) } else { Err(issues) }
    }

    /// Takes the values that are some, as many as may be.
    fn take(&mut self, name: &str, values: Values, issues: &mut Vec<Issue>) {
        self.is_whole = true;
        for (key, value) in values.into_iter().take(MAX_VALUES) {
            match (check_key(&key), text(&value)) {
                (Ok(()), Ok(value)) => _ = self.env_vars.insert(key, value),
                (Err(problem), _) | (_, Err(problem)) => {
                    let shown: String = key.chars().take(SHOWN_KEY_CHARS).collect();
                    issues.push(Issue::new(format!("{name}.{shown}"), problem));
                    self.unread.insert(key);
                }
            }
        }
    }
}

/// A key is the name of an environment variable as well.
fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(format!("key must have 1 to {MAX_KEY_BYTES} bytes"));
    }
    if key.contains(['=', '\0']) {
        return Err("key must not have = or NUL".to_owned());
    }
    Ok(())
}

/// Scalars are text, as an environment has nothing else.
fn text(value: &RawValue) -> Result<Option<Secret>, String> {
    let json = value.get();
    let found = match json.bytes().next() {
        Some(b'"') => {
            let text = serde_json::from_str::<String>(json);
            // The parser's words may quote the value.
            return text.map(|text| Some(text.into())).map_err(|_| "is no text".to_owned());
        }
        Some(b'n') => return Ok(None),
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        _ => return Ok(Some(json.to_owned().into())),
    };
    Err(format!("expected text, a number, a boolean or null, found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &str) -> BTreeMap<String, Option<String>> {
        let config = TownConfig::parse_body(json.as_bytes()).unwrap().request;
        let exposed = |value: Option<Secret>| value.map(|value| value.expose().to_owned());
        config.env_vars.into_iter().map(|(key, value)| (key, exposed(value))).collect()
    }

    fn issues(json: &str) -> Vec<String> {
        let issues = TownConfig::parse_body(json.as_bytes()).unwrap_err();
        assert!(!format!("{issues:?}").contains("hunter2"), "{issues:?}");
        issues.into_iter().map(|issue| issue.path).collect()
    }

    #[test]
    fn scalars_are_text_and_null_takes_away() {
        let json = r#"{"env_vars":{"A":"x\u00e4","B":12345678901234567890123,"C":1.50,"D":true,"E":null},
            "git_auth":{"token":"t"},"default_model":"m"}"#;
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            ("A", text("xä")),
            ("B", text("12345678901234567890123")),
            ("C", text("1.50")),
            ("D", text("true")),
            ("E", None),
        ];
        assert_eq!(values(json), expected.map(|(key, value)| (key.to_owned(), value)).into());
    }

    #[test]
    fn both_spellings_are_understood_and_nothing_is_required() {
        assert_eq!(values(r#"{"envVars":{"A":"1"}}"#)["A"].as_deref(), Some("1"));
        assert!(values("{}").is_empty() && values(r#"{"env_vars":null}"#).is_empty());
    }

    #[test]
    fn every_fault_is_named_at_once_and_no_value_quoted() {
        let json = r#"{"env_vars":{"":"hunter2","a=b":"hunter2","a\u0000b":"1","ok":"1","list":["hunter2"],
            "object":{"hunter2":1},"surrogate":"hunter2\ud800"}}"#;
        let keys = ["", "a\0b", "a=b", "list", "object", "surrogate"];
        assert_eq!(issues(json), keys.map(|key| format!("env_vars.{key}")));
        for json in [r#"{"envVars":"hunter2"}"#, r#"{"envVars":["hunter2"]}"#] {
            assert_eq!(issues(json), ["envVars"], "{json}");
        }
        for json in
            ["", "hunter2", "[]", "\"hunter2\"", "{} hunter2", r#"{"env_vars":{"A":hunter2}}"#]
        {
            assert!(!issues(json).is_empty(), "{json}");
        }
    }

    #[test]
    fn a_header_is_taken_as_far_as_it_is_good() {
        let read = |json: &str| {
            let (config, issues) = TownConfig::parse_header(json.as_bytes());
            assert!(!format!("{issues:?}").contains("hunter2"), "{issues:?}");
            let paths: Vec<_> = issues.into_iter().map(|issue| issue.path).collect();
            (config, paths)
        };
        let json = r#"{"env_vars":{"a=b":"hunter2","ok":"1","list":["hunter2"]},"envVars":7}"#;
        let (config, paths) = read(json);
        assert_eq!(config.env_vars.keys().collect::<Vec<_>>(), ["ok"]);
        assert_eq!(paths, ["env_vars.a=b", "env_vars.list", "envVars"]);
        assert!(config.is_whole && config.unread.contains("list"));
        for nothing in
            ["", "hunter2", "[]", "{} hunter2", "\u{fc}", r#"{"env_vars":{"A":hunter2}}"#]
        {
            let (config, paths) = read(nothing);
            assert!(config == TownConfig::default() && paths.len() == 1, "{nothing}: {paths:?}");
        }
        for none in ["{}", r#"{"git_auth":{}}"#, r#"{"env_vars":null}"#] {
            assert_eq!(read(none), (TownConfig::default(), Vec::new()), "{none}");
        }
        let many: Vec<_> = (0..=MAX_VALUES).map(|n| format!("\"k{n}\":{n}")).collect();
        let (config, paths) = read(&format!("{{\"env_vars\":{{{}}}}}", many.join(",")));
        assert_eq!((config.env_vars.len(), paths.len()), (MAX_VALUES, 1));
    }

    #[test]
    fn the_number_of_values_and_the_length_of_keys_are_bounded() {
        let many: Vec<_> = (0..=MAX_VALUES).map(|n| format!("\"k{n}\":[]")).collect();
        assert_eq!(issues(&format!("{{\"env_vars\":{{{}}}}}", many.join(","))), ["env_vars"]);
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let path = &issues(&format!("{{\"env_vars\":{{\"{long}\":1}}}}"))[0];
        assert_eq!(path.len(), "env_vars.".len() + SHOWN_KEY_CHARS);
    }
}
