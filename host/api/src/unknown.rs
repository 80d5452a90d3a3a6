//! Fields that a request brings and its route does not know.
//!
//! A misspelt field must not do nothing. But the control plane of the original container may be newer than this
//! program, and sends what it likes. So on the routes that it calls a field is refused when it looks like one that is
//! known, and otherwise named in the answer; on Bulkhead's own routes every unknown field is refused.

use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::{Issue, read_json};

/// Unknown fields that are named, at most.
const MAX_NAMED: usize = 16;

/// Of an unknown field's name, in characters.
const SHOWN_CHARS: usize = 64;

/// From this length on two slips of the keyboard are taken for slips.
const LONG: usize = 8;

/// A request, and the names of its fields that were ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    /// What was asked.
    pub request: T,
    /// Fields that are not known here, the first 16 of them, cut to 64 characters.
    pub ignored: Vec<String>,
}

impl<T> Parsed<T> {
    /// The same with another request.
    pub(crate) fn map<U>(
        self,
        check: impl FnOnce(T) -> Result<U, Vec<Issue>>,
    ) -> Result<Parsed<U>, Vec<Issue>> {
        Ok(Parsed { request: check(self.request)?, ignored: self.ignored })
    }
}

/// Reads the body of a route that is Bulkhead's own: an unknown field is an issue.
pub(crate) fn parse_own<T: DeserializeOwned>(body: &[u8]) -> Result<T, Vec<Issue>> {
    let (request, unknown) = read_json(body, MAX_NAMED)?;
    let known = fields_of::<T>();
    let issues: Vec<_> = unknown.iter().map(|name| issue(name, nearest(name, known))).collect();
    if issues.is_empty() { Ok(request) } else { Err(issues) }
}

/// Reads the body of a route that the original has as well. `also` are fields of the original that are taken and
/// not used.
pub(crate) fn parse_shared<T: DeserializeOwned>(
    body: &[u8],
    also: &[&str],
) -> Result<Parsed<T>, Vec<Issue>> {
    let (request, mut unknown) = read_json(body, MAX_NAMED)?;
    let known = fields_of::<T>();
    unknown.retain(|name| !also.contains(&name.as_str()));
    let issues: Vec<_> = unknown
        .iter()
        .filter_map(|name| {
            Some(issue(name, Some(nearest(name, known).filter(|near| is_slip(name, near))?)))
        })
        .collect();
    if !issues.is_empty() {
        return Err(issues);
    }
    let ignored = unknown.iter().map(|name| shown(name)).collect();
    Ok(Parsed { request, ignored })
}

/// What is said of a name that is not known, in a body or in a query.
pub fn issue(name: &str, nearest: Option<&str>) -> Issue {
    let hint = nearest.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Issue::new(shown(name), format!("is not known here{hint}"))
}

/// The name of `known` that is most like `name`, if one is like it at all.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = plain(name);
    let far = |known: &&&str| strsim::damerau_levenshtein(&plain, &self::plain(known));
    // Nobody mistypes a third of a name, and no name is that long.
    let near = known.iter().filter(|_| plain.len() <= SHOWN_CHARS).min_by_key(far)?;
    (far(&near) <= plain.len().max(3) / 3).then_some(*near)
}

/// Whether the one is the other, mistyped, and not a word of its own.
fn is_slip(name: &str, known: &str) -> bool {
    let (name, known) = (plain(name), plain(known));
    name == known || (name.len() >= LONG && strsim::damerau_levenshtein(&name, &known) <= 2)
}

/// Without what differs between `memoryLimitMb`, `memory_limit_mb` and `memory-limit-MB`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).collect::<String>().to_ascii_lowercase()
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_CHARS).collect()
}

/// The names of a struct's fields, as they stand in JSON.
fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &[&str] = &[];
    let _ = T::deserialize(FieldNames(&mut fields));
    fields
}

/// Hears which fields a struct asks for, and gives it none.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("only structs have fields"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its names count")]
    struct Sample {
        agent_id: Option<String>,
        model: Option<String>,
        memory_limit_mb: Option<u64>,
    }

    fn paths(issues: &[Issue]) -> Vec<&str> {
        issues.iter().map(|issue| issue.path.as_str()).collect()
    }

    #[test]
    fn a_route_of_our_own_refuses_every_unknown_field_with_the_nearest_name() {
        let issues =
            parse_own::<Sample>(br#"{"memoryLimitMB":1,"modle":"m","zzz":{}}"#).unwrap_err();
        assert_eq!(paths(&issues), ["memoryLimitMB", "modle", "zzz"]);
        let said: Vec<_> = issues.iter().map(|issue| issue.message.as_str()).collect();
        let expected = [
            "is not known here; did you mean memoryLimitMb?",
            "is not known here; did you mean model?",
            "is not known here",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_shared_route_refuses_slips_and_names_the_rest() {
        let parse = |body: &str| parse_shared::<Sample>(body.as_bytes(), &["gitUrl"]);
        for slip in [
            "memoryLimitMB",
            "memory_limit_mb",
            "memory-limit-mb",
            "memoryLimtMb",
            "AgentID",
            "MODEL",
        ] {
            let issues = parse(&format!(r#"{{"{slip}":1}}"#)).unwrap_err();
            assert_eq!(paths(&issues), [slip]);
            assert!(issues[0].message.contains("did you mean"), "{issues:?}");
        }
        // A newer control plane may mean these.
        let parsed = parse(r#"{"model":"m","models":[],"rig":{"a":1},"gitUrl":"u"}"#).unwrap();
        assert_eq!(parsed.ignored, ["models", "rig"]);
        assert_eq!(parsed.request.model.as_deref(), Some("m"));
    }

    #[test]
    fn what_is_named_is_bounded() {
        let many: Vec<_> = (0..100).map(|n| format!("\"{}{n}\":0", "x".repeat(1000))).collect();
        let body = format!("{{{}}}", many.join(","));
        let issues = parse_own::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!((issues.len(), issues[0].path.len()), (MAX_NAMED, SHOWN_CHARS));
        let ignored = parse_shared::<Sample>(body.as_bytes(), &[]).unwrap().ignored;
        assert_eq!((ignored.len(), ignored[0].len()), (MAX_NAMED, SHOWN_CHARS));
    }
}
