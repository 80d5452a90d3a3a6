//! Every fuzz target of the workspace is run by `just fuzz`, and has a bounded test that runs with the others.

#![expect(clippy::unwrap_used, reason = "tests: a panic is their failure")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A fuzz target: the crate that it belongs to, from the root of the repository, and its name.
type Target = (PathBuf, String);

/// Begins the line of a target that names its bounded test.
const BOUNDED: &str = "//! Bounded, beside the other tests: ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All of them, as the manifests say. Those of a crate are in its folder `fuzz`, and crates at most four folders deep.
fn targets() -> BTreeSet<Target> {
    let (root, mut found) = (root(), BTreeSet::new());
    let mut folders = vec![(root.clone(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if folder.ends_with("fuzz") && folder.join("Cargo.toml").is_file() {
            let of = folder.parent().unwrap().strip_prefix(&root).unwrap().to_owned();
            found.extend(names(&folder).into_iter().map(|name| (of.clone(), name)));
            continue;
        }
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        let inside = entries.filter(|entry| entry.file_type().unwrap().is_dir()).filter(|entry| {
            let name = entry.file_name();
            depth < 4 && name != "target" && name != "node_modules" && !is_hidden(&name)
        });
        folders.extend(inside.map(|entry| (entry.path(), depth + 1)));
    }
    found
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with('.')
}

/// What a manifest of fuzz targets lists. It has to be what lies beside it.
fn names(folder: &Path) -> BTreeSet<String> {
    let manifest: toml::Table =
        fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
    let listed = manifest["bin"].as_array().unwrap().iter();
    let listed: BTreeSet<_> = listed.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
    let files = fs::read_dir(folder.join("fuzz_targets")).unwrap();
    let files = files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let files: BTreeSet<_> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(listed, files, "{}", folder.display());
    listed
}

/// The lines of a recipe: its head and its body.
fn recipe<'a>(justfile: &'a str, name: &str) -> Vec<&'a str> {
    let is_head =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', ':']));
    let mut lines = justfile.lines().skip_while(|line| !is_head(line));
    let head = lines.next().unwrap_or_else(|| panic!("no recipe {name}"));
    let body = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    std::iter::once(head).chain(body).collect()
}

/// What `just fuzz` runs: the list of its loop, and what the recipes that it depends on run.
fn run_by_just() -> BTreeSet<Target> {
    let justfile = fs::read_to_string(root().join("justfile")).unwrap();
    let lines = recipe(&justfile, "fuzz");
    let list = lines.iter().find_map(|line| line.trim().strip_prefix("for target in "));
    let list = list.unwrap().split(';').next().unwrap().split_whitespace();
    let mut found: BTreeSet<_> = list
        .map(|target| target.split_once('/').unwrap())
        .map(|(of, name)| (Path::new("host").join(of), name.to_owned()))
        .collect();
    for other in lines[0].split('(').skip(1) {
        let lines = recipe(&justfile, other.split([' ', ')']).next().unwrap());
        let folder = lines.iter().find_map(|line| line.trim().strip_prefix("cd ")).unwrap();
        let run = "cargo +nightly fuzz run --fuzz-dir . ";
        let target = lines.iter().find_map(|line| line.trim().strip_prefix(run)).unwrap();
        let of = Path::new(folder).parent().unwrap().to_owned();
        found.insert((of, target.split(' ').next().unwrap().to_owned()));
    }
    found
}

/// Why a target has no bounded test.
fn check_bounded((of, name): &Target) -> Result<(), String> {
    let file = of.join("fuzz/fuzz_targets").join(name).with_extension("rs");
    let says = |problem: &str| format!("{}: {problem}", file.display());
    let text = fs::read_to_string(root().join(&file)).map_err(|error| says(&error.to_string()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(BOUNDED));
    let line = line.ok_or_else(|| says(&format!("it has no line {BOUNDED:?}")))?;
    let words: Vec<_> = line.split('`').collect();
    let [_, test, _, tests, _] = words[..] else { return Err(says("name a test and its file")) };
    let tests = fs::read_to_string(root().join(of).join(tests))
        .map_err(|error| says(&format!("{tests}: {error}")))?;
    let (before, _) = tests
        .split_once(&format!("fn {test}("))
        .ok_or_else(|| says(&format!("there is no test {test}")))?;
    let attributes: Vec<_> = before
        .trim_end_matches(' ')
        .lines()
        .rev()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let is_test = attributes.contains(&"#[test]");
    let is_run = !attributes.iter().any(|line| line.starts_with("#[ignore"));
    if is_test && is_run { Ok(()) } else { Err(says(&format!("{test} is no test that runs"))) }
}

#[test]
fn just_fuzz_runs_every_target() {
    let targets = targets();
    assert!(targets.len() >= 7, "{targets:?}");
    assert_eq!(targets, run_by_just());
}

#[test]
fn every_target_has_a_bounded_test() {
    let missing: Vec<_> = targets().iter().filter_map(|it| check_bounded(it).err()).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
