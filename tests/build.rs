//! Builds the components that the tests run, so that none is of yesterday, names them in `COMPONENTS`, and refuses to while an
//! agent in `guest/` or a test program has no tests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What components are built for.
const TARGET: &str = "wasm32-wasip2";

/// What they are made of, below the workspace.
const SOURCES: [&str; 6] =
    ["Cargo.lock", "Cargo.toml", "guest", "rust-toolchain.toml", "tests/programs", "wit"];

fn main() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("tests/ lies in the workspace");
    let guests: Vec<_> = entries(&root.join("guest")).filter(|path| is_component(path)).collect();
    let programs: Vec<_> = entries(&tests.join("programs/examples")).collect();
    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    check_tests(tests, guests.iter().chain(&programs));
    let names: Vec<_> = guests.iter().chain(&programs).map(|path| name(path)).collect();
    println!("cargo::rustc-env=COMPONENTS={}", names.join(","));
    let mut packages = vec!["--profile=guest".to_owned()];
    packages.extend(guests.iter().map(|guest| format!("--package={}", name(guest))));
    build(root, &packages);
    build(
        root,
        &["--profile=programs", "--package=test-programs", "--examples"].map(str::to_owned),
    );
}

/// Each must have a folder with tests in the list.
fn check_tests<'a>(tests: &Path, components: impl Iterator<Item = &'a PathBuf>) {
    let list = tests.join("components.rs");
    println!("cargo::rerun-if-changed={}", list.display());
    let listed = fs::read_to_string(&list).unwrap_or_default();
    for path in components {
        let name = name(path);
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

/// Into the target directory that this script is built into. Its lock is another than the one that Cargo holds now.
fn build(root: &Path, args: &[String]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let target = out.ancestors().nth(4).expect("target/<profile>/build/<package>/out");
    let mut cargo = Command::new(env::var_os("CARGO").expect("Cargo sets CARGO"));
    cargo.current_dir(root).args(["build", "--quiet", "--target", TARGET, "--target-dir"]);
    // What `cargo clippy` and flags for the host would change.
    for variable in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC", "RUSTDOC"] {
        cargo.env_remove(variable);
    }
    let status = cargo.arg(target).args(args).status().expect("run cargo");
    if !status.success() {
        println!("cargo::error=a component does not build; `just guests` adds the target {TARGET}");
    }
}

/// `sdk` is the library that the agents in `guest/` share.
fn is_component(path: &Path) -> bool {
    path.join("Cargo.toml").is_file() && !path.ends_with("sdk")
}

fn name(path: &Path) -> &str {
    path.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8")
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir);
    if let Err(error) = &entries {
        println!("cargo::error=read {}: {error}", dir.display());
    }
    entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
}
