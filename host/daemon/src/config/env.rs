//! Variables that override the file: those of the table in `keys`.

use std::ffi::OsString;

use bulkhead_net::{Connector, Proxies, Trust};
use bulkhead_types::error::chain;

use super::file::File;
use super::keys::{Read, SECTIONS, Variable};
use super::secrets;

/// Applies the variables that `lookup` knows. An error names the variable, and never its value when
/// that may be a secret.
pub fn apply(file: &mut File, lookup: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
    let keys = SECTIONS.iter().flat_map(|section| section.keys);
    for variable in keys.filter_map(|key| key.variable.as_ref()) {
        apply_one(file, variable, &lookup)?;
    }
    Ok(())
}

fn apply_one(
    file: &mut File,
    variable: &Variable,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<(), String> {
    let name = variable.name;
    let named = |error: String| format!("{name}: {error}");
    if let Read::Secret { credential, set } = variable.read {
        return match secrets::of_environment(lookup, name, credential)? {
            Some(found) => set(file, found).map_err(named),
            None => Ok(()),
        };
    }
    let Some(value) = lookup(name) else { return Ok(()) };
    if value.is_empty() {
        return Err(format!("{name} is set and empty; unset it or give it a value"));
    }
    match variable.read {
        Read::Text(set) => match value.into_string() {
            Ok(text) => set(file, text).map_err(named),
            Err(_) => Err(format!("{name} is not valid UTF-8")),
        },
        Read::Path(set) => {
            set(file, value.into());
            Ok(())
        }
        Read::Secret { .. } => Ok(()),
    }
}

/// Proxies and certificates, for everything that the host reaches. An error names the variable.
pub fn outside(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Connector, String> {
    let proxies = Proxies::from_env(&lookup).map_err(|error| error.to_string())?;
    let trust =
        Trust::from_env(&lookup).map_err(|(name, error)| format!("{name}: {}", chain(&error)))?;
    Ok(Connector { proxies, trust })
}
