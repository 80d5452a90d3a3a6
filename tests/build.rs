//! Refuses to build while an agent in `guest/` or a test program has no tests.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guests = entries(&tests.join("../guest")).filter(|path| is_component(path));
    let programs = entries(&tests.join("programs/examples"));
    let list = tests.join("components.rs");
    println!("cargo::rerun-if-changed={}", list.display());
    println!("cargo::rerun-if-changed=build.rs");

    let listed = fs::read_to_string(&list).unwrap_or_default();
    for path in guests.chain(programs) {
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        let module = tests.join(name).join("mod.rs");
        println!("cargo::rerun-if-changed={}", module.display());
        let source = fs::read_to_string(&module).unwrap_or_default();
        if !source.contains("#[test]") {
            println!("cargo::error={} has no test: write tests/{name}/mod.rs", path.display());
        } else if !listed.contains(&format!("\"{name}/mod.rs\"")) {
            println!("cargo::error=tests/{name}/mod.rs is not listed in tests/components.rs");
        }
    }
}

/// `sdk` is the library that the agents in `guest/` share.
fn is_component(path: &Path) -> bool {
    path.join("Cargo.toml").is_file() && !path.ends_with("sdk")
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    println!("cargo::rerun-if-changed={}", dir.display());
    let entries = fs::read_dir(dir);
    if let Err(error) = &entries {
        println!("cargo::error=read {}: {error}", dir.display());
    }
    entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
}
