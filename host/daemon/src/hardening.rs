//! What the process gives up at its boot, so that an intruder has little: defence in depth, behind the
//! engine's sandbox that guests run in.
//!
//! - [`be_private`], first of all: no files for others, no core file, no new privileges; [`hide_memory`]: no reader of
//!   its memory
//! - [`confine`], when it is known where the host works: Landlock says which files it may open and what it may run,
//!   seccomp which system calls it may make
//!
//! All but the hiding is inherited by every process that it starts. An init process keeps to the first, because what it starts has
//! to find everything.

mod calls;
mod files;

use std::path::PathBuf;

use bulkhead_types::event::Confinement;
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::set_no_new_privs;
use serde::Deserialize;

use crate::exit::Exit;
use crate::failure::Failure;

/// `[security]`: what of it is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Which files may be opened.
    pub landlock: Want,
    /// Which system calls may be made.
    pub seccomp: Want,
    /// Core files and debuggers of the same user are let in. The memory holds secrets.
    pub debuggable: bool,
}

/// Whether something is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Where the kernel has it.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always: without it the host does not run.
    Required,
}

/// Where the host works.
#[derive(Debug, Default)]
pub struct AllowedPaths {
    /// Where it writes.
    pub state: PathBuf,
    /// Other directories that it writes to.
    pub others: Vec<PathBuf>,
    /// What it reads beside what every program reads: files, or directories with all that is in them.
    pub read: Vec<PathBuf>,
    /// Single files that it also writes to.
    pub write: Vec<PathBuf>,
}

/// Keeps what this process has and makes from everybody but its user and root: files are made for this user alone, and
/// its memory, which holds secrets, goes into no core file. Nothing that it runs gets more rights than it has.
pub fn be_private() {
    umask(Mode::RWXG | Mode::RWXO);
    let limit = getrlimit(Resource::Core);
    // Neither can fail for a process that asks for less.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit });
    let _ = set_no_new_privs(true);
}

/// Keeps other processes of the same user from reading its memory. What `/proc` says of it belongs to root from then
/// on: what an ordinary user needs of it has to be open before.
pub fn hide_memory() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Takes back what the two above do against debuggers.
pub fn be_debuggable() {
    let limit = getrlimit(Resource::Core);
    let _ = setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit });
    let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
}

/// Confines this thread and those that it starts from now on, so it has to be called before there are any. Says what
/// came of it, and what did not and why. An error when something is missing that is required.
pub fn confine(
    wanted: Security,
    paths: &AllowedPaths,
) -> Result<(Confinement, Vec<String>), Failure> {
    let mut problems = Vec::new();
    let landlock = apply("landlock", wanted.landlock, &mut problems, || files::confine(paths))?;
    let seccomp = apply("seccomp", wanted.seccomp, &mut problems, calls::confine)?;
    let (no_new_privs, debuggable) =
        (rustix::thread::no_new_privs().unwrap_or(false), wanted.debuggable);
    Ok((Confinement { landlock, seccomp, no_new_privs, debuggable }, problems))
}

fn apply(
    what: &str,
    wanted: Want,
    problems: &mut Vec<String>,
    confine: impl FnOnce() -> Result<&'static str, String>,
) -> Result<&'static str, Failure> {
    if wanted == Want::Off {
        return Ok("off");
    }
    match confine() {
        Ok(how) if how == "full" || wanted == Want::Auto => Ok(how),
        Ok(how) => Err(missing(what, &format!("it is {how} here"))),
        Err(problem) if wanted == Want::Required => Err(missing(what, &problem)),
        Err(problem) => {
            problems.push(format!("{what} is not applied: {problem}"));
            Ok("none")
        }
    }
}

fn missing(what: &str, problem: &str) -> Failure {
    let message = format!(
        "security.{what} is \"required\", and is not available: {problem}; use a kernel that supports it, or \"auto\""
    );
    Failure::new(Exit::CannotRun, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_and_missing_is_a_failure_and_otherwise_a_remark() {
        let refuse = || Err("no such kernel".to_owned());
        let mut problems = Vec::new();
        assert_eq!(apply("x", Want::Auto, &mut problems, refuse).unwrap(), "none");
        assert_eq!(problems, ["x is not applied: no such kernel"]);
        assert_eq!(apply("x", Want::Off, &mut problems, refuse).unwrap(), "off");
        let error = apply("x", Want::Required, &mut problems, refuse).unwrap_err().to_string();
        assert!(error.contains("security.x") && error.contains("no such kernel"), "{error}");
        assert!(apply("x", Want::Required, &mut problems, || Ok("partial")).is_err());
        assert_eq!(apply("x", Want::Auto, &mut problems, || Ok("partial")).unwrap(), "partial");
    }
}
