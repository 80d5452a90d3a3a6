//! Components that are compiled once for all tests: directories for `state.aot_seed`. Without them most of what a short test
//! takes is the compiler, which is not optimized here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use toml::Table;

use crate::files;

/// What a seed is made of: components by their names.
pub type Components = BTreeMap<String, PathBuf>;

/// The seed with the agents in `guest/` and the test programs.
pub fn guests() -> &'static Path {
    static SEED: OnceLock<PathBuf> = OnceLock::new();
    SEED.get_or_init(|| seed("guests", &files::components()))
}

/// The seed of this name, made again when the host or a component is another than before. Tests that come while one of them
/// makes it wait.
pub fn seed(name: &str, components: &Components) -> PathBuf {
    let root = files::target_dir().join("test-seeds");
    fs::create_dir_all(&root).expect("make a directory for seeds");
    let (seed, stamp) = (root.join(name), root.join(format!("{name}.stamp")));
    let lock = File::create(root.join(format!("{name}.lock"))).expect("make the lock");
    lock.lock().expect("lock it");
    let current = stamp_of(components);
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == current) {
        return seed;
    }
    match fs::remove_dir_all(&seed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("remove a seed: {error}"),
        _ => {}
    }
    compile(components, &seed);
    fs::write(stamp, current).expect("write the stamp");
    seed
}

/// Differs when a file does.
fn stamp_of(components: &Components) -> String {
    let line = |path: &Path| {
        let file = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let modified = file.modified().expect("a time").duration_since(UNIX_EPOCH).expect("a time");
        format!("{} {} {}\n", path.display(), file.len(), modified.as_nanos())
    };
    std::iter::once(files::binary())
        .chain(components.values().cloned())
        .map(|it| line(&it))
        .collect()
}

fn compile(components: &Components, seed: &Path) {
    let dir = tempfile::tempdir().expect("make a directory");
    let config = dir.path().join("bulkhead.toml");
    fs::write(&config, configuration(components)).expect("write it");
    let mut compile = Command::new(files::binary());
    compile.args(["compile", "--config"]).arg(config).arg("--out").arg(seed);
    let output = compile.output().expect("run bulkhead compile");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "compile a seed: {said}");
}

fn configuration(components: &Components) -> String {
    let component = |(name, path): (&String, &PathBuf)| {
        let path = path.to_str().expect("a path in UTF-8");
        (name.clone(), Table::from_iter([("path".to_owned(), path.into())]).into())
    };
    let components: Table = components.iter().map(component).collect();
    Table::from_iter([("components".to_owned(), components.into())]).to_string()
}
