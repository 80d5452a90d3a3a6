//! The configuration: a TOML file, then the environment, then the command line.
//!
//! - [`file`]: the file's shape. Unknown keys and wrong types are refused with line and column
//! - [`env`]: variables that win over the file
//! - [`settings`]: what the program works with, and the checks that need more than one key

mod env;
mod file;
mod settings;

use std::path::Path;

use crate::failure::Failure;
pub use settings::Settings;

/// Reads and checks the configuration in `path`.
pub fn load(path: &Path) -> Result<Settings, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::bad_input(format!(
            "cannot read the configuration {shown}: {error}; name one with --config FILE"
        ))
    })?;
    let mut file: file::File = toml::from_str(&text).map_err(|error| {
        Failure::bad_input(format!("the configuration {shown} is wrong\n{error}"))
    })?;
    env::apply(&mut file, |name| std::env::var_os(name)).map_err(Failure::bad_input)?;
    let base = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    settings::check(file, base.unwrap_or(Path::new(".")))
        .map_err(|problem| Failure::bad_input(problem.show(&shown.to_string(), &text)))
}

#[cfg(test)]
mod tests;
