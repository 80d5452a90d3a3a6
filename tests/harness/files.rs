//! Where the binary and the components are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The workspace.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ has a parent").to_owned()
}

/// The host: `BULKHEAD_BIN`, or what was built beside this test.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("BULKHEAD_BIN") {
        Some(path) => PathBuf::from(path),
        None => profile_dir().join("bulkhead"),
    };
    assert!(path.is_file(), "no host at {}: run `just build` first", path.display());
    path
}

/// The component of an agent in `guest/` or of a test program, by its name. `build.rs` built it.
pub fn component(name: &str) -> PathBuf {
    let is_guest = root().join("guest").join(name).is_dir();
    component_of_profile(if is_guest { "guest" } else { "programs/examples" }, name)
}

/// All of them, by their names.
pub fn components() -> BTreeMap<String, PathBuf> {
    // As `build.rs` says it.
    env!("COMPONENTS").split(',').map(|name| (name.to_owned(), component(name))).collect()
}

/// The same, built with a profile of its own. Cargo names a library with underscores and a program as it is called.
pub fn component_of_profile(profile: &str, name: &str) -> PathBuf {
    let dir = target_dir().join("wasm32-wasip2").join(profile);
    let as_program = dir.join(format!("{name}.wasm"));
    if as_program.is_file() {
        as_program
    } else {
        dir.join(format!("{}.wasm", name.replace('-', "_")))
    }
}

/// The `echo` component with one more core module, which nothing instantiates and the compiler compiles all the same.
pub fn echo_with(module: &[u8]) -> Vec<u8> {
    let mut bytes = std::fs::read(component("echo")).expect("read the echo component");
    bytes.push(1);
    let mut size = module.len();
    while size >= 0x80 {
        bytes.push(size as u8 | 0x80);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes.extend(module);
    bytes
}

/// `target/debug` for a test at `target/debug/deps/components-…`, and for a program beside the host.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("path of this test");
    let dir = exe.parent().expect("a test lies in a directory");
    let dir = if dir.ends_with("deps") { dir.parent() } else { Some(dir) };
    dir.expect("deps/ lies in a profile's directory").to_owned()
}

/// Where Cargo builds.
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile's directory lies in the target directory").to_owned()
}
