//! Repositories and what a workspace may take: `workspace_mb` and `workspace_entries`.

use std::path::Path;

use bulkhead_types::ExitReason;
use harness::{Host, files, json};

use super::remote::Remote;
use super::{ask, sh, start};

/// A host whose agents may have so much in their workspaces.
fn host(remote: &Remote, limits: &str) -> Host {
    let rig = format!("[rigs.demo]\nurl = \"{}\"", remote.server.url("demo.git"));
    let role = format!("git = true\ntools = [\"git\", \"sh\"]\n{limits}");
    let program = files::component("toolbox");
    Host::builder()
        .component("toolbox", &program)
        .role("toolbox", "toolbox", &role)
        .toml(&rig)
        .start()
}

/// Of all files below a directory.
fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
        _ => entry.metadata().map_or(0, |it| it.len()),
    });
    bytes.sum()
}

/// What cannot be compressed, in letters.
fn noise(bytes: usize) -> String {
    (0..bytes).map(|_| fastrand::alphanumeric()).collect()
}

#[test]
fn git_of_the_host_fills_no_workspace_above_its_limit() {
    const LIMIT: u64 = 2 << 20;
    let remote = Remote::new();
    let host = host(&remote, "workspace_mb = 2");
    start(&host, json!({})).expect(201);
    // A file that keeps its size, and a new object of the repository for each of its contents.
    for verb in ["checkpoint", "commit"] {
        let mut rounds = (0..20).map(|_| {
            sh(&host, "head -c 300k /dev/urandom >file");
            ask(&host, json!({"do": verb, "say": "again"}))
        });
        let refused = rounds.find(|reply| reply["error"].is_string());
        let refused = refused.unwrap_or_else(|| panic!("twenty times {verb}"));
        assert_eq!(refused["error"], "workspace-too-large", "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("workspace_mb") && message.contains("2097152"), "{refused}");
        let taken = bytes_in(&host.workspace("toast"));
        assert!(taken < LIMIT + 600_000, "{verb}: {taken}");
        // What the agent deletes makes room again.
        ask(
            &host,
            json!({"do": "run", "run": ["sh", "-c", "rm -rf .git/refs/bulkhead && git prune --expire=now"]}),
        );
    }
    host.finish();
}

#[test]
fn a_repository_that_is_larger_than_the_workspace_is_refused_at_the_start() {
    let remote = Remote::new();
    remote.commit(&[("large", &noise(1_500_000))], "large");
    let small = host(&remote, "workspace_mb = 1");
    check_refused(&small, &["1507328", "1048576", "workspace_mb"]);
    small.finish();

    let many: Vec<_> = (0..80).map(|number| format!("many/{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    remote.commit(&many, "many");
    let narrow = host(&remote, "workspace_entries = 60");
    check_refused(&narrow, &["83", "60", "workspace_entries"]);
    narrow.finish();

    // One that fits with its repository, and barely.
    let fits = host(&remote, "workspace_mb = 4\nworkspace_entries = 140");
    start(&fits, json!({})).expect(201);
    assert_eq!(sh(&fits, "ls many | wc -l")["stdout"], "80\n");
    fits.finish();
    // The files would fit, and with the repository beside them they do not.
    let tight = host(&remote, "workspace_entries = 90");
    check_refused(&tight, &["90", "workspace_entries"]);
    tight.finish();
}

#[track_caller]
fn check_refused(host: &Host, words: &[&str]) {
    let refused = start(host, json!({})).expect_error(422, words);
    let found = (refused.phase.as_deref(), refused.error_type.as_deref());
    assert_eq!(found, (Some("workspace"), Some("repository-too-large")), "{refused:?}");
    let record = host.client().crash(&refused.crash_id.unwrap());
    let found = (record.reason, record.code.as_deref());
    assert_eq!(found, (ExitReason::StartFailed, Some("too-large")));
    assert!(!host.workspace("toast").join("large").exists());
}
