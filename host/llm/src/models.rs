//! The endpoints that are configured, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Endpoint;

/// The endpoint that variables, credentials and values without a name are for.
pub const DEFAULT_ENDPOINT: &str = "default";

/// A configured endpoint, and what may be asked of it.
#[derive(Clone)]
pub struct Model {
    /// Where to ask.
    pub endpoint: Arc<Endpoint>,
    /// The model that is asked when nobody names one.
    pub default_model: String,
    /// The models that may be asked.
    pub allowed: Allowed,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, default_model, allowed } = self;
        f.debug_struct("Model")
            .field("url", &endpoint.url())
            .field("default_model", default_model)
            .field("allowed", allowed)
            .finish()
    }
}

/// Which models may be asked of an endpoint. The default admits all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<Pattern>);

impl Allowed {
    /// Whether a model may be asked, by its whole name. Upper and lower case differ.
    pub fn admits(&self, model: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.covers(model))
    }
}

impl FromIterator<Pattern> for Allowed {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

/// Names of models: one, or all with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This one.
    Name(String),
    /// All that begin with it.
    Prefix(String),
}

/// Why a text is no [`Pattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It would admit no model.
    #[error("an empty text names no model; leave `models` out to allow all")]
    Empty,
    /// A `*` before the end.
    #[error("`*` stands for the rest of a name, so it can only be its last character")]
    Star,
}

impl Pattern {
    /// Parses a name, or a prefix with a `*` behind it.
    ///
    /// # Errors
    ///
    /// An empty text, or a `*` that is not at the end.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        match (name, is_prefix) {
            ("", false) => Err(PatternError::Empty),
            (name, _) if name.contains('*') => Err(PatternError::Star),
            (name, true) => Ok(Self::Prefix(name.to_owned())),
            (name, false) => Ok(Self::Name(name.to_owned())),
        }
    }

    fn covers(&self, model: &str) -> bool {
        match self {
            Self::Name(name) => name == model,
            Self::Prefix(prefix) => model.starts_with(prefix.as_str()),
        }
    }
}

/// All configured endpoints. The default has none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Models(Arc<BTreeMap<Arc<str>, Model>>);

impl Models {
    /// The endpoint of this name.
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.0.get(name)
    }

    /// The names of all endpoints, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.0.keys()
    }
}

impl FromIterator<(Arc<str>, Model)> for Models {
    /// Of two endpoints with one name the later one counts.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Model)>>(models: I) -> Self {
        Self(Arc::new(models.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulkhead_net::{BaseUrl, Connector, Credential};
    use bulkhead_types::Secret;

    use super::*;
    use crate::{Bounds, Dialect, Settings};

    fn allowed(patterns: &[&str]) -> Allowed {
        patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    fn model(name: &str) -> (Arc<str>, Model) {
        let second = Duration::from_secs(1);
        let settings = Settings {
            name: name.into(),
            base: BaseUrl::parse("http://127.0.0.1:9/v1").unwrap(),
            dialect: Dialect::OpenAi,
            headers: Vec::new(),
            connector: Connector::default(),
            bounds: Bounds {
                whole: second,
                first_byte: second,
                attempt: second,
                idle: second,
                retries: 0,
                max_wait: second,
                max_answer_bytes: 1,
            },
        };
        let endpoint =
            Endpoint::new(settings, Credential::fixed(Secret::from("hunter2".to_owned())));
        let allowed = allowed(&["q*"]);
        (name.into(), Model { endpoint: Arc::new(endpoint), default_model: "q".into(), allowed })
    }

    #[test]
    fn without_patterns_every_model_may_be_asked() {
        for model in ["qwen3", "", "a/b:c"] {
            assert!(Allowed::default().admits(model), "{model}");
        }
    }

    #[test]
    fn a_pattern_is_a_whole_name_or_the_beginning_of_one() {
        let allowed = allowed(&["qwen3", "claude-*", "meta/llama*"]);
        for model in ["qwen3", "claude-", "claude-opus-4", "meta/llama:8b"] {
            assert!(allowed.admits(model), "{model}");
        }
        for model in ["", "qwen", "qwen3:8b", "Qwen3", "claude", "my-claude-1", "meta/", "*"] {
            assert!(!allowed.admits(model), "{model}");
        }
    }

    #[test]
    fn a_lone_star_admits_all() {
        assert!(allowed(&["*"]).admits("qwen3"));
    }

    #[test]
    fn a_text_that_can_be_no_pattern_is_refused() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        for text in ["*-mini", "a*b", "**", "a**", "*a*"] {
            assert_eq!(Pattern::parse(text), Err(PatternError::Star), "{text}");
        }
    }

    #[test]
    fn endpoints_are_found_by_their_names() {
        let models: Models = [model("default"), model("big")].into_iter().collect();
        let names: Vec<&str> = models.names().map(AsRef::as_ref).collect();
        assert_eq!(names, ["big", "default"]);
        assert_eq!(models.get("big").unwrap().default_model, "q");
        assert!(models.get("small").is_none() && models.get("").is_none());
        assert!(Models::default().names().next().is_none());
    }

    #[test]
    fn a_key_is_in_no_debug_output() {
        let models: Models = [model("default")].into_iter().collect();
        let shown = format!("{models:?}");
        assert!(shown.contains("127.0.0.1:9") && !shown.contains("hunter2"), "{shown}");
    }
}
