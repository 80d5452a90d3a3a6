//! The town: `[town]`.

use std::error::Error as _;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bulkhead_net::{BaseUrl, Connector, UrlError};
use bulkhead_town::TownConfig;
use toml::Spanned;

use super::file::{self, set_ms};
use super::problem::{Problem, trust};

/// Between two heartbeats, as the original has it.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// One call of the town.
const CALL: Duration = Duration::from_secs(10);

/// The calls about one agent.
const GIVE_UP: Duration = Duration::from_secs(600);

/// The town's API. Without its URL the container runs by itself.
pub(super) fn check_town(
    town: file::Town,
    base: &Path,
    outside: &Connector,
) -> Result<Option<TownConfig>, Problem> {
    // What the file of the token held is its token by now.
    let file::Town {
        id,
        api_url,
        token,
        token_file: _,
        ca_file,
        heartbeat_ms,
        call_ms,
        give_up_ms,
        on_fenced: _,
    } = town;
    let key = |span: &Range<usize>, key: &str, variable: &str| match span.is_empty() {
        true => variable.to_owned(),
        false => format!("town.{key}"),
    };
    let Some(api_url) = api_url else {
        let without = "is set without a town; set town.api_url (GASTOWN_API_URL)";
        if let Some(token) = token {
            let key = key(&token.span(), "token", "GASTOWN_CONTAINER_TOKEN");
            return Err(Problem { key, message: without.into(), span: token.span() });
        }
        if let Some(file) = ca_file {
            let key = "town.ca_file".to_owned();
            return Err(Problem { key, message: without.into(), span: file.span() });
        }
        return Ok(None);
    };
    let span = api_url.span();
    let token_span = token.as_ref().map_or(0..0, Spanned::span);
    let token_key = key(&token_span, "token", "GASTOWN_CONTAINER_TOKEN");
    let key = key(&span, "api_url", "GASTOWN_API_URL");
    let problem = |message: String| Problem { key: key.clone(), message, span: span.clone() };
    let api = BaseUrl::parse(api_url.get_ref()).map_err(|error| {
        problem(match error {
            UrlError::Credentials => format!("{error}; use town.token"),
            error => error.to_string(),
        })
    })?;
    let Some(town_id) = id.filter(|id| !id.is_empty()) else {
        return Err(problem("needs the town's id; set town.id (GASTOWN_TOWN_ID)".into()));
    };
    let Some(token) = token else {
        return Err(problem(
            "needs a token; set GASTOWN_CONTAINER_TOKEN, town.token or town.token_file".into(),
        ));
    };
    let mut connector = outside.clone();
    if let Some(file) = ca_file {
        connector.trust = trust("town.ca_file", &file, base)?;
    }
    let mut config = TownConfig {
        town_id,
        api,
        token: token.into_inner(),
        connector,
        heartbeat: HEARTBEAT,
        call: CALL,
        give_up: GIVE_UP,
    };
    set_ms(&mut config.heartbeat, heartbeat_ms);
    set_ms(&mut config.call, call_ms);
    set_ms(&mut config.give_up, give_up_ms);
    config.check().map_err(|error| {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Problem::at(token_span, token_key, why)
    })?;
    Ok(Some(config))
}
