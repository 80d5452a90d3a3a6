//! The server as a program, as `just run` starts it.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use support::launcher::spawn_bound;

/// A server that is killed if its test fails.
struct Server {
    child: Child,
    base: String,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut command = program(dir, "127.0.0.1:0");
        command.stdout(Stdio::piped());
        let mut child = spawn_bound(command).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("git server on ").expect("where it is").to_owned();
        Self { child, base, stdout }
    }

    fn ends_after(mut self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{signal}");
        let mut more = String::new();
        assert_eq!(self.stdout.read_line(&mut more).unwrap(), 0, "nobody else has its stdout");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(dir: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_git-server"));
    command.arg(dir).args(["--listen", listen]);
    command
}

fn heads(base: &str) -> String {
    let mut git = Command::new("git");
    git.args(["ls-remote", "--heads", &format!("{base}/demo.git")]);
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    String::from_utf8(git.output().unwrap().stdout).unwrap()
}

#[test]
fn it_serves_the_demo_until_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let server = Server::start(&dir.path().join("repositories"));
        let heads = heads(&server.base);
        assert!(heads.ends_with("\trefs/heads/main\n"), "{heads}");
        server.ends_after(signal);
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let taken = server.base.strip_prefix("http://").unwrap();
    let output = program(dir.path(), taken).output().unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.starts_with(&format!("git-server: listen on {taken}: ")), "{words}");
}
