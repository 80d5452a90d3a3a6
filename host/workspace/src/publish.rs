//! Pushing from the mirror to the remote.

use crate::error::Error;
use crate::git::Call;
use crate::import::agent_ref;
use crate::mirror::Mirror;
use crate::name::Oid;
use crate::output::Output;
use crate::rig::Rig;
use crate::verdict;

/// Characters of the remote's reason that an error keeps.
const MAX_REASON: usize = 500;

impl Mirror {
    /// Pushes a commit to a branch of the remote.
    ///
    /// Commits of others are never lost: a push that is no fast-forward replaces the branch only while the remote still
    /// has what this agent itself pushed last, as after a rebase.
    pub async fn push(
        &self,
        rig: &Rig,
        agent: &str,
        branch: &str,
        commit: &Oid,
    ) -> Result<(), Error> {
        let pushed = agent_ref("pushed", agent, branch);
        match (self.push_once(rig, branch, commit, None).await, self.commit_of(&pushed).await?) {
            (Err(Error::Rejected { .. }), Some(own)) => {
                self.push_once(rig, branch, commit, Some(&own)).await?;
            }
            (outcome, _) => outcome?,
        }
        self.update_ref(&pushed, commit).await
    }

    /// Pushes; `replace`: also over this commit.
    pub async fn push_once(
        &self,
        rig: &Rig,
        branch: &str,
        commit: &Oid,
        replace: Option<&Oid>,
    ) -> Result<(), Error> {
        let path = self.path();
        let lease = replace.map(|own| format!("--force-with-lease=refs/heads/{branch}:{own}"));
        let call = || {
            Call::remote(&self.git, &path, "push")
                .args(["--porcelain", "--no-verify"])
                .args(lease.as_deref())
                .arg("origin")
                .arg(format!("{commit}:refs/heads/{branch}"))
                .accept(&[0, 1])
        };
        let output = self.call_remote(rig, call).await?;
        if output.status != 0 {
            return Err(rejection(branch, &output));
        }
        Ok(())
    }
}

/// `!\t<from>:<to>\t[rejected] (fetch first)`
fn rejection(branch: &str, output: &Output) -> Error {
    let refused = output.text().lines().filter(|line| line.starts_with('!'));
    let mut reasons = refused.filter_map(|line| line.rsplit('\t').next());
    match reasons.find(|why| why.starts_with("[rejected]") || why.starts_with("[remote rejected]"))
    {
        Some(why) => {
            let why = why.chars().take(MAX_REASON).collect();
            Error::Rejected { branch: branch.to_owned(), why }
        }
        None => verdict::of_status("push", output),
    }
}
