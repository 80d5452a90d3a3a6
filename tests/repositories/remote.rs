//! A git server of the tests, with one repository.

use std::path::Path;
use std::process::Command;

use git_server::GitServer;
use tempfile::TempDir;

/// A server with one repository `demo.git`, whose `main` has one commit.
pub struct Remote {
    pub server: GitServer,
    dir: TempDir,
}

impl Remote {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (bare, seed) = (dir.path().join("demo.git"), dir.path().join("seed"));
        git(dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", text(&bare)]);
        git(&bare, &["config", "http.receivepack", "true"]);
        git(dir.path(), &["init", "--quiet", "--initial-branch=main", text(&seed)]);
        let remote = Self { server: GitServer::start(dir.path()).unwrap(), dir };
        remote.commit(&[("readme.md", "# Demo\n")], "first");
        remote
    }

    /// Commits files to `main` as somebody else.
    pub fn commit(&self, files: &[(&str, &str)], message: &str) {
        let seed = self.dir.path().join("seed");
        for (name, content) in files {
            let path = seed.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        git(&seed, &["add", "."]);
        git(&seed, &["commit", "--quiet", "--message", message]);
        git(&seed, &["push", "--quiet", "../demo.git", "main"]);
    }

    /// What git says of the repository on the server.
    pub fn git(&self, args: &[&str]) -> String {
        git(&self.dir.path().join("demo.git"), args)
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    let identity = ["-c", "user.name=Seed", "-c", "user.email=seed@example.invalid"];
    command.current_dir(dir).args(identity).args(args);
    let output = command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", dir).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
