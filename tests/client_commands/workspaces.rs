//! `bulkhead diff`, `exec` and `workspaces`: what agents did, and what is left of it.

use git_server::{GitServer, demo};
use harness::{Host, files, json};

use super::Person;

/// A host with an agent `toast` in a repository of a server.
fn host(server: &GitServer) -> Host {
    let rig = format!("[rigs.demo]\nurl = \"{}\"\n", server.url(demo::REPOSITORY));
    let settings = "git = true\ntools = [\"git\", \"sh\"]\ntool_wall_ms = 60000";
    let host = Host::builder()
        .component("toolbox", &files::component("toolbox"))
        .role("toolbox", "toolbox", settings)
        .toml(&rig)
        .start();
    host.client().start_with("toast", "toolbox", json!({"rigId": "demo"})).expect(201);
    host
}

#[test]
fn what_an_agent_did_is_a_patch_and_its_programs_are_at_hand() {
    let dir = tempfile::tempdir().expect("make a directory");
    demo::make(dir.path()).expect("make a repository");
    let server = GitServer::start(dir.path()).expect("serve it");
    let host = host(&server);
    let person = Person::of(&host);
    let exec = |words: &[&str]| person.says(&[&["exec", "toast"], words].concat());

    let wrote = exec(&["sh", "-c", "echo more >>README.md; echo written; echo careful >&2"]);
    assert_eq!((wrote.code, &*wrote.stdout, &*wrote.stderr), (0, "written\n", "careful\n"));
    let read = person
        .types(&["exec", "-i", "--env", "A=b", "toast", "--", "sh", "-c", "cat; echo $A"], "in\n");
    assert_eq!(read.ok(), "in\nb\n");
    exec(&["sh", "-c", "exit 7"]).fails(7, &[]);
    exec(&["sh", "-c", "kill -9 $$"]).fails(137, &["ended by signal 9"]);
    exec(&["cat"]).fails(125, &["denied", "git, sh"]);
    person.says(&["exec", "nobody", "git"]).fails(125, &["nobody"]);
    person.says(&["exec", "toast"]).fails(2, &["COMMAND"]);

    let diff = person.says(&["diff", "toast"]);
    assert_eq!(diff.code, 0, "{diff:?}");
    assert!(diff.stdout.ends_with("\n+more\n"), "{diff:?}");
    let said =
        "toast is on bulkhead/toast, 0 commits ahead of main and 0 behind; 1 file not committed";
    assert_eq!(diff.stderr, format!("bulkhead: {said}\n"));
    let json = person.says(&["diff", "toast", "--uncommitted", "--json"]).json();
    assert_eq!(
        (&json["against"], &json["uncommitted"][0]["path"]),
        (&json!("head"), &json!("README.md"))
    );
    person.says(&["diff", "nobody"]).fails(3, &["no workspace of agent nobody"]);
    host.finish();
}

#[test]
fn workspaces_are_listed_and_removed() {
    let dir = tempfile::tempdir().expect("make a directory");
    demo::make(dir.path()).expect("make a repository");
    let server = GitServer::start(dir.path()).expect("serve it");
    let host = host(&server);
    let person = Person::of(&host);
    person.says(&["workspaces", "rm", "toast"]).fails(3, &["in use", "stop the agent first"]);
    let table = person.says(&["workspaces"]).ok();
    let row: Vec<_> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!((&row[..3], row[5]), (&["toast", "demo", "bulkhead/toast"][..], "now"), "{table}");
    person.says(&["exec", "toast", "sh", "-c", "echo more >>README.md"]).ok();
    person.says(&["stop", "toast"]).ok();
    person.says(&["workspaces", "rm", "toast"]).fails(3, &["README.md", "not-pushed"]);
    let removed = person.says(&["workspaces", "rm", "--force", "toast"]).ok();
    assert!(removed.starts_with("removed the workspace of toast: "), "{removed}");
    assert_eq!(person.says(&["workspaces", "list"]).ok(), "no workspaces\n");
    person.says(&["workspaces", "rm", "toast"]).fails(3, &["no workspace"]);
    // One that nothing was ever written to has no work.
    std::fs::create_dir(host.dir().join("state/workspaces/idle")).expect("make a directory");
    person.says(&["workspaces", "rm", "idle"]).ok();
    host.finish();
}
