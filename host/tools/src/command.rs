//! What is run, in which sandbox, under which limits.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of all arguments and variables together.
const ARGUMENT_BYTES: usize = 1024 * 1024;
const BINDS: usize = 64;
const PATH_BYTES: usize = 4095;

/// A program to run.
#[derive(Clone, Serialize, Deserialize)]
pub struct Command {
    /// Absolute, as the sandbox has it.
    #[serde(with = "path")]
    pub program: PathBuf,
    /// Without the program's name.
    pub args: Vec<OsString>,
    /// Where it starts: absolute, as the sandbox has it.
    #[serde(with = "path")]
    pub dir: PathBuf,
    /// All variables that it has: it inherits none.
    pub env: Vec<(OsString, OsString)>,
    /// What it can reach.
    pub sandbox: Sandbox,
    /// What it may use.
    pub limits: Limits,
}

/// What a tool can reach beside the system's programs and libraries, which it can read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sandbox {
    /// At most 64. A later one may lie inside an earlier one, in the place of a file or directory that is there.
    pub binds: Vec<Bind>,
    /// Which network it has.
    pub network: Network,
}

/// A file or directory of the host, inside the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute. What is mounted below it is not part of it, unless user namespaces make the sandbox.
    #[serde(with = "path")]
    pub host: PathBuf,
    /// Absolute, and neither `/` nor in a directory of the system. Where there are no mount namespaces, it lies at
    /// `host` instead: see [`Layers::mount_namespace`](crate::Layers).
    #[serde(with = "path")]
    pub inside: PathBuf,
    /// Otherwise it is read-only.
    pub writable: bool,
    /// What may lie in it, if it is writable. Above it the tool ends with [`End::DiskLimit`](crate::End). `None` is no
    /// limit.
    pub limit: Option<DiskLimit>,
}

/// What a tree of files may take: what lies in it before a tool starts, and what the tool adds.
///
/// It is checked after 250 ms and then every second, or every ten times as long as it takes to count, by two counts in
/// a row: a tool may be above it until then. A file counts as its size in blocks of 4 KiB, holes included, a directory
/// as one block, a symbolic link as its text, a further hard link as an entry. A file that was deleted and is still open
/// does not count, and its space is free again when the tool ended. A tree with more than 256 directories one inside
/// another is above any limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLimit {
    /// Of all files and directories. No single file can be larger, wherever it lies.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// File systems give space by blocks. 4 KiB is what most of them have.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Which network a tool has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A loopback interface of its own.
    #[default]
    None,
    /// The host's, with all that the host reaches, itself among it.
    Open,
}

/// What a tool and all processes that it starts may use together, unless [`Layers`](crate::Layers) say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// With files in its `/tmp` and page cache. At least 1 MiB.
    pub memory_bytes: u64,
    /// From its start to its end.
    pub wall: Duration,
    /// Time of processors.
    pub cpu: Duration,
    /// Processes and threads, two of the launcher among them. At least 3.
    pub pids: u32,
    /// Of stdout and stderr together.
    pub output_bytes: u64,
    /// Of its `/tmp`.
    pub tmp_bytes: u64,
    /// Of one file. It gets SIGXFSZ above it.
    pub file_bytes: u64,
}

impl Default for Limits {
    /// 512 MiB of memory, 128 processes, ten minutes, ten of them on a processor, 1 MiB of output, 64 MiB in `/tmp`,
    /// files of 1 GiB.
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            wall: Duration::from_secs(600),
            cpu: Duration::from_secs(600),
            pids: 128,
            output_bytes: 1 << 20,
            tmp_bytes: 64 << 20,
            file_bytes: 1 << 30,
        }
    }
}

