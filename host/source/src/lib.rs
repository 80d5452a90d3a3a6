//! The source code of an agent that is text: a file, or a directory of files, with the one to begin with.
//!
//! It is read at each start that somebody asks for, so an edit counts at the next one. Agents whose code is the same share it: a thousand
//! agents of one role hold it once.

mod language;
mod read;
mod shared;

use std::path::PathBuf;

use bulkhead_types::Digest;

pub use language::Language;
pub use read::{MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, MAX_FILES};
pub use shared::Sources;

/// Where source code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceCode {
    /// A file or a directory.
    pub path: PathBuf,
    /// What it is written in.
    pub language: Language,
}

/// Source code, as it was when it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    entry: String,
    files: Vec<File>,
    digest: Digest,
    has_source_maps: bool,
}

/// One of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the directory, with `/` between its parts.
    pub path: String,
    /// What is in it.
    pub contents: Vec<u8>,
}

/// Why source code cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or a directory cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// It is neither a regular file nor a directory.
    #[error("{} is neither a regular file nor a directory", .0.display())]
    Special(PathBuf),
    /// A name in the directory is no UTF-8.
    #[error("{} has a name that is no UTF-8", .0.display())]
    Name(PathBuf),
    /// A link in the directory leads out of it: what is there is not the agent's.
    #[error("{} is a link that leads out of the directory", .0.display())]
    Outside(PathBuf),
    /// The directory has more in it than is taken.
    #[error("{} has more than {MAX_FILES} files, or more than {MAX_ENTRIES} entries", .0.display())]
    TooMany(PathBuf),
    /// All of it is larger than is taken.
    #[error("{} has more than {} MiB", .0.display(), MAX_BYTES >> 20)]
    TooLarge(PathBuf),
    /// No file in the directory is one to begin with.
    #[error("{} has none of {}", path.display(), names.join(", "))]
    NoEntry {
        /// The directory.
        path: PathBuf,
        /// What was looked for.
        names: Vec<String>,
    },
}

impl Source {
    /// The path of the file to begin with.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// All files, sorted by path.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The contents of the file of a path. `None`: there is none.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at].contents)
    }

    /// SHA-256 over the paths and contents of its files.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether a bundler made it, and left what leads from its code to its sources: in a comment, or in a file beside it.
    pub fn has_source_maps(&self) -> bool {
        self.has_source_maps
    }
}
