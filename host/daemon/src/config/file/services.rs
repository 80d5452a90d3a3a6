//! `[models.NAME]`, `[secrets.NAME]`, `[evidence]`, `[lease]` and `[ship]`: services outside, and credentials for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_types::Secret;
use serde::Deserialize;
use toml::Spanned;

use super::{Kibibytes, Mebibytes, Millis, MillisOrNone, Rule};

/// Name of a model endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ModelName(pub Arc<str>);

/// Most characters of a [`ModelName`].
const MAX_MODEL_NAME: usize = 64;

/// What agents' own endpoints are called where calls are counted.
const OWN: &str = "own";

impl ModelName {
    /// The endpoint that variables and credentials are for.
    pub fn of_variables() -> Self {
        Self(bulkhead_llm::DEFAULT_ENDPOINT.into())
    }
}

impl TryFrom<String> for ModelName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text == OWN {
            return Err(format!(
                "the name {OWN:?} stands for agents' own endpoints (model.base-url); choose another"
            ));
        }
        let fits = (1..=MAX_MODEL_NAME).contains(&text.len()) && text.chars().all(is_fit);
        match fits {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "a name of an endpoint has 1 to {MAX_MODEL_NAME} characters of a-z 0-9 -"
            )),
        }
    }
}

/// `[models.NAME]`: an endpoint of language models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub base_url: Spanned<String>,
    #[serde(default)]
    pub dialect: Dialect,
    pub api_key: Option<Spanned<Secret>>,
    pub api_key_file: Option<Spanned<PathBuf>>,
    pub api_key_env: Option<Spanned<String>>,
    pub model: Option<Spanned<String>>,
    #[serde(default)]
    pub models: Vec<Spanned<String>>,
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<Secret>>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub timeout_ms: Option<Millis>,
    pub first_byte_ms: Option<Millis>,
    pub attempt_ms: Option<Millis>,
    pub idle_ms: Option<Millis>,
    pub retries: Option<Spanned<u32>>,
    pub max_wait_ms: Option<MillisOrNone>,
    pub max_answer_kb: Option<Kibibytes>,
    pub price_input: Option<Spanned<f64>>,
    pub price_cached: Option<Spanned<f64>>,
    pub price_output: Option<Spanned<f64>>,
    #[serde(default)]
    pub prices: BTreeMap<String, ModelPrices>,
}

/// `[models.NAME.prices."MODEL"]`: what the tokens of some of an endpoint's models cost.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrices {
    pub input: Option<Spanned<f64>>,
    pub cached: Option<Spanned<f64>>,
    pub output: Option<Spanned<f64>>,
}

impl Model {
    /// An endpoint of which nothing is known but its URL.
    pub fn at(base_url: Spanned<String>) -> Self {
        Self {
            base_url,
            dialect: Dialect::default(),
            api_key: None,
            api_key_file: None,
            api_key_env: None,
            model: None,
            models: Vec::new(),
            headers: BTreeMap::new(),
            ca_file: None,
            timeout_ms: None,
            first_byte_ms: None,
            attempt_ms: None,
            idle_ms: None,
            retries: None,
            max_wait_ms: None,
            max_answer_kb: None,
            price_input: None,
            price_cached: None,
            price_output: None,
            prices: BTreeMap::new(),
        }
    }
}

/// Name of a credential, as it stands in a placeholder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretName(pub Arc<str>);

impl TryFrom<String> for SecretName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let fits = (1..=MAX_MODEL_NAME).contains(&text.len()) && text.chars().all(is_fit);
        match fits {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "a name of a secret has 1 to {MAX_MODEL_NAME} characters of A-Z a-z 0-9 _ -"
            )),
        }
    }
}

/// `[secrets.NAME]`: a credential for HTTP services.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSecret {
    pub hosts: Spanned<Vec<Rule>>,
    pub value: Option<Spanned<Secret>>,
    pub value_file: Option<Spanned<PathBuf>>,
    pub value_env: Option<Spanned<String>>,
    #[serde(default = "authorization")]
    pub headers: Spanned<Vec<String>>,
    #[serde(default = "value_alone")]
    pub template: Spanned<String>,
    #[serde(default)]
    pub allow_http: bool,
}

fn authorization() -> Spanned<Vec<String>> {
    Spanned::new(0..0, vec!["authorization".to_owned()])
}

fn value_alone() -> Spanned<String> {
    Spanned::new(0..0, "{value}".to_owned())
}

/// What the server of an endpoint speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    #[default]
    OpenAi,
    Anthropic,
}

