//! The runners that `just runners` builds.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::{files, seeds};

/// The component that runs agents of a language. `None`: it is not built.
pub fn component(language: &str) -> Option<PathBuf> {
    let path = files::target_dir().join(format!("runners/{language}.wasm"));
    path.is_file().then_some(path)
}

/// A directory for `state.aot_seed` that has all runners: an unoptimized engine takes a minute for CPython.
pub fn seed() -> &'static Path {
    static SEED: OnceLock<PathBuf> = OnceLock::new();
    SEED.get_or_init(|| {
        let runner = |language| Some((format!("runner-{language}"), component(language)?));
        seeds::seed("runners", &["js", "python"].into_iter().filter_map(runner).collect())
    })
}
