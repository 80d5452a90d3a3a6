//! Suites that others wrote: the tests of published crates and of Rust's library, as components.
//!
//! Cargo fetches the crates of `suites/Cargo.toml`, rustup the library (`rust-src`). Each is copied, changed where its
//! tests name places that an agent does not have, and its tests are built for `wasm32-wasip2` with the lock file that it
//! was published with. The standard library has the manifest and the root of `std/`, which want no other build of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Value, files};

use super::Program;

const TARGET: &str = "wasm32-wasip2";

/// One crate.
pub struct Suite {
    pub name: &'static str,
    /// In its manifest and its Rust files this becomes that.
    changes: &'static [(&'static str, &'static str)],
    /// Tests that are left out, since they do not compile where they are.
    without: &'static [&'static str],
}

/// A crate as it is.
const PLAIN: Suite = Suite { name: "", changes: &[], without: &[] };

/// Rust's library: three crates, which rustup has.
const LIBRARY: [&str; 3] = ["alloctests", "coretests", "std"];

/// Of the first two the programs. Their unit tests are of private items.
const PROGRAMS: Suite = Suite { changes: &[("test = true", "test = false")], ..PLAIN };

/// The standard library: its tests of public items, on links by the name that WASI has for them. The library's own
/// build leaves WASI out where only Unix and Windows are told apart.
const STD: Suite = Suite {
    name: "std",
    changes: &[
        ("env::temp_dir()", "PathBuf::from(\"/workspace\")"),
        (
            "#[cfg(unix)]\nuse crate::os::unix::fs::symlink as",
            "use std::os::wasi::fs::symlink_path as",
        ),
        ("#[cfg(unix)]\n    crate::os::unix::fs::symlink(", "std::os::wasi::fs::symlink_path("),
        ("#[cfg(unix)]\n    let link", "let link"),
        ("#[cfg(unix)]\nmacro_rules! error", "macro_rules! error"),
        ("#![feature(nonpoison_condvar)]", "#![feature(nonpoison_condvar, sync_poison_mod)]"),
    ],
    // They look at private fields and call private functions.
    without: &[
        "bench_read_to_end",
        "bufreader_full_initialize",
        "debug",
        "dir_entry_debug",
        "take_seek_big_offsets",
        "test_os_string_clear",
        "test_os_string_with_capacity",
        "test_thread_os_id_not_equal",
    ],
};

/// All of them. Others were looked at: the tests of `walkdir`, `tar`, `filetime`, `same-file` and `remove_dir_all` do
/// not compile for the target, those of `zip`, `bstr` and `redb` are not whole in what is published.
pub const SUITES: [Suite; 9] = [
    Suite { name: "alloctests", ..PROGRAMS },
    Suite { name: "coretests", ..PROGRAMS },
    Suite { name: "csv", ..PLAIN },
    Suite { name: "fs_extra", changes: &[("\"./tests/temp/", "\"/workspace/")], ..PLAIN },
    Suite { name: "getrandom", ..PLAIN },
    Suite { name: "rand", ..PLAIN },
    STD,
    Suite { name: "tempfile", changes: &[("\"/tmp\"", "\"/workspace\"")], ..PLAIN },
    Suite { name: "wstd", ..PLAIN },
];

/// Where copies and what is built of them lie.
fn dir() -> PathBuf {
    files::target_dir().join("conformance")
}

