//! Endpoints of language models: `[models.NAME]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_llm::{Allowed, Bounds, Dialect, Endpoint, Model, Models, Pattern};
use bulkhead_net::{BaseUrl, Connector, Credential, UrlError};
use bulkhead_types::Secret;
use http::{HeaderName, HeaderValue, header};
use toml::Spanned;

use super::file::{self, ModelName, set_ms};
use super::problem::{Problem, trust, within};
use super::secrets;

/// Most retries of a call.
const MAX_RETRIES: u32 = 10;

/// Most bytes of a model's name.
const MAX_MODEL_BYTES: usize = 256;

/// The model of an endpoint that says nothing.
const DEFAULT_MODEL: &str = "default";

/// Headers that the client sets itself, and those of one connection.
const RESERVED: [HeaderName; 15] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// The header of the key in Anthropic's dialect.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A configured endpoint, for what the host does with it beside calls.
#[derive(Debug)]
pub struct ModelEndpoint {
    pub settings: bulkhead_llm::Settings,
    /// Its key is read from here again and again.
    pub key_file: Option<PathBuf>,
}

/// All endpoints, in the order of their names.
pub(super) fn check_models(
    models: impl IntoIterator<Item = (ModelName, file::Model)>,
    base: &Path,
    outside: &Connector,
) -> Result<(Models, Vec<ModelEndpoint>), Problem> {
    let mut endpoints = Vec::new();
    let mut all = Vec::new();
    for (ModelName(name), model) in models {
        let (model, endpoint) = check_model(&name, model, base, outside)?;
        all.push((name, model));
        endpoints.push(endpoint);
    }
    Ok((all.into_iter().collect(), endpoints))
}

fn check_model(
    name: &Arc<str>,
    model: file::Model,
    base: &Path,
    outside: &Connector,
) -> Result<(Model, ModelEndpoint), Problem> {
    let dialect = match model.dialect {
        file::Dialect::OpenAi => Dialect::OpenAi,
        file::Dialect::Anthropic => Dialect::Anthropic,
    };
    let url = base_url(name, &model.base_url, dialect)?;
    let bounds = bounds(name, &model)?;
    let (default_model, allowed) = names(name, &model)?;
    let headers = headers(name, &model, dialect)?;
    let mut connector = outside.clone();
    if let Some(file) = &model.ca_file {
        let trust = trust(&format!("models.{name}.ca_file"), file, base)?;
        connector.trust = connector.trust.with(url.destination.clone(), trust);
    }
    let settings = bulkhead_llm::Settings {
        name: Arc::clone(name),
        base: url,
        dialect,
        headers,
        connector,
        bounds,
    };
    let key_file = model.api_key_file.map(Spanned::into_inner);
    let key = key(name, model.api_key.map(Spanned::into_inner), key_file.clone());
    let endpoint = Arc::new(Endpoint::new(settings.clone(), key));
    let model = Model { endpoint, default_model, allowed };
    Ok((model, ModelEndpoint { settings, key_file }))
}

/// What a person may take for the base URL, by dialect: the end of the URL of a call, or a part of it.
fn appended(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenAi => &["/chat/completions"],
        Dialect::Anthropic => &["/v1/messages", "/messages", "/v1"],
    }
}

fn base_url(name: &str, given: &Spanned<String>, dialect: Dialect) -> Result<BaseUrl, Problem> {
    let span = given.span();
    let key = match span.is_empty() {
        true => "BULKHEAD_MODEL_BASE_URL".to_owned(),
        false => format!("models.{name}.base_url"),
    };
    let problem = |message: String| Problem::at(span.clone(), key.clone(), message);
    let text = given.get_ref().as_str();
    let url = BaseUrl::parse(text).map_err(|error| {
        // A key may stand in a query.
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        problem(match error {
            UrlError::Credentials => format!("{error}; use api_key"),
            error => format!("{shown:?} cannot be used: {error}"),
        })
    })?;
    if let Some(end) = appended(dialect).iter().find(|end| url.prefix.ends_with(*end)) {
        return Err(problem(format!("ends in {end}, which the host appends; leave it out")));
    }
    Ok(url)
}

