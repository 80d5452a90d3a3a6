//! Agents that work on a repository: real git over smart HTTP, from the start request to the branch on the server.

use std::path::Path;
use std::process::Command;

use git_server::{Fault, GitServer};
use harness::{Host, HostBuilder, Value, files, json, wait_until};
use rustix::process::Signal;
use tempfile::TempDir;

const TOKEN: &str = "ghp-0123456789-hush";

/// A server with one repository `demo.git`, whose `main` has one commit.
struct Remote {
    server: GitServer,
    dir: TempDir,
}

impl Remote {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (bare, seed) = (dir.path().join("demo.git"), dir.path().join("seed"));
        git(dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", text(&bare)]);
        git(&bare, &["config", "http.receivepack", "true"]);
        git(dir.path(), &["init", "--quiet", "--initial-branch=main", text(&seed)]);
        std::fs::write(seed.join("readme.md"), "# Demo\n").unwrap();
        git(&seed, &["add", "."]);
        git(&seed, &["commit", "--quiet", "--message=first"]);
        git(&seed, &["push", "--quiet", text(&bare), "main"]);
        Self { server: GitServer::start(dir.path()).unwrap(), dir }
    }

    /// What git says of the repository on the server.
    fn git(&self, args: &[&str]) -> String {
        git(&self.dir.path().join("demo.git"), args)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    let identity = ["-c", "user.name=Seed", "-c", "user.email=seed@example.invalid"];
    command.current_dir(dir).args(identity).args(args);
    let output = command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", dir).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A host whose agents work on repositories and may run git and a shell.
fn builder(remote: &Remote, more: &str) -> HostBuilder {
    let rig = format!("[rigs.demo]\nurl = \"{}\"\n{more}", remote.server.url("demo.git"));
    Host::builder()
        .component("toolbox", &files::component("toolbox"))
        .role("toolbox", "toolbox", "git = true\ntools = [\"git\", \"sh\"]")
        .toml(&rig)
}

fn start(host: &Host, more: Value) -> harness::Answer {
    let mut request = json!({"rigId": "demo"});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    host.client().start_with("toast", "toolbox", request)
}

#[track_caller]
fn ask(host: &Host, order: Value) -> Value {
    let reply = host.client().ask("toast", &order.to_string());
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

fn sh(host: &Host, script: &str) -> Value {
    ask(host, json!({"do": "run", "run": ["sh", "-c", script]}))
}

#[test]
fn an_agent_begins_in_its_repository_and_its_branch_gets_to_the_server() {
    let remote = Remote::new();
    let host = builder(&remote, "").start();
    start(&host, json!({"name": "Toast"})).expect(201);
    let line =
        host.wait_for_line("its repository", |line| line["event"] == "agent.workspace_prepared");
    assert_eq!(
        (&line["rig"], &line["branch"]),
        (&json!("demo"), &json!("bulkhead/toast")),
        "{line}"
    );
    assert_eq!(line["head"], remote.git(&["rev-parse", "main"]), "{line}");
    let status = ask(&host, json!({"do": "status"}));
    assert_eq!((&status["branch"], &status["changes"]), (&line["branch"], &json!([])), "{status}");

    // With files as the agent has them, and with git as a program in its sandbox.
    ask(&host, json!({"do": "write-file", "directory": "notes.md", "stdin": "found it\n"}));
    let ran = sh(&host, "cat readme.md && git log --oneline | wc -l && git status --short");
    assert_eq!(
        (&ran["code"], &ran["stdout"]),
        (&json!(0), &json!("# Demo\n1\n?? notes.md\n")),
        "{ran}"
    );
    let diff = ask(&host, json!({"do": "diff"}));
    assert_eq!(diff["text"], "", "what git does not know is no difference: {diff}");
    let committed = ask(&host, json!({"do": "commit", "say": "note it"}));
    assert!(committed["commit"].is_string(), "{committed}");
    let pushed = ask(&host, json!({"do": "push"}));
    assert_eq!(pushed["commit"], committed["commit"], "{pushed}");
    assert_eq!(remote.git(&["rev-parse", "bulkhead/toast"]), committed["commit"], "on the server");
    let by = remote.git(&["log", "-1", "--format=%an <%ae>", "bulkhead/toast"]);
    assert_eq!(by, "Toast <toast@agents.invalid>");
    assert_eq!(ask(&host, json!({"do": "log"}))["subjects"], json!(["note it", "first"]));
    host.finish();
}

#[test]
fn a_workspace_outlives_its_agent_and_the_host() {
    let remote = Remote::new();
    let mut host = builder(&remote, "").start();
    start(&host, json!({})).expect(201);
    ask(&host, json!({"do": "write-file", "directory": "draft", "stdin": "half"}));
    host.client().stop("toast").expect(200);
    host.signal(Signal::TERM);
    host.wait();
    // No network is needed to go on.
    remote.server.misbehave(Some(Fault::Status(500)));
    let host = host.restart().ready();
    start(&host, json!({})).expect(201);
    let line =
        host.wait_for_line("its repository", |line| line["event"] == "agent.workspace_prepared");
    assert_eq!(line["reused"], true, "{line}");
    assert_eq!(ask(&host, json!({"do": "status"}))["changes"], json!(["draft"]));
    host.finish();
}

#[test]
fn a_token_gets_to_the_server_and_nowhere_else() {
    let remote = Remote::new();
    remote.server.want(Some(("git", TOKEN)));
    let host = builder(&remote, &format!("token = \"{TOKEN}\"")).start();
    start(&host, json!({})).expect(201);
    assert!(!remote.server.authorizations().is_empty());
    // Neither in the repository, nor in an environment, nor among processes.
    let ran = sh(&host, "grep -ra 'ghp-[0]' . /proc/[0-9]*/environ /proc/[0-9]*/cmdline; env");
    assert!(ran["stdout"].as_str().unwrap().contains("PATH="), "{ran}");
    assert!(!ran.to_string().contains("ghp-01"), "{ran}");
    ask(&host, json!({"do": "write-file", "directory": "x", "stdin": "x"}));
    ask(&host, json!({"do": "commit", "say": "x"}));
    assert!(ask(&host, json!({"do": "push"}))["commit"].is_string());
    let found =
        Command::new("grep").args(["-rl", TOKEN, text(&host.state_dir())]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "nothing of it on the disk");
    for line in host.finish() {
        assert!(!line.to_string().contains(TOKEN), "{line}");
    }
}

#[test]
fn why_there_is_no_repository_is_said_to_the_caller_and_recorded() {
    let remote = Remote::new();
    remote.server.want(Some(("git", TOKEN)));
    let host = builder(&remote, "").start();
    let refused = start(&host, json!({})).expect_error(502, &["clone-failed"]);
    assert_eq!(refused["phase"], "workspace", "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("credential"), "{refused}");
    let id = refused["crashId"].as_str().unwrap();
    let record = host.client().get(&format!("/crashes/{id}")).expect(200);
    assert_eq!(
        (&record["reason"], &record["phase"]),
        (&json!("start_failed"), &json!("workspace"))
    );
    assert_eq!(record["code"], "unauthorized", "{record}");

    remote.server.want(None);
    let missing = start(&host, json!({"startPoint": "no-such-branch", "force": true}));
    let missing = missing.expect_error(400, &["invalid-request"]);
    assert!(missing["error"].as_str().unwrap().contains("no-such-branch"), "{missing}");
    for (more, text) in [
        (json!({"rigId": "other"}), "no gitUrl"),
        (json!({"gitUrl": "https://example.invalid/x.git"}), "not the url of [rigs.demo]"),
        (json!({"rigId": "other", "gitUrl": "http://example.invalid/x.git"}), "https://"),
    ] {
        let refused = start(&host, more).expect_error(400, &["invalid-request"]);
        assert!(refused["error"].as_str().unwrap().contains(text), "{refused}");
    }
    // The host is as well as before.
    start(&host, json!({"force": true})).expect(201);
    host.finish();
}

#[test]
fn a_start_that_clones_can_be_stopped() {
    let remote = Remote::new();
    remote.server.misbehave(Some(Fault::Stall));
    let host = builder(&remote, "").start();
    let client = host.client();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| start(&host, json!({})));
        wait_until("it talks to the server", || remote.server.counts().requests > 0);
        client.stop("toast").expect(200);
        started.join().unwrap().expect_error(409, &["superseded"]);
    });
    host.finish();
}
