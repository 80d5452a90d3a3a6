//! Making workspaces, from a real server over HTTP.

use crate::support;

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Bench, git, recorder, try_git};
use bulkhead_workspace::{Error, Protocols, Request, Rig, Settings, silent};
use futures_util::future::join_all;
use git_server::Fault;

#[tokio::test]
async fn a_new_workspace_is_on_its_own_branch_from_the_default_one() {
    let bench = Bench::new();
    let (steps, progress) = recorder();
    let workspaces = bench.workspaces();
    let request = bench.request("ann");
    let prepared = workspaces.prepare(&bench.rig(), &request, &progress).await.unwrap();
    assert_eq!(prepared.branch, "agent/ann");
    assert_eq!(prepared.upstream, "main");
    assert_eq!(prepared.head.as_str(), bench.remote("main"));
    assert!(!prepared.reused);
    assert_eq!(bench.read("ann", "README.md"), "hello\n");
    let path = bench.path("ann");
    assert_eq!(git(&path, ["status", "--porcelain"]), "");
    assert_eq!(git(&path, ["rev-parse", "--abbrev-ref", "HEAD"]), "agent/ann");
    assert_eq!(git(&path, ["rev-parse", "--abbrev-ref", "@{upstream}"]), "origin/main");
    git(&path, ["fsck", "--strict"]);
    assert!(steps.lock().iter().any(|step| step.percent == 100));
}

#[tokio::test]
async fn a_workspace_is_reused_as_the_agent_left_it_and_without_network() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    bench.ready(&workspaces, "ann").await;
    bench.write("ann", "README.md", "changed\n");
    bench.write("ann", ".git/index.lock", "");
    bench.server.misbehave(Some(Fault::Status(500)));
    drop(workspaces);
    let prepared = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap();
    assert!(prepared.reused);
    assert_eq!(bench.read("ann", "README.md"), "changed\n");
    assert!(!bench.path("ann").join(".git/index.lock").exists());
}

#[tokio::test]
async fn a_rig_that_moved_takes_its_workspaces_along() {
    let (bench, moved) = (Bench::new(), Bench::new());
    let workspaces = bench.workspaces();
    bench.ready(&workspaces, "ann").await;
    let rig = Rig { url: moved.server.url("town.git"), ..bench.rig() };
    let prepared = workspaces.prepare(&rig, &bench.request("ann"), &silent()).await.unwrap();
    assert!(prepared.reused);
    let pushed = workspaces.workspace("ann").await.unwrap().push().await.unwrap();
    assert_eq!(moved.remote("agent/ann"), pushed.as_str());
    assert_eq!(bench.remote("agent/ann"), "");
}

#[tokio::test]
async fn another_branch_does_not_replace_the_work_of_the_first() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    bench.ready(&workspaces, "ann").await;
    let other = Request { branch: "other".to_owned(), ..bench.request("ann") };
    let error = bench.prepare(&workspaces, &other).await.unwrap_err();
    assert_eq!(error, Error::Occupied("branch agent/ann of rig town".to_owned()));
    // The same is known beforehand.
    let rig = bench.rig();
    assert_eq!(workspaces.check(&rig, &other, true).await, Err(error));
    assert_eq!(workspaces.check(&rig, &bench.request("ann"), true).await, Ok(()));
    let invalid = Request { branch: "a..b".to_owned(), ..bench.request("ann") };
    assert_eq!(workspaces.check(&rig, &invalid, false).await.unwrap_err().code(), "invalid");
    workspaces.discard("ann").await.unwrap();
    assert_eq!(bench.prepare(&workspaces, &other).await.unwrap().branch, "other");
}

#[tokio::test]
async fn files_that_are_no_workspace_are_left_alone() {
    let bench = Bench::new();
    bench.write("ann", "note", "mine");
    let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
    assert_eq!(error.code(), "occupied");
    assert_eq!(bench.read("ann", "note"), "mine");
    let empty = bench.request("ben");
    std::fs::create_dir_all(&empty.path).unwrap();
    bench.prepare(&bench.workspaces(), &empty).await.unwrap();
}