fn bounds(name: &str, model: &file::Model) -> Result<Bounds, Problem> {
    let mut bounds = Bounds::default();
    set_ms(&mut bounds.whole, model.timeout_ms);
    set_ms(&mut bounds.first_byte, model.first_byte_ms);
    // Who waits longer for the first byte means to.
    bounds.attempt = bounds.attempt.max(bounds.first_byte);
    set_ms(&mut bounds.attempt, model.attempt_ms);
    set_ms(&mut bounds.idle, model.idle_ms);
    if let Some(ms) = model.max_wait_ms {
        bounds.max_wait = ms.millis();
    }
    if let Some(retries) = &model.retries {
        bounds.retries = within(&format!("models.{name}.retries"), retries, 0..=MAX_RETRIES)?;
    }
    if let Some(kb) = model.max_answer_kb {
        bounds.max_answer_bytes = kb.as_usize().saturating_mul(1024);
    }
    Ok(bounds)
}

/// The model of those who name none, and those that may be named.
fn names(name: &str, model: &file::Model) -> Result<(String, Allowed), Problem> {
    let problem = |key: &str, span, message: String| {
        Problem::at(span, format!("models.{name}.{key}"), message)
    };
    let mut patterns = Vec::with_capacity(model.models.len());
    for (index, text) in model.models.iter().enumerate() {
        let key = format!("models[{index}]");
        let pattern = Pattern::parse(text.get_ref());
        patterns.push(pattern.map_err(|why| problem(&key, text.span(), why.to_string()))?);
    }
    let allowed: Allowed = patterns.into_iter().collect();
    let given = model.model.as_ref();
    let default = given.map_or(DEFAULT_MODEL, |given| given.get_ref().as_str());
    let span = given.or(model.models.first()).map_or(0..0, Spanned::span);
    let wrong = |message: String| match span.is_empty() {
        true => Problem::at(span.clone(), "BULKHEAD_MODEL_NAME".into(), message),
        false => problem("model", span.clone(), message),
    };
    if default.is_empty() || default.len() > MAX_MODEL_BYTES || default.contains(char::is_control) {
        let rule =
            format!("a name of a model has 1 to {MAX_MODEL_BYTES} bytes, and no control character");
        return Err(wrong(rule));
    }
    if !allowed.admits(default) {
        let message = match given {
            Some(_) => format!("{default:?} is not among models; add it there, or name another"),
            None => format!("is {default:?} without being set, which is not among models; set it"),
        };
        return Err(wrong(message));
    }
    Ok((default.to_owned(), allowed))
}

fn headers(
    name: &str,
    model: &file::Model,
    dialect: Dialect,
) -> Result<Vec<(HeaderName, HeaderValue)>, Problem> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(model.headers.len());
    for (key, value) in &model.headers {
        let problem = |message: &str| {
            Problem::at(value.span(), format!("models.{name}.headers.{key}"), message.to_owned())
        };
        let header = HeaderName::from_bytes(key.as_bytes())
            .map_err(|_| problem("is no name of a header, which has letters, digits and -"))?;
        if RESERVED.contains(&header) || dialect == Dialect::Anthropic && header == X_API_KEY {
            let is_key = header == header::AUTHORIZATION || header == X_API_KEY;
            let instead = if is_key { "; set api_key, api_key_file or api_key_env" } else { "" };
            return Err(problem(&format!("the host sets this header itself{instead}")));
        }
        if headers.iter().any(|(other, _)| *other == header) {
            return Err(problem("is set twice: upper and lower case make no difference"));
        }
        secrets::fits_a_header(value.get_ref()).map_err(problem)?;
        let mut text = HeaderValue::from_str(value.get_ref().expose())
            .map_err(|_| problem("contains a character that no header can carry"))?;
        text.set_sensitive(true);
        headers.push((header, text));
    }
    Ok(headers)
}

/// One that stands in a file is read again when a call begins.
fn key(name: &str, key: Option<Secret>, file: Option<PathBuf>) -> Credential {
    match (key, file) {
        (_, Some(path)) => {
            let read = move || secrets::read_file(&path).map(Some);
            Credential::read(format!("models.{name}.api_key_file"), Arc::new(read))
        }
        (Some(key), None) => Credential::fixed(key),
        (None, None) => Credential::default(),
    }
}