impl Suite {
    /// Builds its tests.
    pub fn programs(&self) -> Vec<Program> {
        let copy = self.copy();
        let mut cargo = cargo();
        if self.is_library() {
            // Its tests use what is not stable.
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        let output = cargo
            .args(["test", "--no-run", "--message-format", "json-render-diagnostics"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(dir().join("build"))
            .current_dir(&copy)
            .stderr(Stdio::inherit())
            .output()
            .expect("start cargo");
        assert!(output.status.success(), "the tests of {} do not build", self.name);
        let lines = String::from_utf8_lossy(&output.stdout);
        let messages = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
        let built = messages.filter_map(|message: Value| executable(&message));
        built.map(|(name, wasm)| Program { name, wasm }).collect()
    }

    /// A copy of its source in which an earlier build's results stay good.
    fn copy(&self) -> PathBuf {
        let library = self.is_library().then(library);
        let source = library.as_ref().map_or_else(|| source(self.name), |it| it.join(self.name));
        let copy = dir().join("src").join(source.file_name().expect("a crate's directory"));
        copy_dir(&source, &copy, &|file, text| {
            let within = file.strip_prefix(&source).expect("a file of the crate");
            match (self.name, within.to_str()) {
                ("std", Some("Cargo.toml")) => include_str!("std/Cargo.toml").to_owned(),
                ("std", Some("src/lib.rs")) => include_str!("std/lib.rs").to_owned(),
                _ => self.change(text),
            }
        });
        if let Some(library) = library.filter(|_| !copy.join("Cargo.lock").exists()) {
            fs::copy(library.join("Cargo.lock"), copy.join("Cargo.lock")).expect("copy the lock");
        }
        copy
    }

    fn change(&self, text: String) -> String {
        let text = self.changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
        self.without.iter().fold(text, |text, test| {
            let function = format!("\nfn {test}(");
            text.replace(&function, &format!("\n#[cfg(any())]{function}"))
        })
    }

    fn is_library(&self) -> bool {
        LIBRARY.contains(&self.name)
    }
}

/// Where rustup has the source of Rust's library.
fn library() -> PathBuf {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]).current_dir(files::root());
    let output = rustc.output().expect("start rustc");
    let sysroot = String::from_utf8(output.stdout).expect("a path");
    let library = Path::new(sysroot.trim_end()).join("lib/rustlib/src/rust/library");
    assert!(library.is_dir(), "no source of Rust's library; run: rustup component add rust-src");
    library
}

/// Cargo with the compiler of this workspace, whatever the crate asks for: small files, and code that runs in a
/// bearable time.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    // Warnings about the code of others are of no use here.
    cargo.env("RUSTFLAGS", "-Awarnings");
    for profile in ["DEV", "TEST"] {
        cargo.env(format!("CARGO_PROFILE_{profile}_DEBUG"), "0");
        cargo.env(format!("CARGO_PROFILE_{profile}_OPT_LEVEL"), "1");
    }
    cargo
}

/// Where Cargo has the source of a crate of `suites/Cargo.toml`.
fn source(name: &str) -> PathBuf {
    let manifest = files::root().join("tests/conformance/suites/Cargo.toml");
    let output = cargo()
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET])
        .arg("--manifest-path")
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .expect("start cargo");
    assert!(output.status.success(), "cargo cannot fetch the suites");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON of cargo");
    let is_wanted = |dependency: &&Value| dependency["name"] == name;
    let root = metadata["packages"].as_array().into_iter().flatten();
    let suites = root.clone().find(|package| package["name"] == "suites");
    let wanted =
        suites.and_then(|suites| suites["dependencies"].as_array()?.iter().find(is_wanted));
    let version = wanted.and_then(|wanted| wanted["req"].as_str()?.strip_prefix('='));
    let version = version.unwrap_or_else(|| panic!("suites/Cargo.toml pins no {name}"));
    let mut packages = root.filter(|package| package["name"] == name);
    let package = packages.find(|package| package["version"] == version);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.unwrap_or_else(|| panic!("cargo did not fetch {name}"));
    Path::new(manifest).parent().expect("a manifest lies in a directory").to_owned()
}

/// Copies a directory. Text goes through `change`; what is there already and the same keeps its time.
fn copy_dir(from: &Path, to: &Path, change: &dyn Fn(&Path, String) -> String) {
    fs::create_dir_all(to).expect("make a directory");
    for entry in fs::read_dir(from).expect("read a crate's directory") {
        let from = entry.expect("read a crate's directory").path();
        let name = from.file_name().expect("a name").to_owned();
        let to = to.join(&name);
        if from.is_dir() {
            copy_dir(&from, &to, change);
            continue;
        }
        // Its author was in no workspace and used another compiler.
        if name == "rust-toolchain"
            || name == "rust-toolchain.toml"
            || (name == "Cargo.lock" && to.exists())
        {
            continue;
        }
        let mut bytes = fs::read(&from).expect("read a crate's file");
        if let (true, Ok(text)) = (is_changed(&from), String::from_utf8(bytes.clone())) {
            let mut text = change(&from, text);
            if name == "Cargo.toml" && !text.contains("[workspace]") {
                text.push_str("\n[workspace]\n");
            }
            bytes = text.into_bytes();
        }
        if fs::read(&to).ok().as_ref() != Some(&bytes) {
            fs::write(&to, bytes).expect("write a crate's file");
        }
    }
}

fn is_changed(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs" || extension == "toml")
}

/// Name and file of a test that Cargo says it built.
fn executable(message: &Value) -> Option<(String, PathBuf)> {
    let file = message["executable"].as_str()?;
    let kind = message["target"]["kind"][0].as_str()?;
    let name = message["target"]["name"].as_str()?;
    // A test may have the name of its crate.
    let name = if kind == "test" { name } else { "src" };
    (message["profile"]["test"] == true).then(|| (name.to_owned(), file.into()))
}
