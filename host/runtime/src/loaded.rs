//! A component that is ready to be instantiated.

use std::path::Path;
use std::sync::Arc;

use bulkhead_types::Digest;

use crate::load_error::LoadError;
use crate::world::World;

/// A component that is ready to be instantiated.
pub struct Loaded {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// SHA-256 of its file.
    pub digest: Digest,
    /// The file. It may have been replaced since.
    pub path: Arc<Path>,
    /// Linear memory that its largest memory has at context, in bytes.
    pub initial_memory_bytes: u64,
    /// What the engine keeps of an instance of it, in bytes, estimated.
    pub record_bytes: u64,
    pub(crate) world: World,
}

/// Where a loaded component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The engine compiled it now.
    Compiled,
    /// It was taken from the AOT cache.
    Cache,
    /// It was compiled when the container was built.
    Seed,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Cache => "cache",
            Self::Seed => "seed",
        }
    }
}

impl Loaded {
    /// Whether it is a stock program, which runs from its start to its end and has no turns.
    pub fn is_program(&self) -> bool {
        matches!(self.world, World::Command(_))
    }
}

pub(crate) type Outcome = Result<Arc<Loaded>, LoadError>;
