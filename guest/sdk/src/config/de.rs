//! A deserializer over flat keys: one struct, whose fields are keys.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};

use super::{ConfigError, parse};

/// One key. A struct's fields are the keys one step below it.
pub(super) struct Key<'a> {
    path: String,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Key<'a> {
    pub(super) fn new(path: &str, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { path: path.to_owned(), lookup }
    }

    fn below(&self, field: &str) -> Key<'a> {
        let path = match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        };
        Key { path, lookup: self.lookup }
    }

    fn value(&self) -> Result<String, ConfigError> {
        (self.lookup)(&self.path).ok_or_else(|| ConfigError::new(&self.path, "is not set"))
    }

    /// Serde's messages quote values, and a value may be a secret: keep what was wanted only.
    fn wanted(&self, what: &str) -> ConfigError {
        ConfigError::new(&self.path, format!("is not {what}"))
    }
}

macro_rules! parsed {
    ($($method:ident: $visit:ident($ty:ty)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
            visitor.$visit(parse::<$ty>(&self.path, &self.value()?)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = ConfigError;

    parsed! {
        deserialize_bool: visit_bool(bool),
        deserialize_i8: visit_i8(i8),
        deserialize_i16: visit_i16(i16),
        deserialize_i32: visit_i32(i32),
        deserialize_i64: visit_i64(i64),
        deserialize_u8: visit_u8(u8),
        deserialize_u16: visit_u16(u16),
        deserialize_u32: visit_u32(u32),
        deserialize_u64: visit_u64(u64),
        deserialize_f32: visit_f32(f32),
        deserialize_f64: visit_f64(f64),
        deserialize_char: visit_char(char),
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_string(self.value()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match (self.lookup)(&self.path) {
            Some(_) => visitor.visit_some(self),
            None => visitor.visit_none(),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        let prefix = self.path.clone();
        let result =
            visitor.visit_map(Fields { parent: self, fields: fields.iter(), current: None });
        result.map_err(|error| {
            // Serde reports a missing field by the name of the field alone.
            if prefix.is_empty() || !fields.contains(&error.key.as_str()) {
                return error;
            }
            ConfigError::new(format!("{prefix}.{}", error.key), error.problem)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        let value = self.value()?;
        let wanted = self.wanted(&format!("one of: {}", variants.join(", ")));
        let variant: de::value::StrDeserializer<'_, ConfigError> = value.trim().into_deserializer();
        visitor.visit_enum(variant).map_err(|_| wanted)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        let value: Result<serde_json::Value, _> = serde_json::from_str(&self.value()?);
        let result = value.and_then(|value| value.deserialize_seq(visitor));
        result.map_err(|_| self.wanted("a JSON list of the right kind"))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        let value: Result<serde_json::Value, _> = serde_json::from_str(&self.value()?);
        let result = value.and_then(|value| value.deserialize_map(visitor));
        result.map_err(|_| self.wanted("a JSON object of the right kind"))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 str string bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

/// Those fields of a struct that have a value; serde fills in defaults for the others.
struct Fields<'a> {
    parent: Key<'a>,
    fields: std::slice::Iter<'static, &'static str>,
    current: Option<Key<'a>>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = ConfigError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ConfigError> {
        for field in self.fields.by_ref() {
            let key = self.parent.below(field);
            if (key.lookup)(&key.path).is_none() {
                continue;
            }
            self.current = Some(key);
            let name: de::value::StrDeserializer<'_, ConfigError> = (*field).into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ConfigError> {
        let key =
            self.current.take().ok_or_else(|| ConfigError::new("", "value before its key"))?;
        let path = key.path.clone();
        seed.deserialize(key).map_err(|error| {
            if !error.key.is_empty() {
                return error;
            }
            // The message comes from a type's own code and may quote the value.
            ConfigError::new(path, "has a value of the wrong kind")
        })
    }
}

impl de::Error for ConfigError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new("", message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(field, "is not set")
    }
}
