//! Pushing from the mirror to the remote.

use crate::error::Error;
use crate::git::Call;
use crate::import::agent_ref;
use crate::mirror::Mirror;
use crate::name::Oid;
use crate::output::Output;
use crate::rig::Rig;
use crate::skeleton::Refs;
use crate::verdict;

/// Characters of the remote's reason that an error keeps, with what it says itself.
const MAX_REASON: usize = 1000;

/// Commits of one branch of which nobody knows whether they reached the remote, at most. Those with the oldest dates make
/// room.
const MAX_IN_DOUBT: usize = 4;

impl Mirror {
    /// Pushes a commit to a branch of the remote.
    ///
    /// Commits of others are never lost: a push that is no fast-forward replaces the branch only while the remote still
    /// has what this agent itself pushed last, as after a rebase. That is noted before: a push whose end nobody saw may
    /// have reached the remote.
    pub async fn push(
        &self,
        rig: &Rig,
        agent: &str,
        branch: &str,
        commit: &Oid,
    ) -> Result<(), Error> {
        let (own, remote) = self.known_refs(agent, branch).await?;
        let doubts = agent_ref("pushing", agent, branch);
        let note = format!("{doubts}/{commit}");
        let names = own.iter().map(|(name, _)| name.as_str());
        let mut in_doubt: Vec<_> = names.filter(|name| name.starts_with(&doubts)).collect();
        let is_noted = own.iter().any(|(_, own)| own == commit);
        // What the remote has already may be of somebody else.
        let is_new = !is_noted && remote.as_ref() != Some(commit);
        if is_new {
            let surplus = in_doubt.split_off(in_doubt.len().min(MAX_IN_DOUBT - 1));
            self.update_refs(Some((&note, commit)), &surplus).await?;
            in_doubt.push(&note);
        }
        match self.push_over(rig, branch, commit, &own).await {
            Ok(()) => {
                let pushed = agent_ref("pushed", agent, branch);
                self.update_refs(Some((&pushed, commit)), &in_doubt).await
            }
            Err(error) => {
                // One note too many is in nobody's way.
                if is_new && !may_have_arrived(&error) {
                    let _ = self.update_refs(None, &[&note]).await;
                }
                Err(error)
            }
        }
    }

    /// What the remote may have of a branch that this agent itself pushed, by the date of the commit, the newest first.
    pub async fn own_refs(&self, agent: &str, branch: &str) -> Result<Refs, Error> {
        Ok(self.known_refs(agent, branch).await?.0)
    }

    /// The same, and what was fetched of the branch.
    async fn known_refs(&self, agent: &str, branch: &str) -> Result<(Refs, Option<Oid>), Error> {
        let [pushed, pushing] = ["pushed", "pushing"].map(|space| agent_ref(space, agent, branch));
        let fetched = format!("refs/heads/{branch}");
        let all = self.refs(&["--sort=-committerdate", &pushed, &pushing, &fetched]).await?;
        let (others, own): (Refs, Refs) =
            all.into_iter().partition(|(name, _)| name.starts_with("refs/heads/"));
        let remote = others.into_iter().find(|(name, _)| *name == fetched);
        Ok((own, remote.map(|(_, commit)| commit)))
    }

    /// Pushes, also over each of the agent's own commits.
    async fn push_over(
        &self,
        rig: &Rig,
        branch: &str,
        commit: &Oid,
        own: &Refs,
    ) -> Result<(), Error> {
        let plain = self.push_once(rig, branch, commit, None).await;
        for (_, own) in own.iter().filter(|(_, own)| own != commit) {
            if !has_another(&plain) {
                break;
            }
            let over = self.push_once(rig, branch, commit, Some(own)).await;
            if !has_another(&over) {
                return over;
            }
        }
        plain
    }

    /// Points one ref to a commit and deletes others: all of it or nothing.
    async fn update_refs(&self, one: Option<(&str, &Oid)>, gone: &[&str]) -> Result<(), Error> {
        let update = one.map(|(name, commit)| format!("update {name} {commit}\n"));
        let deletions = gone.iter().map(|name| format!("delete {name}\n"));
        let orders: String = update.into_iter().chain(deletions).collect();
        let call = Call::mirror(&self.git, &self.path(), "update-ref").arg("--stdin");
        self.call(call.stdin(orders)).await?;
        Ok(())
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

/// Whether the remote has a commit that the push does not replace. What its hooks refuse is another matter.
fn has_another(outcome: &Result<(), Error>) -> bool {
    matches!(outcome, Err(Error::Rejected { why, .. }) if why.starts_with("[rejected]"))
}

/// Whether the remote may have taken a push that ended with this.
fn may_have_arrived(error: &Error) -> bool {
    use Error::{NotFound, Rejected, Sandbox, Unauthorized};
    !matches!(error, Rejected { .. } | NotFound(_) | Sandbox(_) | Unauthorized(_))
}

/// `!\t<from>:<to>\t[rejected] (fetch first)`
fn rejection(branch: &str, output: &Output) -> Error {
    let refused = output.text().lines().filter(|line| line.starts_with('!'));
    let mut reasons = refused.filter_map(|line| line.rsplit('\t').next());
    match reasons.find(|why| why.starts_with("[rejected]") || why.starts_with("[remote rejected]"))
    {
        Some(why) => {
            let said = std::iter::once(why.to_owned()).chain(remote_lines(&output.stderr));
            let why = said.collect::<Vec<_>>().join("; ").chars().take(MAX_REASON).collect();
            Error::Rejected { branch: branch.to_owned(), why }
        }
        None => verdict::of_status("push", output).with_remote(),
    }
}

/// What the remote says itself, as a hook of it, without what a terminal obeys.
fn remote_lines(stderr: &[u8]) -> Vec<String> {
    let plain = |char: char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char };
    let text = String::from_utf8_lossy(stderr);
    let said = text.lines().filter_map(|line| line.strip_prefix("remote:"));
    // Git clears the rest of a line by this, at a terminal.
    let said = said.map(|line| line.trim_end_matches("\x1b[K").trim());
    said.filter(|line| !line.is_empty()).map(|line| line.chars().map(plain).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_has_the_words_of_the_server_in_one_bounded_line() {
        let stdout = b"To x\n!\tHEAD:refs/heads/a\t[remote rejected] (pre-receive hook declined)\n";
        let rejected = |stderr: &str| {
            let (stdout, stderr) = (stdout.to_vec(), stderr.as_bytes().to_vec());
            match rejection("a", &Output { status: 1, stdout, stderr, cut: false }) {
                Error::Rejected { why, .. } => why,
                other => panic!("{other}"),
            }
        };
        assert_eq!(
            rejected(
                "remote: policy: no pushes on Monday        \nremote: \nremote: \x1b[2Jx\x1b[K\nerror: y\n"
            ),
            "[remote rejected] (pre-receive hook declined); policy: no pushes on Monday; \u{fffd}[2Jx"
        );
        assert_eq!(rejected(""), "[remote rejected] (pre-receive hook declined)");
        assert_eq!(rejected(&"remote: é\n".repeat(2000)).chars().count(), MAX_REASON);
    }
}
