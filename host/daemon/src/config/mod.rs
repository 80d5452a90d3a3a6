//! The configuration: a TOML file, then the environment, then the command line.
//!
//! - `file`: the file's shape. Unknown keys and wrong types are refused with line and column
//! - `code`: components, and source code with its runners
//! - `components`: those of files and of registries, and how registries are asked
//! - `compiler`: how components are compiled
//! - `keys`: the table of all keys with their variables, from which `env`, `--help` and `docs/configuration.md` come
//! - `env`: variables that override the file
//! - `evidence`: where evidence goes that outlives the disk
//! - `lease`: which copy of the town runs
//! - `ship`: where its state is shipped
//! - `s3`: keys of a bucket, which several tables have
//! - `models`: endpoints of language models
//! - `budgets`: what agents may use of them
//! - `rigs`: repositories that agents work on
//! - `http_secrets`: credentials for HTTP services
//! - `secrets`: files that hold one, and what one may be
//! - `tools`: native programs that agents run
//! - `under_test`: what is different where agents are tested
//! - `settings`: what the program works with, and the checks that need more than one key
//! - `words`: what the parser says, for people

mod budgets;
mod code;
mod compiler;
mod components;
mod env;
mod evidence;
mod file;
mod http_secrets;
mod keys;
mod lease;
mod memory;
mod models;
mod nats;
mod problem;
mod rigs;
mod roles;
mod s3;
mod secrets;
mod settings;
mod ship;
mod tools;
mod town;
mod under_test;
mod words;

use std::path::Path;

use bulkhead_client::{Configured, TomlError, parse_toml, plain, read_text};
use bulkhead_net::Connector;
use bulkhead_types::error::chain;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::failure::Failure;
pub use code::missing_runners;
pub use components::{ComponentSettings, Wanted};
pub use evidence::EvidenceSettings;
pub use file::OnFenced;
pub use keys::help as environment_help;
pub use lease::LeaseSettings;
use lease::VARIABLE as REGISTER;
pub use memory::MemorySettings;
pub use models::ModelEndpoint;
use problem::Problem;
pub use rigs::RigSettings;
pub use settings::{Opened, Settings};
pub use tools::ToolSettings;

/// Largest configuration.
const MAX_BYTES: u64 = 16 << 20;

/// Whether the configuration asks for a lease. It is read for that alone, and only if it can be read again: what is wrong with
/// it is said by the process that reads it whole.
pub fn has_lease(path: &Path) -> bool {
    if std::env::var_os(REGISTER).is_some_and(|register| !register.is_empty()) {
        return true;
    }
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    let text = is_file.then(|| read_text(path, MAX_BYTES).ok()).flatten();
    let file = text.and_then(|text| text.parse::<toml::Table>().ok());
    file.is_some_and(|file| file.get("lease").and_then(|lease| lease.get("register")).is_some())
}

/// Reads and checks the configuration in `path`.
pub fn load(path: &Path) -> Result<Settings, Failure> {
    read(path, |_| {})
}

/// The same for tests of its agents: with this model in place of all others, and no way to anything else.
pub fn load_for_test(path: &Path, model_url: &str) -> Result<Settings, Failure> {
    let settings = read(path, |file| under_test::isolate(file, model_url))?;
    Ok(Settings { telemetry: None, ..settings })
}

/// `change` has the last word, before anything is looked for that the file names.
fn read(path: &Path, change: impl FnOnce(&mut file::File)) -> Result<Settings, Failure> {
    let shown = path.display();
    let text = read_text(path, MAX_BYTES).map_err(|error| {
        Failure::bad_input(format!(
            "cannot read the configuration {shown}: {error}; name one with --config FILE"
        ))
    })?;
    let mut file: file::File = parse(&text)
        .map_err(|problem| Failure::bad_input(problem.show(&shown.to_string(), &text)))?;
    let lookup = |name: &str| std::env::var_os(name);
    env::apply(&mut file, lookup).map_err(Failure::bad_input)?;
    change(&mut file);
    let outside = env::outside(lookup).map_err(Failure::bad_input)?;
    let mut settings = secrets::settle(&mut file, base(path), lookup)
        .and_then(|()| settings::check(file, base(path), &outside))
        .map_err(|problem| Failure::bad_input(problem.show(&shown.to_string(), &text)))?;
    let telemetry = bulkhead_telemetry::Settings::from_env(lookup);
    settings.telemetry = telemetry.map_err(|error| Failure::bad_input(chain(&error)))?;
    Ok(settings)
}

