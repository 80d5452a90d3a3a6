//! The configuration: a TOML file, then the environment, then the command line.
//!
//! - `file`: the file's shape. Unknown keys and wrong types are refused with line and column
//! - `env`: variables that win over the file
//! - `settings`: what the program works with, and the checks that need more than one key

mod env;
mod file;
mod settings;

use std::path::Path;

use bulkhead_client::Configured;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use settings::Problem;
pub use settings::{MemorySettings, Settings};

/// Reads and checks the configuration in `path`.
pub fn load(path: &Path) -> Result<Settings, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::bad_input(format!(
            "cannot read the configuration {shown}: {error}; name one with --config FILE"
        ))
    })?;
    let mut file: file::File = parse(&text)
        .map_err(|problem| Failure::bad_input(problem.show(&shown.to_string(), &text)))?;
    env::apply(&mut file, |name| std::env::var_os(name)).map_err(Failure::bad_input)?;
    let base = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let settings = settings::check(file, base.unwrap_or(Path::new(".")))
        .map_err(|problem| Failure::bad_input(problem.show(&shown.to_string(), &text)))?;
    settings.control.check().map_err(|error| Failure::bad_input(error.to_string()))?;
    if let Some(town) = &settings.town {
        town.check().map_err(|error| Failure::bad_input(error.to_string()))?;
    }
    Ok(settings)
}

/// Reads what a configuration says about the control server, for the commands that ask one. The rest is not
/// looked at: it may be half edited while a host runs.
pub fn control(path: &Path) -> Result<Configured, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the configuration {shown}: {error}"))?;
    let file: file::ServerAlone =
        parse(&text).map_err(|problem| problem.show(&shown.to_string(), &text))?;
    Ok(Configured { listen: file.server.listen.0, token: file.server.token })
}

/// Parses the file. What the parser would show of its source is left out: a secret may stand there.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        Problem::at(span, String::new(), without_text_values(error.message()))
    })
}

/// The parser's words without a text that it found in the wrong place.
fn without_text_values(message: &str) -> String {
    match (message.split_once("invalid type: string \""), message.rsplit_once(", expected ")) {
        (Some(_), Some((_, expected))) => format!("expected {expected}, found a text"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
