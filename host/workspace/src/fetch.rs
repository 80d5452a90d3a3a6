//! Bringing a mirror up to date.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::git::Call;
use crate::mirror::{Fetched, Mirror};
use crate::name::Oid;
use crate::progress::{OnProgress, watch};
use crate::rig::Rig;
use crate::skeleton::Refs;

/// Objects that one call of git asks for by their ids, which are its arguments.
const MAX_ASKED: usize = 10_000;

impl Mirror {
    /// Fetches all branches and tags, and returns them. A fetch that began after this call serves it too, whether that
    /// succeeded or not, so many callers at a time need two fetches.
    pub async fn fetch(&self, rig: &Rig, progress: &OnProgress) -> Result<Arc<Refs>, Error> {
        let asked = Instant::now();
        let turn = timeout(self.git.settings.lock_wait, self.fetched.lock()).await;
        let mut fetched = turn.map_err(|_| Error::Locked(format!("rig {}", rig.name)))?;
        if let Some(last) = fetched.as_ref().filter(|last| last.began >= asked) {
            return last.outcome.clone();
        }
        let began = Instant::now();
        let outcome = self.fetch_now(rig, progress).await;
        *fetched = Some(Fetched { began, outcome: outcome.clone() });
        outcome
    }

    async fn fetch_now(&self, rig: &Rig, progress: &OnProgress) -> Result<Arc<Refs>, Error> {
        self.open(rig).await?;
        let path = self.path();
        let call = || {
            Call::remote(&self.git, &path, "fetch")
                .args(["--progress", "--prune", "--no-tags", "--no-write-fetch-head"])
                .args(["--no-show-forced-updates", "origin"])
                .watch(watch(Arc::clone(progress)))
        };
        self.bounded(self.call_remote(rig, call)).await?;
        Ok(Arc::new(self.refs(&["refs/heads", "refs/tags"]).await?))
    }

    /// Fetches the contents of files of commits, where a partial mirror lacks them.
    pub async fn complete(&self, rig: &Rig, commits: &[&Oid]) -> Result<(), Error> {
        if !self.is_partial().await? {
            return Ok(());
        }
        let missing = self.missing(commits).await?;
        let path = self.path();
        for asked in missing.chunks(MAX_ASKED) {
            let call = || {
                Call::remote(&self.git, &path, "fetch")
                    .env("GIT_CONFIG_COUNT", "1")
                    .env("GIT_CONFIG_KEY_0", "fetch.negotiationAlgorithm")
                    .env("GIT_CONFIG_VALUE_0", "noop")
                    .args(["--no-tags", "--no-write-fetch-head", "--filter=blob:none", "--refmap="])
                    .arg("origin")
                    .args(asked.iter().map(Oid::as_str))
            };
            self.bounded(self.call_remote(rig, call)).await?;
        }
        Ok(())
    }

    async fn missing(&self, commits: &[&Oid]) -> Result<Vec<Oid>, Error> {
        let call = Call::mirror(&self.git, &self.path(), "rev-list")
            .args(["--objects", "--no-object-names", "--missing=print", "--no-walk"])
            .args(commits.iter().map(|commit| commit.as_str()));
        let output = self.call(call).await?;
        let missing = output.text().lines().filter_map(|line| line.strip_prefix('?'));
        Ok(missing.filter_map(|oid| Oid::parse(oid.as_bytes())).collect())
    }
}
