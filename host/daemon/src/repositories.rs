//! Repositories of agents: what makes them, and the credentials of their servers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use bulkhead_tools::{Layers, Tools};
use bulkhead_types::Secret;
use bulkhead_workspace::{Credential, Credentials, Protocols, Sandboxed, Workspaces};

use crate::config::{RigSettings, Settings};

/// Where mirrors and records are, in the state directory.
const DIRECTORY: &str = "git";

/// What git reads of the host's environment: how a remote is reached.
const VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// What makes repositories, if some role works on them. An error is one of this machine.
pub fn open(
    settings: &Settings,
    tools: &Tools,
    layers: &Layers,
) -> Result<Option<Workspaces>, String> {
    if settings.catalog.roles.values().all(|role| role.git.is_none()) {
        return Ok(None);
    }
    let run = Sandboxed::new(tools.clone(), layers).map_err(|error| error.to_string())?;
    let over_http = |rig: &RigSettings| rig.url.url.starts_with("http://");
    let environment =
        VARIABLES.iter().filter_map(|name| Some((OsString::from(*name), std::env::var_os(name)?)));
    let partial = settings.rigs.iter().filter(|(_, rig)| rig.partial);
    let of_git = bulkhead_workspace::Settings {
        // Over HTTP goes what the configuration itself says so of. Requests name HTTPS alone.
        protocols: Protocols { http: settings.rigs.values().any(over_http), file: false },
        partial: partial.map(|(name, _)| name.to_string()).collect(),
        environment: environment.collect(),
        ..bulkhead_workspace::Settings::default()
    };
    let credentials = Arc::new(OfConfiguration(settings.rigs.clone()));
    let directory = settings.state_dir.join(DIRECTORY);
    Workspaces::new(&directory, Arc::new(run), credentials, of_git)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Tokens of `[rigs.NAME]`, each for its own URL.
struct OfConfiguration(BTreeMap<Arc<str>, RigSettings>);

impl OfConfiguration {
    fn find(&self, rig: &str, url: &str, fresh: bool) -> Option<Credential> {
        let rig = self.0.get(rig).filter(|rig| rig.url.url == url)?;
        let now = || rig.token.current().ok().flatten();
        let password: Secret = match fresh {
            true => rig.token.other_than(now().as_ref())?,
            false => now()?,
        };
        Some(Credential { username: rig.username.clone(), password })
    }
}

impl Credentials for OfConfiguration {
    fn get<'a>(
        &'a self,
        rig: &'a str,
        url: &'a str,
        fresh: bool,
    ) -> bulkhead_workspace::BoxFuture<'a, Option<Credential>> {
        Box::pin(async move { self.find(rig, url, fresh) })
    }
}