#[tokio::test]
async fn twenty_agents_at_a_time_share_one_clone() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let requests: Vec<_> = (0..20).map(|n| bench.request(&format!("a{n}"))).collect();
    let prepared =
        join_all(requests.iter().map(|request| bench.prepare(&workspaces, request))).await;
    for (request, prepared) in requests.iter().zip(prepared) {
        assert_eq!(prepared.unwrap().branch, request.branch);
        assert_eq!(bench.read(&request.agent, "README.md"), "hello\n");
    }
    let counts = bench.server.counts();
    assert_eq!(counts.packs, 1, "{counts:?}");
    // The first one, and one that began after the others had asked.
    assert!(counts.listings <= 2, "{counts:?}");
}

#[tokio::test]
async fn a_branch_that_the_remote_has_is_continued() {
    let bench = Bench::new();
    let theirs = bench.commit("agent/ann", &[("more", "x")], "before");
    let prepared = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap();
    assert_eq!(prepared.head.as_str(), theirs);
    assert_eq!(prepared.upstream, "main");
}

#[tokio::test]
async fn a_start_point_is_a_branch_a_tag_or_a_commit() {
    let bench = Bench::new();
    let first = bench.remote("main");
    git(&bench.server.path("town.git"), ["tag", "-a", "-m", "one", "v1", "main"]);
    bench.commit("main", &[("later", "x")], "later");
    let branch = bench.commit("side/way", &[("side", "x")], "side");
    let workspaces = bench.workspaces();
    for (agent, point, head, upstream) in [
        ("a", "side/way", &branch, "side/way"),
        ("b", "v1", &first, "main"),
        ("c", &first, &first, "main"),
    ] {
        let request = Request { start_point: Some(point.to_owned()), ..bench.request(agent) };
        let prepared = bench.prepare(&workspaces, &request).await.unwrap();
        assert_eq!((prepared.head.as_str(), prepared.upstream.as_str()), (head.as_str(), upstream));
    }
    for point in ["absent", &"f".repeat(40)] {
        let request = Request { start_point: Some(point.to_owned()), ..bench.request("d") };
        assert_eq!(bench.prepare(&workspaces, &request).await.unwrap_err().code(), "invalid");
    }
    let rig = Rig { default_branch: "absent".to_owned(), ..bench.rig() };
    let error = workspaces.prepare(&rig, &bench.request("e"), &silent()).await.unwrap_err();
    assert_eq!(error, Error::BranchMissing("absent".to_owned()));
}

#[tokio::test]
async fn what_is_invalid_is_refused_before_git_runs() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let good = bench.request("ann");
    for branch in ["", "-x", "a..b", "a b", "a.lock", "a/.b", "@", "a~1", "a\nb", "x/"] {
        let request = Request { branch: branch.to_owned(), ..good.clone() };
        assert_eq!(
            bench.prepare(&workspaces, &request).await.unwrap_err().code(),
            "invalid",
            "{branch}"
        );
    }
    for agent in ["", "../x", "a/b", ".a", "a\n"] {
        let request = Request { agent: agent.to_owned(), ..good.clone() };
        assert_eq!(
            bench.prepare(&workspaces, &request).await.unwrap_err().code(),
            "invalid",
            "{agent}"
        );
    }
    for url in [
        "ext::sh -c id",
        "ssh://git@host/x",
        "git@host:x",
        "file:///etc",
        "http://u:p@host/x",
        "-oProxy",
        "https://",
        "http://host/a\nb",
        "http://host/a\"b",
        "git://host/x",
        "http://host/x?y",
    ] {
        let rig = Rig { url: url.to_owned(), ..bench.rig() };
        let error = workspaces.prepare(&rig, &good, &silent()).await.unwrap_err();
        assert_eq!(error.code(), "invalid", "{url}");
    }
    assert_eq!(bench.run.calls.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_lightweight_workspace_needs_no_remote() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let request = Request { lightweight: true, ..bench.request("ann") };
    let prepared = bench.prepare(&workspaces, &request).await.unwrap();
    assert_eq!(bench.server.counts().requests, 0);
    let workspace = workspaces.workspace("ann").await.unwrap();
    let status = workspace.status().await.unwrap();
    assert_eq!(status.head, Some(prepared.head));
    assert_eq!(workspace.push().await.unwrap_err().code(), "invalid");
    assert!(bench.prepare(&workspaces, &request).await.unwrap().reused);
}

