//! The runners that `just runners` builds, compiled once for all tests: an unoptimized engine takes a minute for CPython.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::files;

/// The component that runs agents of a language. `None`: it is not built.
pub fn component(language: &str) -> Option<PathBuf> {
    let path = files::target_dir().join(format!("runners/{language}.wasm"));
    path.is_file().then_some(path)
}

/// A directory for `state.aot_seed` that has all runners.
pub fn seed() -> &'static Path {
    static SEED: OnceLock<PathBuf> = OnceLock::new();
    SEED.get_or_init(|| {
        let runners = files::target_dir().join("runners");
        let seed = runners.join("aot");
        // Other tests wait here while the first compiles.
        let lock = File::create(runners.join("aot.lock")).expect("make the lock");
        lock.lock().expect("lock it");
        let dir = tempfile::tempdir().expect("make a directory");
        let config = dir.path().join("bulkhead.toml");
        fs::write(&config, configuration()).expect("write it");
        let mut compile = Command::new(files::binary());
        compile.args(["compile", "--config"]).arg(config).arg("--out").arg(&seed);
        let output = compile.output().expect("run bulkhead compile");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "compile the runners: {said}");
        seed
    })
}

fn configuration() -> String {
    let table = |language: &str| {
        let path = component(language)?;
        Some(format!("[components.runner-{language}]\npath = {path:?}\n"))
    };
    ["js", "python"].into_iter().filter_map(table).collect()
}
