//! Refuses to build while a guest has no tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn main() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guests = tests.join("../guest");
    let list = tests.join("components.rs");
    println!("cargo::rerun-if-changed={}", guests.display());
    println!("cargo::rerun-if-changed={}", list.display());
    println!("cargo::rerun-if-changed=build.rs");

    let listed = fs::read_to_string(&list).unwrap_or_default();
    for guest in names(&guests) {
        let module = tests.join(&guest).join("mod.rs");
        println!("cargo::rerun-if-changed={}", module.display());
        let source = fs::read_to_string(&module).unwrap_or_default();
        if !source.contains("#[test]") {
            println!("cargo::error=guest/{guest} has no test: write tests/{guest}/mod.rs");
        } else if !listed.contains(&format!("\"{guest}/mod.rs\"")) {
            println!("cargo::error=tests/{guest}/mod.rs is not listed in tests/components.rs");
        }
    }
}

/// Folders of `guest/` that hold a component. `sdk` is the library that they share.
fn names(guests: &Path) -> BTreeSet<String> {
    let entries = match fs::read_dir(guests) {
        Ok(entries) => entries,
        Err(error) => {
            println!("cargo::error=read {}: {error}", guests.display());
            return BTreeSet::new();
        }
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != "sdk")
        .collect()
}