/// The directory of an agent alone gets to another machine.
fn move_machines(bench: &Bench, agent: &str) {
    let (path, away) = (bench.path(agent), bench.path("away"));
    std::fs::rename(&path, &away).unwrap();
    std::fs::remove_dir_all(bench.root()).unwrap();
    std::fs::rename(&away, &path).unwrap();
}

#[tokio::test]
async fn a_workspace_that_was_brought_from_another_machine_is_adopted_with_all_that_is_in_it() {
    let bench = Bench::new();
    bench.ready(&bench.workspaces(), "ann").await;
    bench.write("ann", "committed", "x");
    let path = bench.path("ann");
    git(&path, ["add", "committed"]);
    git(&path, ["commit", "--quiet", "-m", "not pushed"]);
    bench.write("ann", "draft", "half");
    let head = git(&path, ["rev-parse", "HEAD"]);
    move_machines(&bench, "ann");

    let workspaces = bench.workspaces();
    let stranger = bench.prepare(&workspaces, &bench.request("ann")).await.unwrap_err();
    assert_eq!(stranger.code(), "occupied");
    let request = Request { was_brought: true, ..bench.request("ann") };
    let prepared = bench.prepare(&workspaces, &request).await.unwrap();
    assert_eq!((prepared.head.as_str(), prepared.upstream.as_str()), (head.as_str(), "main"));
    assert!(prepared.reused);
    let workspace = workspaces.workspace("ann").await.unwrap();
    let status = workspace.status().await.unwrap();
    assert_eq!((status.ahead, status.changes.len()), (1, 1), "{status:?}");
    assert_eq!(workspace.push().await.unwrap().as_str(), head);
    assert_eq!(bench.remote("agent/ann"), head);
    // From now on it is this machine's.
    bench.server.misbehave(Some(Fault::Status(500)));
    assert!(bench.prepare(&workspaces, &request).await.unwrap().reused);
}

#[tokio::test]
async fn a_lightweight_workspace_that_was_brought_needs_no_remote() {
    let bench = Bench::new();
    let request = Request { lightweight: true, was_brought: true, ..bench.request("ann") };
    let made = bench.prepare(&bench.workspaces(), &request).await.unwrap();
    assert!(!made.reused);
    move_machines(&bench, "ann");
    let brought = bench.prepare(&bench.workspaces(), &request).await.unwrap();
    assert_eq!((brought.head, brought.reused), (made.head, true));
    assert_eq!(bench.server.counts().requests, 0);
}

#[tokio::test]
async fn a_repository_whose_beginning_the_remote_has_lost_is_not_taken_for_one() {
    let bench = Bench::new();
    let first = bench.remote("main");
    bench.commit("main", &[("later", "x")], "second");
    bench.ready(&bench.workspaces(), "ann").await;
    let bare = bench.server.path("town.git");
    git(&bare, ["update-ref", "refs/heads/main", &first]);
    move_machines(&bench, "ann");
    let workspaces = bench.workspaces();
    let request = Request { was_brought: true, ..bench.request("ann") };
    let error = bench.prepare(&workspaces, &request).await.unwrap_err();
    assert_eq!(error.code(), "git-failed", "{error}");
    assert!(bench.path("ann").join("later").exists(), "it stays");
    assert!(bench.prepare(&workspaces, &request).await.is_err(), "and again");
}

#[tokio::test]
async fn a_refused_credential_is_replaced_once() {
    let bench = Bench::new();
    bench.server.want(Some(("user", "s3cret-new")));
    *bench.keyring.kept.lock() = Some(("user".to_owned(), "s3cret-old".to_owned()));
    *bench.keyring.fresh.lock() = Some(("user".to_owned(), "s3cret-new".to_owned()));
    bench.ready(&bench.workspaces(), "ann").await;
    assert_eq!(*bench.keyring.asked.lock(), [false, true]);
    for (_, words) in bench.run.log.lock().iter() {
        assert!(words.iter().all(|word| !word.contains("s3cret")), "{words:?}");
    }
    let grep = std::process::Command::new("grep")
        .args(["-r", "s3cret"])
        .args([bench.root(), bench.path("ann")])
        .output()
        .unwrap();
    assert_eq!(grep.status.code(), Some(1), "{}", String::from_utf8_lossy(&grep.stdout));
}

