//! Commits that come out of a workspace into the mirror.
//!
//! An agent can write anything into its repository, so what comes out of it is checked as a server checks a push: git
//! indexes the pack in a quarantine directory, checks each object, and checks that the commit is whole. Only then the
//! pack joins the mirror.

use std::fs;
use std::io;
use std::path::Path;

use crate::disk;
use crate::error::Error;
use crate::git::Call;
use crate::mirror::{Active, Mirror};
use crate::name::Oid;

/// Where refs of an agent are.
pub(crate) fn agent_namespace(namespace: &str, agent: &str) -> String {
    format!("refs/{namespace}/{agent}")
}

/// The ref below a namespace of an agent that stands for a branch. One segment, so that a branch `a` does not
/// get in the way of a later branch `a/b`.
pub(crate) fn agent_ref(namespace: &str, agent: &str, branch: &str) -> String {
    let branch = branch.replace('%', "%25").replace('/', "%2F");
    format!("{}/{branch}", agent_namespace(namespace, agent))
}

impl Mirror {
    /// Takes a pack that makes a commit whole, and points a ref to the commit.
    pub async fn import(&self, pack: Vec<u8>, commit: &Oid, name: &str) -> Result<(), Error> {
        self.check_size(pack.len() as u64).await?;
        let active = self.begin().await?;
        let quarantine = format!("incoming-{:016x}", fastrand::u64(..));
        let path = self.path().join(&quarantine);
        let mut ended = self.until_ended();
        let checked = self.check(&active, pack, commit, &quarantine).await;
        let admitted = match checked {
            Ok(()) => disk::holding(&active, &path, admit).await,
            Err(error) => Err(error),
        };
        disk::holding(&active, &path, disk::remove).await?;
        ended.in_order = true;
        drop((ended, active));
        admitted?;
        self.update_ref(name, commit).await
    }

    async fn check(
        &self,
        active: &Active,
        pack: Vec<u8>,
        commit: &Oid,
        quarantine: &str,
    ) -> Result<(), Error> {
        let packs = self.path().join(quarantine).join("pack");
        disk::holding(active, &packs, |path| fs::create_dir_all(path)).await?;
        let call = |name| {
            Call::mirror(&self.git, &self.path(), name)
                .env("GIT_OBJECT_DIRECTORY", quarantine)
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", "objects")
        };
        let index = call("index-pack").args(["--stdin", "--fix-thin", "--fsck-objects"]);
        self.call_within(active, index.stdin(pack)).await?;
        let promised: &[&str] =
            if self.is_partial().await? { &["--exclude-promisor-objects"] } else { &[] };
        let walk = call("rev-list").args(["--objects", "--quiet"]).args(promised);
        let walk = walk.arg(commit.as_str()).args(["--not", "--all"]);
        self.call_within(active, walk).await?;
        Ok(())
    }

    /// Points a ref to a commit.
    pub async fn update_ref(&self, name: &str, commit: &Oid) -> Result<(), Error> {
        let call = Call::mirror(&self.git, &self.path(), "update-ref");
        self.call(call.args([name, commit.as_str()])).await?;
        Ok(())
    }
}

/// Moves packs out of quarantine. Git finds a pack by its index, so that comes last.
fn admit(quarantine: &Path) -> io::Result<()> {
    let target = quarantine.with_file_name("objects").join("pack");
    let mut files = Vec::new();
    for entry in fs::read_dir(quarantine.join("pack"))? {
        files.push(entry?.path());
    }
    files.sort_by_key(|file| file.extension().is_some_and(|extension| extension == "idx"));
    for file in files {
        fs::rename(&file, target.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}
