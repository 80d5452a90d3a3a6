//! Loops that lead nowhere: a tool called again and again in the same way, turns that produce nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;

use serde_json::Value;

/// How often something may repeat. `None`: as often as it wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoopRules {
    /// The same tool call with the same arguments, in a row.
    pub same_tool_calls: Option<NonZeroU32>,
    /// Turns in a row that ended in `continue` and produced nothing new.
    pub idle_continues: Option<NonZeroU32>,
}

/// A loop that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// A model asked for the same tool with the same arguments.
    SameToolCalls {
        /// As the model named it, at most 64 characters.
        name: String,
        /// In a row.
        count: u32,
    },
    /// Turns ended in `continue`, without anything new.
    IdleContinues {
        /// In a row.
        count: u32,
    },
}

impl Stuck {
    /// The key of the rule in the configuration.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::SameToolCalls { .. } => "same_tool_calls",
            Self::IdleContinues { .. } => "idle_continues",
        }
    }

    /// How often it repeated.
    pub fn count(&self) -> u32 {
        match self {
            Self::SameToolCalls { count, .. } | Self::IdleContinues { count } => *count,
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameToolCalls { name, count } => {
                write!(
                    f,
                    "the model called tool {name:?} {count} times in a row with the same arguments"
                )
            }
            Self::IdleContinues { count } => {
                write!(f, "{count} turns in a row ended in `continue` and produced nothing new")
            }
        }
    }
}

/// Characters of a tool's name that are reported.
const NAME_CHARS: usize = 64;

/// Counts repetitions.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    rules: LoopRules,
    last_call: Option<u64>,
    same_calls: u32,
    idle_continues: u32,
    /// Something new came in this turn.
    progress: bool,
    /// It was reported: once for a message.
    reported: bool,
}