#[tokio::test]
async fn two_refused_credentials_are_unauthorized() {
    let bench = Bench::new();
    bench.server.want(Some(("user", "right")));
    *bench.keyring.kept.lock() = Some(("user".to_owned(), "wrong".to_owned()));
    let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
    assert_eq!(error.code(), "unauthorized", "{error:?}");
    assert_eq!(*bench.keyring.asked.lock(), [false, true]);
    bench.server.want(None);
    bench.ready(&bench.workspaces(), "ann").await;
}

#[tokio::test]
async fn a_credential_does_not_follow_a_redirect() {
    let (bench, thief) = (Bench::new(), Bench::new());
    thief.server.want(Some(("user", "right")));
    bench.server.misbehave(Some(Fault::Redirect(thief.server.base())));
    *bench.keyring.kept.lock() = Some(("user".to_owned(), "right".to_owned()));
    *bench.keyring.fresh.lock() = Some(("user".to_owned(), "right".to_owned()));
    let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
    assert_eq!(error.code(), "unauthorized", "{error:?}");
    assert!(thief.server.counts().requests > 0, "git followed");
    assert_eq!(thief.server.authorizations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_failing_remote_has_its_own_errors() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    for (fault, code) in [
        (Fault::Status(500), "clone-failed"),
        (Fault::Status(403), "unauthorized"),
        (Fault::Status(404), "not-found"),
        (Fault::CutPack(100), "clone-failed"),
    ] {
        bench.server.misbehave(Some(fault.clone()));
        let error = bench.prepare(&workspaces, &bench.request("ann")).await.unwrap_err();
        assert_eq!(error.code(), code, "{fault:?}: {error:?}");
    }
    bench.server.misbehave(None);
    let rig = Rig { url: bench.server.url("absent.git"), ..bench.rig() };
    let error = workspaces.prepare(&rig, &bench.request("ann"), &silent()).await.unwrap_err();
    assert_eq!(error.code(), "not-found", "{error:?}");
    bench.ready(&workspaces, "ann").await;
}

#[tokio::test]
async fn a_slow_remote_meets_the_deadline_and_the_next_try_works() {
    let mut bench = Bench::new();
    bench.settings.network_wall = Duration::from_millis(700);
    for fault in [Fault::Stall, Fault::Slow(Duration::from_secs(5))] {
        bench.server.misbehave(Some(fault));
        let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
        assert_eq!(error.code(), "timeout", "{error:?}");
    }
    bench.server.misbehave(None);
    bench.settings.network_wall = Settings::default().network_wall;
    bench.ready(&bench.workspaces(), "ann").await;
}

#[tokio::test]
async fn prepare_as_a_whole_has_a_deadline_and_a_rig_in_use_too() {
    let mut bench = Bench::new();
    bench.settings.prepare_wall = Duration::from_millis(500);
    bench.server.misbehave(Some(Fault::Stall));
    let workspaces = bench.workspaces();
    let error = bench.prepare(&workspaces, &bench.request("ann")).await.unwrap_err();
    assert_eq!(error, Error::Timeout("prepare"));
    drop(workspaces);
    bench.settings = Settings { lock_wait: Duration::from_millis(200), ..support::settings() };
    let workspaces = bench.workspaces();
    let (ann, ben) = (bench.request("ann"), bench.request("ben"));
    // On a busy machine the first one met its deadline before it came to the server.
    let before = bench.server.counts().requests;
    tokio::select! {
        biased;
        done = bench.prepare(&workspaces, &ann) => panic!("{done:?}"),
        done = async {
            while bench.server.counts().requests == before { tokio::time::sleep(Duration::from_millis(1)).await; }
            bench.prepare(&workspaces, &ben).await
        } => assert_eq!(done.unwrap_err().code(), "locked"),
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let mut bench = Bench::new();
    let noise: String = (0..200_000).map(|_| fastrand::alphanumeric()).collect();
    bench.commit("main", &[("noise", &noise)], "large");
    bench.settings.checkout_bytes = 100_000;
    let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "the checkout", limit_bytes: 100_000 });
    assert!(!bench.path("ann").exists());
    bench.settings = Settings { mirror_bytes: 50_000, ..support::settings() };
    let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "the mirror", limit_bytes: 50_000 });
}