/// `[evidence]`: where evidence goes that outlives the disk.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    pub sink: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    pub token: Option<Spanned<Secret>>,
    pub token_file: Option<Spanned<PathBuf>>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub region: Option<Spanned<String>>,
    pub endpoint: Option<Spanned<String>>,
    pub access_key_id: Option<Spanned<String>>,
    pub secret_access_key: Option<Spanned<Secret>>,
    pub secret_access_key_file: Option<Spanned<PathBuf>>,
    pub heartbeat_ms: Option<Millis>,
    pub fetch_ms: Option<Millis>,
    pub call_ms: Option<Millis>,
    /// What AWS's own variables say, by their names.
    #[serde(skip)]
    pub aws: Vec<(&'static str, Secret)>,
}

/// `[lease]`: which copy of the town runs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lease {
    pub register: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    pub advertise: Option<Spanned<String>>,
    pub ttl_ms: Option<Spanned<Millis>>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub region: Option<Spanned<String>>,
    pub endpoint: Option<Spanned<String>>,
    pub access_key_id: Option<Spanned<String>>,
    pub secret_access_key: Option<Spanned<Secret>>,
    pub secret_access_key_file: Option<Spanned<PathBuf>>,
    pub username: Option<Spanned<String>>,
    pub password: Option<Spanned<Secret>>,
    pub password_file: Option<Spanned<PathBuf>>,
    pub token: Option<Spanned<Secret>>,
    pub token_file: Option<Spanned<PathBuf>>,
    pub credentials_file: Option<Spanned<PathBuf>>,
    /// What AWS's own variables say, by their names.
    #[serde(skip)]
    pub aws: Vec<(&'static str, Secret)>,
    /// What Kubernetes says in a pod of its API server.
    #[serde(skip)]
    pub api_server: Option<String>,
}

impl Lease {
    /// Another register than that of the file, whose credentials are not for it.
    pub fn move_to(&mut self, register: String) {
        self.register = Some(Spanned::new(0..0, register));
        (self.access_key_id, self.username) = (None, None);
        (self.secret_access_key, self.secret_access_key_file) = (None, None);
        (self.password, self.password_file) = (None, None);
        (self.token, self.token_file, self.credentials_file) = (None, None, None);
    }
}

/// As much of the file as matters where the towns of a register are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LeaseAlone {
    pub lease: Lease,
}

/// `[ship]`: where the state of the town is shipped.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ship {
    pub to: Option<Spanned<String>>,
    pub interval_ms: Option<Millis>,
    pub wait_ms: Option<Millis>,
    pub call_ms: Option<Millis>,
    pub restore_ms: Option<Millis>,
    pub workspaces: Option<bool>,
    pub workspace_mb: Option<Mebibytes>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub region: Option<Spanned<String>>,
    pub endpoint: Option<Spanned<String>>,
    pub access_key_id: Option<Spanned<String>>,
    pub secret_access_key: Option<Spanned<Secret>>,
    pub secret_access_key_file: Option<Spanned<PathBuf>>,
    pub username: Option<Spanned<String>>,
    pub password: Option<Spanned<Secret>>,
    pub password_file: Option<Spanned<PathBuf>>,
    pub token: Option<Spanned<Secret>>,
    pub token_file: Option<Spanned<PathBuf>>,
    pub credentials_file: Option<Spanned<PathBuf>>,
    /// What AWS's own variables say, by their names.
    #[serde(skip)]
    pub aws: Vec<(&'static str, Secret)>,
}

impl Ship {
    /// Another place than that of the file, whose credentials are not for it.
    pub fn move_to(&mut self, place: String) {
        self.to = Some(Spanned::new(0..0, place));
        (self.access_key_id, self.username) = (None, None);
        (self.secret_access_key, self.secret_access_key_file) = (None, None);
        (self.password, self.password_file) = (None, None);
        (self.token, self.token_file, self.credentials_file) = (None, None, None);
    }
}

/// What an answer about an agent promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durable {
    /// It survives the death of the process.
    #[default]
    Node,
    /// It survives the loss of the machine: it is shipped.
    Fleet,
}

/// `[components.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    pub path: Option<Spanned<PathBuf>>,
    pub reference: Option<Spanned<String>>,
    pub public_key_file: Option<Spanned<PathBuf>>,
}

/// `[registries.NAME]`: a registry of components.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    pub username: Option<Spanned<String>>,
    pub password: Option<Spanned<Secret>>,
    pub password_file: Option<Spanned<PathBuf>>,
    pub credentials_file: Option<Spanned<PathBuf>>,
    pub plain_http: Option<bool>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub public_key_file: Option<Spanned<PathBuf>>,
}
