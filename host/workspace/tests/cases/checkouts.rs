//! The files of a commit, which git checks out once for many workspaces.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bulkhead_workspace::Workspaces;
use futures_util::future::join_all;

use crate::support::{Bench, git};

/// Type, mode, owner and time of a file, and its bytes or where it leads.
type Seen = (u32, u32, i64, Vec<u8>);

/// A bit of everything that git can write.
fn commit_oddities(bench: &Bench) {
    bench.commit("main", &[("deep/er/than/that.txt", "x\n")], "some");
    let seed = bench.seed();
    fs::write(seed.join("empty"), "").unwrap();
    fs::write(seed.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(seed.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(seed.join("two\nlines \"and\" blanks"), "x").unwrap();
    fs::write(seed.join(OsStr::from_bytes(b"no utf8 \xff")), "x").unwrap();
    fs::write(seed.join("long".repeat(60)), "x").unwrap();
    fs::write(seed.join("large"), vec![7; 3_000_000]).unwrap();
    fs::write(seed.join(".gitattributes"), "*.crlf eol=crlf\n").unwrap();
    fs::write(seed.join("lines.crlf"), "one\r\ntwo\r\n").unwrap();
    symlink("deep/er", seed.join("link")).unwrap();
    symlink("/etc/passwd", seed.join("deep/out")).unwrap();
    symlink("nowhere", seed.join("dangling")).unwrap();
    bench.commit("main", &[("README.md", "odd\n")], "oddities");
}

/// All that a workspace has but its repository.
fn files(top: &Path) -> BTreeMap<PathBuf, Seen> {
    let (mut found, mut open) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path == top.join(".git") {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            let bytes = match metadata.file_type() {
                kind if kind.is_dir() => Vec::new(),
                kind if kind.is_symlink() => {
                    fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
                }
                _ => fs::read(&path).unwrap(),
            };
            if metadata.is_dir() {
                open.push(path.clone());
            }
            let seen = (metadata.mode(), metadata.uid(), i64::from(metadata.gid()), bytes);
            found.insert(path.strip_prefix(top).unwrap().to_owned(), seen);
        }
    }
    found
}

/// How often git has checked out.
fn checkouts(bench: &Bench) -> usize {
    let log = bench.run.log.lock();
    log.iter().filter(|(_, words)| words.iter().any(|word| word == "reset")).count()
}

/// What is kept.
fn kept(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.root().join("checkouts")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

async fn ready(bench: &Bench, workspaces: &Workspaces, agents: &[&str]) {
    for agent in agents {
        bench.ready(workspaces, agent).await;
    }
}

#[tokio::test]
async fn workspaces_of_one_commit_are_alike_and_git_checks_it_out_twice() {
    let bench = Bench::new();
    commit_oddities(&bench);
    let workspaces = bench.workspaces();
    ready(&bench, &workspaces, &["ann"]).await;
    assert_eq!((checkouts(&bench), kept(&bench).len()), (1, 0), "for one agent nothing is kept");
    ready(&bench, &workspaces, &["ben", "cid", "dee"]).await;
    assert_eq!((checkouts(&bench), kept(&bench).len()), (2, 1));
    let first = files(&bench.path("ann"));
    assert!(first.len() > 12, "{:?}", first.keys());
    for agent in ["ann", "ben", "cid", "dee"] {
        let path = bench.path(agent);
        assert_eq!(files(&path), first, "{agent}");
        // By what the index says of each file: this reads none of them.
        let stale = git(&path, ["-c", "core.trustctime=true", "diff-files", "--name-only"]);
        assert!(stale.is_empty() || bench.run.is_sandboxed(), "{agent}: {stale}");
        assert_eq!(git(&path, ["status", "--porcelain"]), "", "{agent}");
        git(&path, ["fsck", "--strict"]);
        let workspace = workspaces.workspace(agent).await.unwrap();
        assert!(workspace.status().await.unwrap().changes.is_empty(), "{agent}");
    }
}

#[tokio::test]
async fn what_one_agent_writes_is_its_own() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    ready(&bench, &workspaces, &["ann", "ben", "cid"]).await;
    for agent in ["ben", "cid"] {
        bench.write(agent, "README.md", "mine!\n");
        let workspace = workspaces.workspace(agent).await.unwrap();
        assert_eq!(workspace.status().await.unwrap().changes.len(), 1, "of the same length");
    }
    ready(&bench, &workspaces, &["dee"]).await;
    assert_eq!(checkouts(&bench), 2);
    for agent in ["ann", "dee"] {
        assert_eq!(bench.read(agent, "README.md"), "hello\n");
    }
}

#[tokio::test]
async fn many_at_a_time_wait_for_the_one_that_is_kept() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let requests: Vec<_> = (0..20).map(|n| bench.request(&format!("a{n}"))).collect();
    let prepared =
        join_all(requests.iter().map(|request| bench.prepare(&workspaces, request))).await;
    assert!(prepared.iter().all(Result::is_ok), "{prepared:?}");
    assert_eq!((checkouts(&bench), kept(&bench).len()), (2, 1));
    for request in &requests {
        assert_eq!(files(&request.path), files(&requests[0].path));
    }
}

#[tokio::test]
async fn another_commit_takes_the_place_of_the_one_that_is_kept() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    ready(&bench, &workspaces, &["ann", "ben", "cid"]).await;
    let before = kept(&bench);
    bench.commit("main", &[("README.md", "again\n")], "second");
    ready(&bench, &workspaces, &["dee", "eve", "fay"]).await;
    assert_eq!(checkouts(&bench), 4);
    for agent in ["dee", "eve", "fay"] {
        assert_eq!(bench.read(agent, "README.md"), "again\n");
    }
    let began = Instant::now();
    while kept(&bench).len() != 1 || kept(&bench) == before {
        assert!(began.elapsed().as_secs() < 10, "{:?}", kept(&bench));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_former_process_kept_is_not_believed() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    ready(&bench, &workspaces, &["ann", "ben", "cid"]).await;
    let path = kept(&bench).remove(0);
    drop(workspaces);
    // As after a crash of the machine.
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("README.md"), "").unwrap();
    let workspaces = bench.workspaces();
    ready(&bench, &workspaces, &["dee", "eve", "fay"]).await;
    for agent in ["dee", "eve", "fay"] {
        assert_eq!(bench.read(agent, "README.md"), "hello\n");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn what_cannot_be_copied_is_checked_out() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    ready(&bench, &workspaces, &["ann", "ben"]).await;
    let path = kept(&bench).remove(0);
    for damage in ["a file that is gone", "a pipe"] {
        let name = path.join("src/a.txt");
        let _ = fs::remove_file(&name);
        if damage == "a pipe" {
            assert!(std::process::Command::new("mkfifo").arg(&name).status().unwrap().success());
        }
        ready(&bench, &workspaces, &[&damage.replace(' ', "-")]).await;
    }
    assert_eq!(checkouts(&bench), 4);
    for agent in ["a-file-that-is-gone", "a-pipe"] {
        assert_eq!(files(&bench.path(agent)), files(&bench.path("ann")));
        assert_eq!(git(&bench.path(agent), ["status", "--porcelain"]), "");
    }
}