impl Command {
    /// With nothing but the program's name, in `/`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            dir: "/".into(),
            env: Vec::new(),
            sandbox: Sandbox::default(),
            limits: Limits::default(),
        }
    }

    /// What one file may have: no more than any limit of disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        let limits = self.sandbox.binds.iter().filter_map(|bind| bind.limit);
        limits.map(|limit| limit.bytes).fold(self.limits.file_bytes, u64::min)
    }

    /// What of it cannot be.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_path("program", &self.program)?;
        check_path("dir", &self.dir)?;
        self.check_arguments()?;
        self.check_binds()?;
        self.limits.check()
    }

    fn check_arguments(&self) -> Result<(), String> {
        let variables = self.env.iter().flat_map(|(name, value)| [name, value]);
        let all = self.args.iter().chain(variables);
        let bytes: usize = all.clone().map(|text| text.len() + 1).sum();
        if bytes > ARGUMENT_BYTES {
            return Err(format!(
                "arguments and variables have {bytes} bytes; at most {ARGUMENT_BYTES} can be"
            ));
        }
        if all.clone().any(|text| text.as_bytes().contains(&0)) {
            return Err("an argument or variable contains a NUL byte".to_owned());
        }
        let is_bad = |name: &OsString| name.is_empty() || name.as_bytes().contains(&b'=');
        match self.env.iter().find(|(name, _)| is_bad(name)) {
            Some((name, _)) => Err(format!("not the name of a variable: {}", name.display())),
            None => Ok(()),
        }
    }

    fn check_binds(&self) -> Result<(), String> {
        let binds = &self.sandbox.binds;
        if binds.len() > BINDS {
            return Err(format!("{} binds; at most {BINDS} can be", binds.len()));
        }
        for bind in binds {
            check_path("host path of a bind", &bind.host)?;
            check_path("inside path of a bind", &bind.inside)?;
            if bind.inside.parent().is_none() {
                return Err("a bind cannot be at /".to_owned());
            }
            if bind.limit.is_some() && !bind.writable {
                return Err(format!("a read-only bind has a limit: {}", bind.inside.display()));
            }
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), String> {
        match self {
            Self { memory_bytes: ..0x10_0000, .. } => Err("memory_bytes is below 1 MiB".to_owned()),
            Self { pids: ..3, .. } => Err("pids is below 3".to_owned()),
            Self { tmp_bytes: 0, .. } => Err("tmp_bytes is 0, which would be no limit".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Names, but no values: these may be secrets.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("dir", &self.dir)
            .field("env", &names)
            .field("sandbox", &self.sandbox)
            .field("limits", &self.limits)
            .finish()
    }
}

fn check_path(what: &str, path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = path.components().all(|part| part != Component::ParentDir);
    if !path.is_absolute() || !is_plain || bytes.contains(&0) || bytes.len() > PATH_BYTES {
        return Err(format!("{what} is not an absolute path without ..: {}", path.display()));
    }
    Ok(())
}

/// Paths in JSON that need not be UTF-8.
pub(crate) mod path {
    use std::ffi::{OsStr, OsString};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let text: &OsStr = path.as_os_str();
        text.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(deserializer).map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl Fn(&mut Command)) -> Result<(), String> {
        let mut command = Command::new("/bin/true");
        change(&mut command);
        command.check()
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        let bind = |inside: &str| Bind {
            host: "/".into(),
            inside: inside.into(),
            writable: false,
            limit: None,
        };
        let limit = Some(DiskLimit { bytes: 1, entries: 1 });
        assert_eq!(with(|_| ()), Ok(()));
        assert!(with(|it| it.program = "true".into()).is_err());
        assert!(with(|it| it.dir = "/a/../b".into()).is_err());
        assert!(with(|it| it.args = vec!["x".repeat(1 << 20).into()]).is_err());
        assert!(with(|it| it.args = vec!["a\0b".into()]).is_err());
        assert!(with(|it| it.env = vec![("A=B".into(), "".into())]).is_err());
        assert!(with(|it| it.sandbox.binds = vec![bind("/")]).is_err());
        assert!(with(|it| it.sandbox.binds = vec![bind("/x"); BINDS + 1]).is_err());
        assert!(with(|it| it.sandbox.binds = vec![Bind { limit, ..bind("/x") }]).is_err());
        assert!(with(|it| it.limits.pids = 2).is_err());
        assert!(with(|it| it.limits.memory_bytes = 4096).is_err());
    }

    #[test]
    fn no_file_is_larger_than_a_limit_of_disk() {
        let mut command = Command::new("/bin/true");
        assert_eq!(command.file_bytes(), 1 << 30);
        let limit = Some(DiskLimit { bytes: 4096, entries: 1 });
        let (host, inside) = ("/a".into(), "/a".into());
        command.sandbox.binds = vec![Bind { host, inside, writable: true, limit }];
        assert_eq!(command.file_bytes(), 4096);
        command.limits.file_bytes = 1;
        assert_eq!(command.file_bytes(), 1);
    }

    #[test]
    fn a_command_survives_its_way_and_hides_its_values() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'/', 0xff]);
        let mut command = Command::new(&odd);
        command.env = vec![("KEY".into(), "secret".into())];
        assert!(!format!("{command:?}").contains("secret"));
        let text = serde_json::to_string(&command).unwrap();
        let read: Command = serde_json::from_str(&text).unwrap();
        assert_eq!((read.program, read.env), (odd.into(), command.env));
    }
}