impl Breaker {
    pub fn new(rules: LoopRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Another message: what repeats may have a reason.
    pub fn reset(&mut self) {
        *self = Self::new(self.rules);
    }

    pub fn begin_turn(&mut self) {
        self.progress = false;
    }

    pub fn saw_tool_call(&mut self, name: &str, arguments: &str) -> Option<Stuck> {
        let call = fingerprint(name, arguments);
        if self.last_call == Some(call) {
            self.same_calls = self.same_calls.saturating_add(1);
        } else {
            (self.last_call, self.same_calls, self.progress) = (Some(call), 1, true);
        }
        let (most, count) = (self.rules.same_tool_calls?.get(), self.same_calls);
        let name = || name.chars().take(NAME_CHARS).collect();
        self.report(count >= most, || Stuck::SameToolCalls { name: name(), count })
    }

    pub fn turn_ended(&mut self, continues: bool, produced_output: bool) -> Option<Stuck> {
        let progress = std::mem::take(&mut self.progress) || produced_output;
        self.idle_continues = match continues && !progress {
            true => self.idle_continues.saturating_add(1),
            false => 0,
        };
        let (most, count) = (self.rules.idle_continues?.get(), self.idle_continues);
        self.report(count >= most, || Stuck::IdleContinues { count })
    }

    fn report(&mut self, is_stuck: bool, stuck: impl FnOnce() -> Stuck) -> Option<Stuck> {
        if !is_stuck || std::mem::replace(&mut self.reported, true) {
            return None;
        }
        Some(stuck())
    }
}

/// The same for arguments that are the same JSON, whatever their spaces and the order of their keys.
fn fingerprint(name: &str, arguments: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let arguments = arguments.trim();
    match serde_json::from_str(if arguments.is_empty() { "{}" } else { arguments }) {
        Ok(value) => hash(&value, &mut hasher),
        Err(_) => arguments.hash(&mut hasher),
    }
    hasher.finish()
}

fn hash(value: &Value, hasher: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        Value::Null => {}
        Value::Bool(bool) => bool.hash(hasher),
        Value::Number(number) => number.hash(hasher),
        Value::String(text) => text.hash(hasher),
        Value::Array(values) => {
            values.len().hash(hasher);
            values.iter().for_each(|value| hash(value, hasher));
        }
        Value::Object(object) => {
            // In the order of its keys, in whichever order the parser keeps them.
            let sorted: BTreeMap<_, _> = object.iter().collect();
            sorted.len().hash(hasher);
            for (key, value) in sorted {
                key.hash(hasher);
                self::hash(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn breaker(same_tool_calls: u32, idle_continues: u32) -> Breaker {
        Breaker::new(LoopRules {
            same_tool_calls: NonZeroU32::new(same_tool_calls),
            idle_continues: NonZeroU32::new(idle_continues),
        })
    }

    #[test]
    fn the_same_call_in_a_row_is_stuck_and_reported_once_for_a_message() {
        let mut breaker = breaker(3, 0);
        assert_eq!(breaker.saw_tool_call("read", r#"{"a":1,"b":[2]}"#), None);
        assert_eq!(breaker.saw_tool_call("read", r#"{ "b": [2], "a": 1 }"#), None);
        let stuck = breaker.saw_tool_call("read", r#"{"a":1,"b":[2]}"#).unwrap();
        assert_eq!(stuck, Stuck::SameToolCalls { name: "read".into(), count: 3 });
        assert_eq!(breaker.saw_tool_call("read", r#"{"a":1,"b":[2]}"#), None);
        breaker.reset();
        for _ in 0..2 {
            assert_eq!(breaker.saw_tool_call("read", "{}"), None);
        }
        assert!(breaker.saw_tool_call("read", "").is_some());
    }

    #[test]
    fn another_call_in_between_begins_a_new_row() {
        let mut breaker = breaker(2, 0);
        for (name, arguments) in
            [("a", "{}"), ("b", "{}"), ("a", "{}"), ("a", r#"{"x":1}"#), ("a", "no"), ("a", "json")]
        {
            assert_eq!(breaker.saw_tool_call(name, arguments), None, "{name} {arguments}");
        }
        assert!(breaker.saw_tool_call("a", " json ").is_some());
    }

    #[test]
    fn turns_without_anything_new_are_stuck() {
        let mut breaker = breaker(0, 3);
        for (continues, produced) in [(true, false), (true, false), (true, true), (true, false)] {
            assert_eq!(breaker.turn_ended(continues, produced), None);
        }
        assert_eq!(breaker.turn_ended(true, false), None);
        assert_eq!(breaker.turn_ended(true, false), Some(Stuck::IdleContinues { count: 3 }));
    }

    #[test]
    fn a_tool_call_is_new_if_it_is_another_one() {
        let mut breaker = breaker(0, 2);
        for _ in 0..5 {
            breaker.begin_turn();
            assert_eq!(breaker.saw_tool_call("a", "1"), None);
            assert_eq!(breaker.saw_tool_call("a", "2"), None);
            assert_eq!(breaker.turn_ended(true, false), None);
        }
        breaker.begin_turn();
        breaker.saw_tool_call("a", "2");
        assert_eq!(breaker.turn_ended(true, false), None);
        breaker.saw_tool_call("a", "2");
        assert!(breaker.turn_ended(true, false).is_some());
    }

    #[test]
    fn without_rules_nothing_is_stuck() {
        let mut breaker = breaker(0, 0);
        for _ in 0..1000 {
            assert_eq!(breaker.saw_tool_call("a", "{}"), None);
            assert_eq!(breaker.turn_ended(true, false), None);
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c ]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same JSON in other words: spaces everywhere, keys backward.
    fn respell(value: &Value) -> String {
        match value {
            Value::Array(values) => {
                format!("[ {} ]", values.iter().map(respell).collect::<Vec<_>>().join(" , "))
            }
            Value::Object(object) => {
                let field = |(key, value): (&String, &Value)| {
                    format!("{} : {}", Value::from(key.as_str()), respell(value))
                };
                let fields: Vec<_> = object.iter().map(field).collect();
                format!("{{\n{} }}", fields.into_iter().rev().collect::<Vec<_>>().join(",\t"))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn arguments_are_compared_as_json(one in json(), other in json()) {
            let plain = fingerprint("t", &one.to_string());
            prop_assert_eq!(plain, fingerprint("t", &respell(&one)));
            prop_assert_ne!(plain, fingerprint("u", &one.to_string()));
            prop_assert_eq!(plain == fingerprint("t", &other.to_string()), one == other);
        }
    }
}
