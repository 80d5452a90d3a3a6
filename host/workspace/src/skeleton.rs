//! The files of an empty repository, which the host writes itself: no git runs before its configuration is there.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::credential::HELPER;
use crate::git::Author;
use crate::name::Oid;

/// Refs by name, and what they point to.
pub(crate) type Refs = Vec<(String, Oid)>;

/// Quotes a value of git's configuration.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The configuration of a mirror.
pub(crate) struct MirrorConfig<'a> {
    pub url: &'a str,
    /// What credentials are bound to.
    pub origin: &'a str,
    pub partial: bool,
}

impl MirrorConfig<'_> {
    pub fn text(&self) -> String {
        let mut text = String::from(MIRROR);
        let _ = writeln!(text, "[credential {}]\n\thelper = \"{HELPER}\"", quoted(self.origin));
        let _ = writeln!(text, "[remote \"origin\"]\n\turl = {}{FETCH}", quoted(self.url));
        if self.partial {
            text.push_str(PARTIAL);
        }
        text
    }
}

/// Whether a mirror leaves out contents of files, by its configuration.
pub(crate) fn is_partial(config: &str) -> bool {
    config.ends_with(PARTIAL)
}

/// Objects are checked as they come, apart from oddities that old and well-known repositories contain. Nothing is ever
/// pruned: repositories of agents use the objects.
const MIRROR: &str = "[core]
	repositoryFormatVersion = 1
	bare = true
	logAllRefUpdates = false
	packedRefsTimeout = 10000
	filesRefLockTimeout = 10000
[gc]
	auto = 0
	pruneExpire = never
[maintenance]
	auto = false
[transfer]
	fsckObjects = true
[fetch]
	unpackLimit = 1
[fetch \"fsck\"]
	zeroPaddedFilemode = ignore
	badTimezone = ignore
	missingSpaceBeforeDate = ignore
[http]
	followRedirects = initial
	lowSpeedLimit = 100
	lowSpeedTime = 60
[pack]
	threads = 2
	windowMemory = 64m
[credential]
	helper =
";

const FETCH: &str = "
	fetch = +refs/heads/*:refs/heads/*
	fetch = +refs/tags/*:refs/tags/*
	tagOpt = --no-tags";

const PARTIAL: &str = "\tpromisor = true
	partialCloneFilter = blob:none
[extensions]
	partialClone = origin
";

/// Writes an empty bare repository.
pub(crate) fn write_mirror(folder: &Path, config: &MirrorConfig<'_>) -> io::Result<()> {
    for below in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(folder.join(below))?;
    }
    fs::write(folder.join("HEAD"), "ref: refs/heads/none\n")?;
    fs::write(folder.join("config"), config.text())
}

/// A repository of an agent.
pub(crate) struct Repository<'a> {
    pub branch: &'a str,
    pub author: &'a Author,
    /// None for a workspace without a rig.
    pub remote: Option<Remote<'a>>,
}

/// What a repository has of its rig.
pub(crate) struct Remote<'a> {
    pub url: &'a str,
    pub default_branch: &'a str,
    /// The branch of the remote that the agent's branch follows.
    pub upstream: &'a str,
    /// Where the repository sees the mirror's objects.
    pub objects: &'a Path,
    pub refs: &'a Refs,
    /// Where the branch starts.
    pub start: &'a Oid,
    pub partial: bool,
}

impl Repository<'_> {
    /// Writes the git directory of a new workspace.
    pub fn write(&self, workspace: &Path) -> io::Result<()> {
        let git = workspace.join(".git");
        for below in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"] {
            fs::create_dir_all(git.join(below))?;
        }
        fs::write(git.join("HEAD"), format!("ref: refs/heads/{}\n", self.branch))?;
        fs::write(git.join("config"), self.config())?;
        let Some(remote) = &self.remote else { return Ok(()) };
        let objects = format!("{}\n", remote.objects.display());
        fs::write(git.join("objects/info/alternates"), objects)?;
        fs::create_dir_all(git.join("refs/remotes/origin"))?;
        let head = format!("ref: refs/remotes/origin/{}\n", remote.default_branch);
        fs::write(git.join("refs/remotes/origin/HEAD"), head)?;
        fs::write(git.join("packed-refs"), remote.packed_refs(self.branch))
    }

    fn config(&self) -> String {
        let Author { name, email } = self.author;
        let mut text = format!(
            "[core]\n\trepositoryFormatVersion = {}\n\tbare = false\n\tlogAllRefUpdates = true\n\
             [user]\n\tname = {}\n\temail = {}\n[gc]\n\tauto = 0\n",
            u8::from(self.remote.as_ref().is_some_and(|remote| remote.partial)),
            quoted(name),
            quoted(email)
        );
        if let Some(remote) = &self.remote {
            let _ = write!(
                text,
                "[branch {}]\n\tremote = origin\n\tmerge = {}\n[remote \"origin\"]\n\turl = {}\n\
                 \tfetch = +refs/heads/*:refs/remotes/origin/*\n",
                quoted(self.branch),
                quoted(&format!("refs/heads/{}", remote.upstream)),
                quoted(remote.url)
            );
            if remote.partial {
                text.push_str(PARTIAL);
            }
        }
        text
    }
}

impl Remote<'_> {
    /// All refs in one file. Branches of the remote sort behind the agent's own one, tags behind both.
    fn packed_refs(&self, branch: &str) -> String {
        let mut text = String::from("# pack-refs with: sorted \n");
        let _ = writeln!(text, "{} refs/heads/{branch}", self.start);
        for (name, oid) in self.refs {
            let _ = match name.strip_prefix("refs/heads/") {
                Some(branch) => writeln!(text, "{oid} refs/remotes/origin/{branch}"),
                None => writeln!(text, "{oid} {name}"),
            };
        }
        text
    }
}
