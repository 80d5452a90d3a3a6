//! Repositories that agents work on: `[rigs.NAME]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_net::Credential;
use bulkhead_supervisor::RigUrl;
use bulkhead_workspace::check_rig;
use toml::Spanned;

use super::file;
use super::problem::Problem;
use super::secrets;

/// A repository of the configuration.
#[derive(Debug, Clone)]
pub struct RigSettings {
    /// Where it is.
    pub url: RigUrl,
    /// Its mirror has the contents of files when they are needed.
    pub partial: bool,
    /// The user that its server wants beside the token.
    pub username: String,
    /// What its server wants, if it wants something.
    pub token: Credential,
}

/// By name.
pub type Rigs = BTreeMap<Arc<str>, RigSettings>;

/// Checks them. Also the files that are read again and again.
pub(super) fn check_rigs(
    rigs: BTreeMap<String, file::Rig>,
    base: &Path,
) -> Result<(Rigs, Vec<PathBuf>), Problem> {
    let mut files = Vec::new();
    let mut checked = BTreeMap::new();
    for (name, rig) in rigs {
        let problem = |key: &str, span, message: String| {
            Problem::at(span, format!("rigs.{name}.{key}"), message)
        };
        let (url, span) = (rig.url.get_ref().clone(), rig.url.span());
        let default_branch = rig.default_branch.unwrap_or_else(|| "main".to_owned());
        check_rig(&name, &url, &default_branch).map_err(|error| match error {
            // The name of the rig is in the key of everything about it.
            bulkhead_workspace::Error::Invalid { what: "branch", .. } => {
                problem("default_branch", 0..0, error.to_string())
            }
            error => problem("url", span, error.to_string()),
        })?;
        let token = match (rig.token, rig.token_file) {
            (Some(token), Some(_)) => {
                let message = "token and token_file are both set; remove one".to_owned();
                return Err(problem("token", token.span(), message));
            }
            (Some(token), None) => Credential::fixed(token.into_inner()),
            (None, Some(file)) => {
                let path = base.join(file.get_ref());
                files.push(path.clone());
                token_in(&name, path)
                    .map_err(|message| problem("token_file", Spanned::span(&file), message))?
            }
            (None, None) => Credential::default(),
        };
        let username = rig.username.unwrap_or_else(|| "git".to_owned());
        let url = RigUrl { url, default_branch };
        checked.insert(name.into(), RigSettings { url, partial: rig.partial, username, token });
    }
    Ok((checked, files))
}

fn token_in(rig: &str, path: PathBuf) -> Result<Credential, String> {
    let read = move || secrets::read_file(&path).map(Some);
    let credential = Credential::read(format!("rigs.{rig}.token_file"), Arc::new(read));
    credential.current().map(|_| credential)
}
