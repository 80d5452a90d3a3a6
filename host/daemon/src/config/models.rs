//! The model endpoint: `[model]`.

use std::collections::BTreeMap;
use std::path::Path;

use bulkhead_net::{BaseUrl, Connector, Trust, UrlError};
use bulkhead_types::{HttpRule, Secret};

use super::file::{self};
use super::problem::{Problem, trust};

/// The model endpoint, as roles see it.
pub(super) struct Model {
    pub(super) keys: BTreeMap<String, Secret>,
    pub(super) url: BaseUrl,
    pub(super) rule: HttpRule,
    /// Who is believed to be it, where that is said.
    pub(super) trust: Option<Trust>,
}

impl Model {
    pub(super) fn check(model: file::Model, base: &Path) -> Result<Self, Problem> {
        let span = model.base_url.span();
        let key = if span.is_empty() { "BULKHEAD_MODEL_BASE_URL" } else { "model.base_url" };
        let text = model.base_url.into_inner().trim_end_matches('/').to_owned();
        let problem = |message: String| Problem::at(span.clone(), key.into(), message);
        let url = BaseUrl::parse(&text).map_err(|error| {
            problem(match error {
                UrlError::Credentials => format!("{error}; use api_key"),
                error => format!("{text:?} cannot be used: {error}"),
            })
        })?;
        // The operator wrote it down, so it is trusted to be where it should.
        let rule = HttpRule::parse(&url.destination.host_and_port())
            .map_err(|error| problem(error.to_string()))?
            .private();
        let trust = model.ca_file.map(|file| trust("model.ca_file", &file, base)).transpose()?;
        let mut keys = BTreeMap::new();
        keys.insert("model.base-url".to_owned(), Secret::from(text));
        keys.insert("model.name".to_owned(), Secret::from(model.name));
        if let Some(key) = model.api_key {
            keys.insert("model.api-key".to_owned(), key);
        }
        Ok(Self { keys, url, rule, trust })
    }

    /// The way out for agents.
    pub(super) fn way_to(model: Option<&Self>, outside: &Connector) -> Connector {
        let mut connector = outside.clone();
        if let Some(Self { url, trust: Some(trust), .. }) = model {
            connector.trust = connector.trust.with(url.destination.clone(), trust.clone());
        }
        connector
    }
}
