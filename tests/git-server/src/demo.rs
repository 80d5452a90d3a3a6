//! A small project with a bug, and a test that finds it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it is called on the server.
pub const REPOSITORY: &str = "demo.git";

/// The file with the bug, what is wrong in it, and what is right.
pub const REPAIR: [&str; 3] = ["price.sh", "-gt", "-ge"];

const FILES: [(&str, &str); 3] = [
    ("README.md", include_str!("../demo/README.md")),
    ("price.sh", include_str!("../demo/price.sh")),
    ("test.sh", include_str!("../demo/test.sh")),
];

/// Of its commit, so that the commit is the same each time.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("GIT_AUTHOR_NAME", "Demo"),
    ("GIT_AUTHOR_EMAIL", "demo@example.invalid"),
    ("GIT_AUTHOR_DATE", "2026-01-15T09:30:00Z"),
    ("GIT_COMMITTER_NAME", "Demo"),
    ("GIT_COMMITTER_EMAIL", "demo@example.invalid"),
    ("GIT_COMMITTER_DATE", "2026-01-15T09:30:00Z"),
];

/// Makes the repository below a directory, with one commit on `main`. One that is there stays as it is. Returns its path.
pub fn make(root: &Path) -> io::Result<PathBuf> {
    let bare = root.join(REPOSITORY);
    if bare.exists() {
        return Ok(bare);
    }
    fs::create_dir_all(root)?;
    // It gets its name when it is complete.
    let part = Part(root.join(format!(".demo-{}", std::process::id())));
    let (tree, made) = (part.0.join("tree"), part.0.join(REPOSITORY));
    fs::create_dir_all(&tree)?;
    for (name, text) in FILES {
        fs::write(tree.join(name), text)?;
    }
    git(&part.0, &["init", "--quiet", "--bare", "--initial-branch=main", REPOSITORY])?;
    git(&made, &["config", "http.receivepack", "true"])?;
    git(&made, &["--work-tree=../tree", "add", "--all"])?;
    git(&made, &["--work-tree=../tree", "commit", "--quiet", "--message=Sell with a discount"])?;
    fs::rename(&made, &bare)?;
    Ok(bare)
}

/// What is not complete. Dropping it removes it.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn git(dir: &Path, args: &[&str]) -> io::Result<()> {
    let mut command = Command::new("git");
    command.current_dir(dir).args(args).envs(ENVIRONMENT);
    // Neither the user's configuration nor a repository around this one has a say.
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let output = command
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("run git: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("git {args:?}: {}", words.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(command: &mut Command) -> (bool, String) {
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn head(bare: &Path) -> String {
        said(Command::new("git").current_dir(bare).args(["rev-parse", "main"])).1
    }

    #[test]
    fn its_test_fails_until_it_is_repaired() {
        let root = tempfile::tempdir().unwrap();
        let (bare, tree) = (make(root.path()).unwrap(), root.path().join("tree"));
        let clone = ["clone", "--quiet", bare.to_str().unwrap(), tree.to_str().unwrap()];
        assert!(said(Command::new("git").args(clone)).0);
        let test = || said(Command::new("sh").arg("test.sh").current_dir(&tree));
        let (passed, output) = test();
        assert!(!passed && output.contains("failed: "), "{output}");
        let [file, old, new] = REPAIR;
        let text = fs::read_to_string(tree.join(file)).unwrap();
        assert_eq!(text.matches(old).count(), 1);
        fs::write(tree.join(file), text.replace(old, new)).unwrap();
        let (passed, output) = test();
        assert!(passed && output.ends_with("all passed"), "{output}");
    }

    #[test]
    fn it_is_the_same_each_time_and_leaves_nothing_else() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (first, second) = (make(one.path()).unwrap(), make(two.path()).unwrap());
        assert_eq!(head(&first), head(&second));
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_that_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let bare = make(root.path()).unwrap();
        assert!(said(Command::new("git").current_dir(&bare).args(["branch", "kept"])).0);
        make(root.path()).unwrap();
        assert!(said(Command::new("git").current_dir(&bare).args(["rev-parse", "kept"])).0);
    }
}