/// Reads what a configuration says about the control server, for the commands that ask one. The rest is not
/// looked at: it may be half edited while a host runs.
pub fn control(path: &Path) -> Result<Configured, String> {
    let shown = path.display();
    let text = read_text(path, MAX_BYTES)
        .map_err(|error| format!("cannot read the configuration {shown}: {error}"))?;
    let file: file::ServerAlone =
        parse(&text).map_err(|problem| problem.show(&shown.to_string(), &text))?;
    let base = base(path);
    let token = match (file.server.token, file.server.token_file) {
        (None, Some(path)) => Some(bulkhead_client::read_secret(&base.join(path.get_ref()))?),
        (token, _) => token.map(Spanned::into_inner),
    };
    Ok(Configured { listen: file.server.listen.0, token, state_dir: base.join(file.state.dir) })
}

/// The register of leases that is named, or that of the configuration, and the way there. The rest of the file is not looked
/// at.
pub fn register(
    path: Option<&Path>,
    named: Option<&str>,
) -> Result<(bulkhead_lease::Address, Connector), Failure> {
    let default = Path::new("bulkhead.toml");
    let path = path.or_else(|| default.exists().then_some(default));
    let text = match path {
        None => String::new(),
        Some(path) => read_text(path, MAX_BYTES).map_err(|error| {
            let shown = path.display();
            Failure::bad_input(format!("cannot read the configuration {shown}: {error}"))
        })?,
    };
    let path = path.unwrap_or(default);
    let shown = path.display().to_string();
    let wrong = |problem: Problem| Failure::bad_input(problem.show(&shown, &text));
    let mut file: file::LeaseAlone = parse(&text).map_err(wrong)?;
    if let Some(named) = named {
        file.lease.move_to(named.to_owned());
    }
    if file.lease.register.is_none() {
        let message = "there is no register; name one with --register or BULKHEAD_LEASE_REGISTER, or a configuration that has \
                       one in [lease] with --config";
        return Err(Failure::bad_input(message.to_owned()));
    }
    let lookup = |name: &str| std::env::var_os(name);
    // clap does not say which of the two it was.
    let by_option = named.filter(|named| lookup(REGISTER).is_none_or(|of| of != *named)).is_some();
    let named_by = |problem: Problem| match by_option && problem.key == REGISTER {
        true => Problem { key: "--register".to_owned(), ..problem },
        false => problem,
    };
    let outside = env::outside(lookup).map_err(Failure::bad_input)?;
    let lease = secrets::settle_lease(&mut file.lease, base(path), &lookup)
        // Of all towns: the name of one does not matter.
        .and_then(|()| lease::check_lease(file.lease, Some("any"), base(path), &outside))
        .map_err(|problem| wrong(named_by(problem)))?;
    let settings = lease.map(|lease| lease.settings);
    settings
        .map(|settings| (settings.register, settings.connector))
        .ok_or_else(|| Failure::bad_input("there is no register".to_owned()))
}

/// What paths in the file are relative to.
pub fn base(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Parses the file. What the parser would show of its source is left out: a secret may stand there.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    parse_toml(text).map_err(|TomlError { span, key, message }| {
        let words = words::replaced(&key, &message);
        let message = words.map_or_else(|| plain(&message), ToOwned::to_owned);
        Problem::at(span, key, message)
    })
}

#[cfg(test)]
mod tests;
