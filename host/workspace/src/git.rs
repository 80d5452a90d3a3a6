//! One call of git: its fixed configuration and environment, its limits, its result.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::credential::SHELL;
use crate::error::Error;
use crate::output::Output;
use crate::run::{Command, End, Finished, Limits, Run, Sandbox, Watch};
use crate::settings::Settings;
use crate::verdict;

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Author {
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
}

/// Configuration that wins over every file.
const FIXED: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.quotePath=false",
    "core.precomposeUnicode=false",
    "safe.directory=*",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=no",
    "push.recurseSubmodules=no",
    "diff.ignoreSubmodules=dirty",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "credential.interactive=false",
    "advice.detachedHead=false",
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_ADVICE", "0"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "true"),
    ("GIT_SSH_COMMAND", "false"),
];

/// A call of git that is put together.
pub(crate) struct Call {
    command: Command,
    name: &'static str,
    accepted: &'static [i32],
    may_be_cut: bool,
    takes_locks: bool,
}

impl Call {
    /// In a repository that an agent controls.
    pub fn tree(git: &Git, sandbox: Sandbox, name: &'static str) -> Self {
        let mut call = Self::new(sandbox, name, git.settings.tree());
        // Nothing in a workspace is to talk to anybody; `none` is no protocol.
        let environment =
            [("GIT_DIR", ".git"), ("GIT_WORK_TREE", "."), ("GIT_ALLOW_PROTOCOL", "none")];
        environment.into_iter().for_each(|(name, value)| call.set(name, value));
        call
    }

    /// In the mirror, without network.
    pub fn mirror(git: &Git, mirror: &Path, name: &'static str) -> Self {
        Self::in_mirror(mirror, false, name, git.settings.mirror())
            .env("GIT_ALLOW_PROTOCOL", "none")
    }

    /// In the mirror, with network.
    pub fn remote(git: &Git, mirror: &Path, name: &'static str) -> Self {
        let mut call = Self::in_mirror(mirror, true, name, git.settings.network());
        call.command.env.extend(git.settings.environment.iter().cloned());
        call.env("GIT_ALLOW_PROTOCOL", git.settings.protocols.allowed())
    }

    fn in_mirror(mirror: &Path, network: bool, name: &'static str, limits: Limits) -> Self {
        let sandbox = Sandbox::Mirror { mirror: mirror.to_owned(), network };
        Self::new(sandbox, name, limits).env("GIT_DIR", ".")
    }

    fn new(sandbox: Sandbox, name: &'static str, limits: Limits) -> Self {
        let mut args: Vec<OsString> = Vec::with_capacity(2 * FIXED.len() + 16);
        for setting in FIXED {
            args.extend([OsString::from("-c"), OsString::from(setting)]);
        }
        args.push(name.into());
        let env = ENVIRONMENT.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let command =
            Command { sandbox, program: "git", args, env, stdin: Vec::new(), limits, watch: None };
        Self { command, name, accepted: &[0], may_be_cut: false, takes_locks: true }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.command.env.retain(|(known, _)| known != name);
        self.command.env.push((name.into(), value.into()));
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    /// Who commits.
    pub fn by(self, author: &Author) -> Self {
        self.env("GIT_AUTHOR_NAME", &author.name)
            .env("GIT_AUTHOR_EMAIL", &author.email)
            .env("GIT_COMMITTER_NAME", &author.name)
            .env("GIT_COMMITTER_EMAIL", &author.email)
    }

    /// Leaves the index alone, and so needs no lock.
    pub fn reads(mut self) -> Self {
        self.takes_locks = false;
        self.env("GIT_OPTIONAL_LOCKS", "0")
    }

    /// Whether git may leave a lock behind if it is killed.
    pub fn takes_locks(&self) -> bool {
        self.takes_locks
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.command.stdin = bytes.into();
        self
    }

    pub fn watch(mut self, watch: Watch) -> Self {
        self.command.watch = Some(watch);
        self
    }

    /// Takes so much output, and says so if there is more.
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.command.limits.output_bytes = bytes;
        self.may_be_cut = true;
        self
    }

    /// Takes so much output; more is an error.
    pub fn up_to(mut self, bytes: usize) -> Self {
        self.command.limits.output_bytes = bytes;
        self
    }

    /// Statuses that are an answer.
    pub fn accept(mut self, statuses: &'static [i32]) -> Self {
        self.accepted = statuses;
        self
    }

    /// Hands a credential over; the call reads no other stdin.
    pub fn credential(mut self, lines: Vec<u8>) -> Self {
        let git = std::mem::replace(&mut self.command.program, "sh");
        let shell = ["-c", SHELL, git].map(OsString::from);
        self.command.args.splice(0..0, shell);
        self.stdin(lines)
    }
}

/// Git, with what it may use.
pub(crate) struct Git {
    pub run: Arc<dyn Run>,
    pub settings: Settings,
}

impl Git {
    /// Makes a call. A status that is not accepted is an error.
    pub async fn call(&self, call: Call) -> Result<Output, Error> {
        let Call { command, name, accepted, may_be_cut, .. } = call;
        let limit_bytes = command.limits.output_bytes as u64;
        let of_disk = command.sandbox.limit();
        let finished = self.run.run(command).await;
        let finished = finished.map_err(|error| Error::Sandbox(error.to_string()))?;
        let cut = finished.cut || finished.end == End::Output;
        match finished.end {
            // At the limit git dies of a pipe that nobody reads any more.
            _ if cut && may_be_cut => Ok(output(0, finished, true)),
            _ if cut => Err(Error::TooLarge { what: name, limit_bytes }),
            End::Disk => Err(of_disk.map_or_else(|| verdict::of(name, &finished), Error::Full)),
            End::Exited(status) if accepted.contains(&status) => {
                Ok(output(status, finished, false))
            }
            _ => Err(verdict::of(name, &finished)),
        }
    }

    /// Where programs of an agent's sandbox see the objects of a mirror.
    pub fn objects(&self, mirror: &Path) -> PathBuf {
        self.run.objects(&mirror.join("objects"))
    }
}

fn output(status: i32, finished: Finished, cut: bool) -> Output {
    Output { status, stdout: finished.stdout, stderr: finished.stderr, cut }
}
