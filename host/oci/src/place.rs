//! Where in the cache a component is.

use std::path::{Path, PathBuf};

use bulkhead_types::Digest;

/// The file of a component in its entry.
pub(crate) const COMPONENT: &str = "component.wasm";

/// The entry of the manifest or index with this digest.
pub(crate) fn entry(dir: &Path, digest: Digest) -> PathBuf {
    dir.join(digest.to_string())
}