#[tokio::test]
async fn a_growing_mirror_is_interrupted_at_its_limit() {
    let mut bench = Bench::new();
    let noise: String = (0..300_000).map(|_| fastrand::alphanumeric()).collect();
    bench.commit("main", &[("noise", &noise)], "large");
    bench.settings.mirror_bytes = 50_000;
    bench.server.misbehave(Some(Fault::Slow(Duration::from_millis(20))));
    let error = bench.prepare(&bench.workspaces(), &bench.request("ann")).await.unwrap_err();
    assert_eq!(error, Error::TooLarge { what: "the mirror", limit_bytes: 50_000 });
}

#[tokio::test]
async fn a_partial_clone_has_the_files_of_the_start_point_and_no_others() {
    let mut bench = Bench::new();
    bench.commit("main", &[("README.md", "second\n")], "second");
    bench.settings.partial = ["town".to_owned()].into();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    assert_eq!(bench.read("ann", "README.md"), "second\n");
    let mirror = bench.root().join("rigs/town/mirror.git");
    let list = ["rev-list", "--objects", "--all", "--missing=print", "--no-object-names"];
    let missing = git(&mirror, list).lines().filter(|line| line.starts_with('?')).count();
    assert_eq!(missing, 1, "the first README.md");
    // Both change README.md: a rebase needs the file of their common commit.
    bench.write("ann", "mine", "x");
    workspace.commit("mine", &support::author(), &bulkhead_workspace::Paths::All).await.unwrap();
    workspace.push().await.unwrap();
    bench.commit("main", &[("src/a.txt", "zero\none\ntwo\nthree\n")], "theirs");
    workspace.fetch().await.unwrap();
    workspace.rebase().await.unwrap();
    workspace.push().await.unwrap();
    let merged =
        workspaces.merge(&bench.rig(), "agent/ann", "main", "merge", &support::author()).await;
    assert!(matches!(merged, Ok(bulkhead_workspace::Merge::Merged { .. })), "{merged:?}");
}

#[tokio::test]
async fn a_file_url_needs_permission() {
    let mut bench = Bench::new();
    let url = format!("file://{}", bench.server.path("town.git").display());
    let rig = Rig { url, ..bench.rig() };
    let request = bench.request("ann");
    let error = bench.workspaces().prepare(&rig, &request, &silent()).await.unwrap_err();
    assert_eq!(error.code(), "invalid");
    bench.settings.protocols = Protocols { http: false, file: true };
    let prepared = bench.workspaces().prepare(&rig, &request, &silent()).await;
    match prepared {
        // A sandbox shows the mirror and no other repository.
        Err(error) if bench.run.is_sandboxed() => assert_eq!(error.code(), "not-found"),
        prepared => assert!(!prepared.unwrap().reused),
    }
    assert_eq!(bench.server.counts().requests, 0);
}

#[tokio::test]
async fn a_dropped_prepare_does_not_block_the_next() {
    let bench = Bench::new();
    bench.server.misbehave(Some(Fault::Stall));
    let workspaces = bench.workspaces();
    let request = bench.request("ann");
    tokio::select! {
        done = bench.prepare(&workspaces, &request) => panic!("{done:?}"),
        () = async {
            while bench.server.counts().requests == 0 { tokio::time::sleep(Duration::from_millis(1)).await; }
        } => {}
    }
    bench.server.misbehave(None);
    bench.prepare(&workspaces, &request).await.unwrap();
    drop(Arc::clone(&bench.run));
}

#[test]
fn names_of_branches_are_those_that_git_takes() {
    const PIECES: [&str; 24] = [
        "a",
        "b",
        "/",
        ".",
        "..",
        "-",
        "@",
        "{",
        "@{",
        "~",
        "^",
        ":",
        "?",
        "*",
        "[",
        "\\",
        " ",
        "\t",
        "\x7f",
        ".lock",
        "é",
        "HEAD",
        "refs/heads/",
        "\"",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut accepted = 0;
    for _ in 0..400 {
        let count = fastrand::usize(1..5);
        let name: String = (0..count).map(|_| fastrand::choice(PIECES).unwrap()).collect();
        let is_good = bulkhead_workspace::check_branch(&name).is_ok();
        let git = try_git(folder.path(), ["check-ref-format", "--branch", &name]).status.success();
        // `HEAD` and `@` are names to this command, but mean something else elsewhere.
        assert!(
            is_good == git || (git && matches!(name.as_str(), "HEAD" | "@")),
            "{name:?}: {git}"
        );
        accepted += u32::from(is_good);
    }
    assert!(accepted > 20, "{accepted}");
}
