//! `[tools]`, `[workspaces]` and `[rigs.NAME]`: what agents run natively, and where they work.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bulkhead_tools::Layer;
use bulkhead_types::Secret;
use serde::Deserialize;
use toml::Spanned;

use super::Mebibytes;

/// `[tools]`: native programs that agents run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tools {
    pub path: Option<Vec<Spanned<PathBuf>>>,
    pub read: Vec<Spanned<PathBuf>>,
    pub env: BTreeMap<String, String>,
    pub require: Vec<Layer>,
}

/// `[workspaces]`: how long those of agents stay that do not run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workspaces {
    pub keep_hours: Option<u32>,
    pub keep_pushed_hours: Option<u32>,
    pub max_mb: Option<Mebibytes>,
    pub remove_unpushed: bool,
}

/// `[rigs.NAME]`: a repository that agents work on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rig {
    pub url: Spanned<String>,
    pub default_branch: Option<String>,
    #[serde(default)]
    pub partial: bool,
    pub username: Option<String>,
    pub token: Option<Spanned<Secret>>,
    pub token_file: Option<Spanned<PathBuf>>,
}
