//! Why a component cannot be loaded.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_types::Digest;

use crate::compile::{CompileError, Stopped};

/// Why a component cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("component {name}: cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The component of a registry is not fetched, or not signed as it should be.
    #[error("component {name}: {reason}")]
    NotThere {
        /// The component.
        name: Arc<str>,
        /// Why.
        reason: String,
    },
    /// The file has other bytes than the reference names.
    #[error("component {name}: {} is not what its reference names: it has sha256:{got}", path.display())]
    WrongDigest {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// The digest of what is there.
        got: Digest,
    },
    /// The file is larger than allowed.
    #[error("component {name}: {} has {bytes} bytes, at most {max_bytes} are allowed", path.display())]
    TooLarge {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// The file is no component.
    #[error("component {name}: {} is no component: {reason}", path.display())]
    Invalid {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What it is instead, or the engine's words.
        reason: String,
    },
    /// The component is of another world.
    #[error("component {name}: {} is of another world: {reason}", path.display())]
    WrongWorld {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The component needs what this engine does not have.
    #[error("component {name}: {} needs what this host does not have: {features}", path.display())]
    Unsupported {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// Features of WebAssembly or of the component model.
        features: String,
    },
    /// The component needs more than an agent has here.
    #[error("component {name}: {} does not fit into this host: {reason}", path.display())]
    DoesNotFit {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What it needs, and what there is.
        reason: String,
    },
    /// There is more code in it than is compiled.
    #[error("component {name}: {} is too complex to compile: it has {reason}", path.display())]
    TooComplex {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// The number, its bound and the setting of that.
        reason: String,
    },
    /// The compiler needed more memory for it than it may take.
    #[error(
        "component {name}: compiling {} takes more than limits.compile_memory_mb, which is {}",
        path.display(), bytes / (1024 * 1024)
    )]
    CompileMemory {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What it may take, in bytes.
        bytes: u64,
    },
    /// The compiler needed more CPU time for it than it may take.
    #[error(
        "component {name}: compiling {} takes more CPU time than limits.compile_cpu_ms, which is {}",
        path.display(), seconds * 1000
    )]
    CompileTime {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// What it may take, in seconds.
        seconds: u64,
    },
    /// The compiler died of it.
    #[error("component {name}: the compiler crashed at {}: {how}", path.display())]
    CompilerCrashed {
        /// The component.
        name: Arc<str>,
        /// Its file.
        path: PathBuf,
        /// The signal or the exit code, and the compiler's last words.
        how: String,
    },
    /// Somebody outside this host killed the compiler. The kernel takes it first when the container has no memory.
    #[error(
        "component {name}: the compiler was killed from outside; the kernel does so when the container has no memory"
    )]
    CompilerKilled {
        /// The component.
        name: Arc<str>,
    },
    /// The source code of a runner's agent cannot be used.
    #[error("source code: {0}")]
    Source(String),
    /// The system gives no process to compile it in.
    #[error("component {name}: the system gives no process to compile it in: {reason}")]
    NoProcess {
        /// The component.
        name: Arc<str>,
        /// The program, and the system's words.
        reason: String,
    },
    /// It was not compiled, because the container goes away.
    #[error("component {name} was not compiled: the container is draining")]
    Draining {
        /// The component.
        name: Arc<str>,
    },
    /// It was not compiled, because memory is short.
    #[error("component {name} was not compiled: memory is short")]
    MemoryShort {
        /// The component.
        name: Arc<str>,
    },
    /// The job that loaded it failed: a fault of the host.
    #[error("component {name}: loading failed: {reason}")]
    Host {
        /// The component.
        name: Arc<str>,
        /// What happened.
        reason: String,
    },
}

impl LoadError {
    /// Whether it stays so until the file changes. Anything else may have been the machine's fault.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::WrongDigest { .. }
            | Self::WrongWorld { .. }
            | Self::TooLarge { .. }
            | Self::TooComplex { .. }
            | Self::CompileMemory { .. }
            | Self::CompileTime { .. }
            | Self::CompilerCrashed { .. } => true,
            Self::Unreadable { .. }
            | Self::NotThere { .. }
            | Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::DoesNotFit { .. }
            | Self::CompilerKilled { .. }
            | Self::NoProcess { .. }
            | Self::Source(_)
            | Self::Draining { .. }
            | Self::MemoryShort { .. }
            | Self::Host { .. } => false,
        }
    }

    pub(crate) fn unreadable(name: &Arc<str>, path: &Path, error: &io::Error) -> Self {
        let (name, path) = (Arc::clone(name), path.to_owned());
        Self::Unreadable { name, path, reason: error.to_string() }
    }

    pub(crate) fn host(name: &Arc<str>, reason: impl Into<String>) -> Self {
        Self::Host { name: Arc::clone(name), reason: reason.into() }
    }

    /// What a compile that was ended by this host is to the callers that wait.
    pub(crate) fn stopped(name: &Arc<str>, why: Stopped) -> Self {
        let name = Arc::clone(name);
        match why {
            Stopped::Draining => Self::Draining { name },
            Stopped::MemoryShort => Self::MemoryShort { name },
            // Nobody sees it.
            Stopped::Unwanted => Self::host(&name, "no start waited for it"),
        }
    }

    pub(crate) fn compile(name: &Arc<str>, path: &Path, error: CompileError) -> Self {
        let (name, path) = (Arc::clone(name), path.to_owned());
        match error {
            CompileError::Refused(reason) => Self::Invalid { name, path, reason },
            CompileError::Unsupported(features) => Self::Unsupported { name, path, features },
            CompileError::Memory(room) => {
                Self::CompileMemory { name, path, bytes: room.memory_bytes }
            }
            CompileError::Time(room) => Self::CompileTime { name, path, seconds: room.cpu_seconds },
            CompileError::Crashed(how) => Self::CompilerCrashed { name, path, how },
            CompileError::Killed => Self::CompilerKilled { name },
            CompileError::NoProcess(reason) => Self::NoProcess { name, reason },
            CompileError::Stopped(why) => Self::stopped(&name, why),
            CompileError::Host(reason) => Self::Host { name, reason },
        }
    }
}
