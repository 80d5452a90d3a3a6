//! What the host knows of a workspace. It is kept outside, where the agent cannot change it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_tools::DiskLimit;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::Error;
use crate::git::Author;
use crate::rig::{Request, Rig};
use crate::shared::Exclusive;

/// One agent's workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub agent: String,
    pub path: PathBuf,
    /// None for a lightweight workspace.
    pub rig: Option<Rig>,
    pub branch: String,
    /// The branch of the remote that this one is compared with and rebased onto.
    pub upstream: String,
    pub author: Author,
    /// What may lie in the workspace. A record of an earlier version does not say it.
    #[serde(default)]
    pub limit: Option<DiskLimit>,
}

impl Record {
    /// The record for a request, of a workspace that follows a branch of the remote.
    pub fn new(rig: &Rig, request: &Request, upstream: &str) -> Self {
        Self {
            agent: request.agent.clone(),
            path: request.path.clone(),
            rig: (!request.lightweight).then(|| rig.clone()),
            branch: request.branch.clone(),
            upstream: upstream.to_owned(),
            author: request.author.clone(),
            limit: Some(request.limit),
        }
    }

    /// Whether this is the workspace that a request wants.
    pub fn serves(&self, rig: &Rig, request: &Request) -> bool {
        let wanted = (!request.lightweight).then_some(rig.name.as_str());
        let rig = self.rig.as_ref().map(|rig| rig.name.as_str());
        rig == wanted && self.branch == request.branch && self.path == request.path
    }

    /// What the workspace holds, for an error.
    pub fn contents(&self) -> String {
        match &self.rig {
            Some(rig) => format!("branch {} of rig {}", self.branch, rig.name),
            None => format!("branch {} without a rig", self.branch),
        }
    }

    fn file(root: &Path, agent: &str) -> PathBuf {
        root.join("agents").join(format!("{agent}.json"))
    }

    /// Reads the record of an agent, if there is one.
    pub async fn read(root: &Path, agent: &str) -> Result<Option<Self>, Error> {
        disk::on(&Self::file(root, agent), |path| match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    pub async fn write(&self, root: &Path, exclusive: &Exclusive) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::from);
        let file = Self::file(root, &self.agent);
        disk::holding(exclusive, &file, |path| disk::replace(path, &bytes?)).await
    }

    pub async fn remove(root: &Path, agent: &str, exclusive: &Exclusive) -> Result<(), Error> {
        disk::holding(exclusive, &Self::file(root, agent), |path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }
}
