//! Variables that win over the file.

use std::ffi::OsString;

use bulkhead_net::{Connector, Proxies, Trust};
use bulkhead_types::Secret;
use bulkhead_types::error::chain;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, I64Deserializer, StrDeserializer};
use toml::Spanned;

use super::file::{File, HostName, Listen, Model, default_model_name};
use super::{secrets, words};

/// Applies the variables that `lookup` knows. An error names the variable, and never its value when
/// that may be a secret.
pub fn apply(file: &mut File, lookup: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
    let text = |name: &str| match lookup(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) if text.is_empty() => Err(is_empty(name)),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(format!("{name} is no UTF-8")),
    };
    if let Some(listen) = text("BULKHEAD_LISTEN")? {
        file.server.listen =
            Listen::try_from(listen).map_err(|error| format!("BULKHEAD_LISTEN: {error}"))?;
    }
    if let Some(listen) = text("BULKHEAD_PROBE_LISTEN")? {
        let listen = Listen::try_from(listen);
        file.server.probe_listen =
            Some(listen.map_err(|error| format!("BULKHEAD_PROBE_LISTEN: {error}"))?);
    }
    if let Some(dir) = lookup("BULKHEAD_STATE_DIR") {
        if dir.is_empty() {
            return Err(is_empty("BULKHEAD_STATE_DIR"));
        }
        file.state.dir = dir.into();
    }
    let secret = |name, credential| secrets::of_environment(&lookup, name, credential);
    if let Some(token) = secret("BULKHEAD_CONTROL_TOKEN", "bulkhead.control-token")? {
        (file.server.token, file.server.token_file) = (Some(token), None);
    }
    if let Some(names) = text("BULKHEAD_ALLOWED_HOSTS")? {
        let names = names.split(',').map(|name| HostName::try_from(name.trim().to_owned()));
        file.server.allowed_hosts = names
            .collect::<Result<_, _>>()
            .map_err(|error| format!("BULKHEAD_ALLOWED_HOSTS: {error}"))?;
    }
    if let Some(format) = text("BULKHEAD_LOG_FORMAT")? {
        file.log.format = word("BULKHEAD_LOG_FORMAT", &format)?;
    }
    if let Some(level) = text("BULKHEAD_LOG_LEVEL")? {
        file.log.level = word("BULKHEAD_LOG_LEVEL", &level)?;
    }
    if let Some(sigint) = text("BULKHEAD_SIGINT")? {
        file.signals.sigint = word("BULKHEAD_SIGINT", &sigint)?;
    }
    if let Some(ms) = text("BULKHEAD_DRAIN_MS")? {
        file.limits.drain_ms = number("BULKHEAD_DRAIN_MS", &ms)?;
    }
    if let Some(town) = text("GASTOWN_TOWN_ID")? {
        file.town.id = Some(town);
    }
    if let Some(url) = text("GASTOWN_API_URL")? {
        // A token of the file belongs to the town of the file, and must not go elsewhere.
        file.town.api_url = Some(Spanned::new(0..0, url));
        (file.town.token, file.town.token_file) = (None, None);
    }
    if let Some(token) = secret("GASTOWN_CONTAINER_TOKEN", "bulkhead.town-token")? {
        (file.town.token, file.town.token_file) = (Some(Spanned::new(0..0, token)), None);
    }
    let base_url = text("BULKHEAD_MODEL_BASE_URL")?;
    let api_key = secret("BULKHEAD_MODEL_API_KEY", "bulkhead.model-api-key")?;
    let name = text("BULKHEAD_MODEL_NAME")?;
    model(file, base_url, api_key, name)
}

/// Proxies and certificates, for everything that the host reaches. An error names the variable.
pub fn outside(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Connector, String> {
    let proxies = Proxies::from_env(&lookup).map_err(|error| error.to_string())?;
    let trust =
        Trust::from_env(&lookup).map_err(|(name, error)| format!("{name}: {}", chain(&error)))?;
    Ok(Connector { proxies, trust })
}

fn model(
    file: &mut File,
    base_url: Option<String>,
    api_key: Option<Secret>,
    name: Option<String>,
) -> Result<(), String> {
    if let Some(url) = base_url {
        let base_url = Spanned::new(0..0, url);
        // Key and certificates of the file belong to the endpoint of the file, and must not go elsewhere.
        let name = default_model_name();
        file.model =
            Some(Model { base_url, api_key: None, api_key_file: None, ca_file: None, name });
    }
    if api_key.is_none() && name.is_none() {
        return Ok(());
    }
    let Some(model) = &mut file.model else {
        return Err(
            "BULKHEAD_MODEL_API_KEY or BULKHEAD_MODEL_NAME is set without an endpoint; set \
                    BULKHEAD_MODEL_BASE_URL or [model] base_url"
                .into(),
        );
    };
    if api_key.is_some() {
        (model.api_key, model.api_key_file) = (api_key, None);
    }
    if let Some(name) = name {
        model.name = name;
    }
    Ok(())
}

/// Reads one of the words that the file would accept.
fn word<'de, T: Deserialize<'de>>(name: &str, value: &'de str) -> Result<T, String> {
    let deserializer: StrDeserializer<'_, Error> = value.into_deserializer();
    T::deserialize(deserializer).map_err(|error| format!("{name}: {error}"))
}

/// Reads a number that the file would accept.
fn number<'de, T: Deserialize<'de>>(name: &str, value: &str) -> Result<T, String> {
    let number: i64 =
        value.trim().parse().map_err(|_| format!("{name}: {value:?} is no whole number"))?;
    let deserializer: I64Deserializer<Error> = number.into_deserializer();
    T::deserialize(deserializer)
        .map_err(|error| format!("{name}: {}", words::plain(&error.to_string())))
}

fn is_empty(name: &str) -> String {
    format!("{name} is set and empty; unset it or give it a value")
}
