//! Which scripts are run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_types::AgentId;

use super::script::{self, Script};
use crate::bounded::read_text;

/// Where they are, beside the configuration file.
const DIR: &str = "tests";

/// Scripts of one run.
const MAX_SCRIPTS: usize = 1000;

/// Largest script.
const MAX_BYTES: u64 = 4 << 20;

/// Of the name of a file in the id of an agent.
const MAX_STEM: usize = 100;

/// A script, and what its agent is called.
#[derive(Debug)]
pub(super) struct ScriptFile {
    /// As a person names it.
    pub(super) path: PathBuf,
    /// After the file, so that it is the same in each run.
    pub(super) agent: AgentId,
    pub(super) script: Script,
}

/// Finds and reads scripts: the files that are named, all `*.toml` of the directories that are, or of `tests` beside the
/// configuration. Those of one directory come in the order of their names. The error names each file that is wrong.
pub(super) fn read(
    named: &[PathBuf],
    config: &Path,
    filter: Option<&str>,
) -> Result<Vec<ScriptFile>, String> {
    let base = config.parent().filter(|dir| !dir.as_os_str().is_empty());
    let default = [base.map_or_else(|| PathBuf::from(DIR), |base| base.join(DIR))];
    let roots = if named.is_empty() { &default[..] } else { named };
    let mut paths = Vec::new();
    for root in roots {
        collect(root, !named.is_empty(), &mut paths)?;
    }
    let found = paths.len();
    paths.retain(|path| filter.is_none_or(|filter| path.to_string_lossy().contains(filter)));
    if paths.is_empty() {
        return Err(none(roots, found, filter));
    }
    if paths.len() > MAX_SCRIPTS {
        return Err(format!("{} scripts are more than {MAX_SCRIPTS}", paths.len()));
    }
    let mut ids = BTreeSet::new();
    let (mut scripts, mut wrong) = (Vec::new(), Vec::new());
    for path in paths {
        match read_one(&path) {
            Ok(script) => scripts.push(ScriptFile { agent: id(&path, &mut ids), path, script }),
            Err(problem) => wrong.push(format!("{}: {problem}", path.display())),
        }
    }
    if wrong.is_empty() { Ok(scripts) } else { Err(wrong.join("\n")) }
}

fn none(roots: &[PathBuf], found: usize, filter: Option<&str>) -> String {
    let places: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
    let places = places.join(", ");
    match filter.filter(|_| found > 0) {
        Some(filter) => {
            format!("none of the {found} scripts in {places} has {filter:?} in its path")
        }
        None => format!("there are no scripts: no *.toml in {places}; name a file or a directory"),
    }
}

fn collect(root: &Path, is_named: bool, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", root.display());
    if !root.is_dir() {
        return match root.try_exists().map_err(unreadable)? {
            true => {
                paths.push(root.to_owned());
                Ok(())
            }
            false if is_named => Err(format!("there is no script {}", root.display())),
            false => Ok(()),
        };
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "toml") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    paths.extend(found);
    Ok(())
}

fn read_one(path: &Path) -> Result<Script, String> {
    let text = read_text(path, MAX_BYTES).map_err(|error| error.to_string())?;
    script::parse(&text)
}

/// The name of the file as an id that no other script has.
fn id(path: &Path, taken: &mut BTreeSet<String>) -> AgentId {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(fit).take(MAX_STEM).collect();
    let name = match name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        true => name,
        false => format!("test{name}"),
    };
    let mut numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut id = name.clone();
    while !taken.insert(id.clone()) {
        id = numbered.next().expect("numbers do not end");
    }
    AgentId::parse(&id).expect("its characters and its length are those of an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "[[step]]\nsend = \"x\"\n";

    fn project() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tests/more.toml")).unwrap();
        for name in ["tests/b.toml", "tests/a.toml", "tests/notes.txt", "other.toml"] {
            fs::write(dir.path().join(name), STEP).unwrap();
        }
        let config = dir.path().join("bulkhead.toml");
        (dir, config)
    }

    fn found(named: &[PathBuf], config: &Path, filter: Option<&str>) -> Result<String, String> {
        let base = config.parent().unwrap();
        let scripts = read(named, config, filter)
            .map_err(|error| error.replace(&base.display().to_string(), "DIR"))?;
        let shown = scripts
            .iter()
            .map(|it| format!("{}={}", it.path.strip_prefix(base).unwrap().display(), it.agent));
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn scripts_are_those_of_the_directory_in_order_or_those_that_are_named() {
        let (dir, config) = project();
        assert_eq!(found(&[], &config, None).unwrap(), "tests/a.toml=a tests/b.toml=b");
        assert_eq!(found(&[], &config, Some("b.t")).unwrap(), "tests/b.toml=b");
        let named = [dir.path().join("other.toml"), dir.path().join("tests")];
        let expected = "other.toml=other tests/a.toml=a tests/b.toml=b";
        assert_eq!(found(&named, &config, None).unwrap(), expected);
    }

    #[test]
    fn that_there_are_none_says_where_they_were_searched_for() {
        let (dir, config) = project();
        let error = found(&[], &config, Some("nothing")).unwrap_err();
        assert_eq!(error, "none of the 2 scripts in DIR/tests has \"nothing\" in its path");
        let missing = dir.path().join("nowhere");
        let error = found(std::slice::from_ref(&missing), &config, None).unwrap_err();
        assert_eq!(error, "there is no script DIR/nowhere");
        fs::create_dir(&missing).unwrap();
        let error = found(&[missing], &config, None).unwrap_err();
        assert!(error.starts_with("there are no scripts: no *.toml in DIR/nowhere;"), "{error}");
        let error = read(&[], Path::new("/nowhere/bulkhead.toml"), None).unwrap_err();
        assert!(error.contains("no *.toml in /nowhere/tests;"), "{error}");
    }

    #[test]
    fn each_file_that_is_wrong_is_named() {
        let (dir, config) = project();
        fs::write(dir.path().join("tests/a.toml"), "[[step]]\n").unwrap();
        fs::write(dir.path().join("tests/b.toml"), b"\xff").unwrap();
        let error = found(&[], &config, None).unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert!(lines[0].starts_with("DIR/tests/a.toml: line 1, step[0]: has neither"), "{error}");
        assert!(lines[1].starts_with("DIR/tests/b.toml: ") && lines.len() == 2, "{error}");
    }

    #[test]
    fn an_agent_is_called_after_its_file_and_no_two_alike() {
        let mut taken = BTreeSet::new();
        let mut id = |path: &str| id(Path::new(path), &mut taken).to_string();
        assert_eq!(
            (id("a/x y.toml"), id("b/x y.toml"), id("c/x y.toml")),
            ("x-y".into(), "x-y-2".into(), "x-y-3".into())
        );
        assert_eq!((id(".toml"), id("ä.toml")), ("test.toml".into(), "test-".into()));
        assert_eq!(id(&"x".repeat(300)).len(), MAX_STEM);
    }
}
