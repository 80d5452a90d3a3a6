//! Git, or the host's wish for it, that ends at random moments.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bulkhead_workspace::{Paths, Run as _};
use rustix::process::{Signal, kill_process_group};

use crate::support::{Bench, author, git, remove};

/// How many times a prepare is interrupted.
fn rounds() -> u64 {
    std::env::var("WORKSPACE_KILLS").ok().map_or(36, |rounds| rounds.parse().unwrap())
}

fn large(bench: &Bench) {
    let noise = || (0..20_000).map(|_| fastrand::alphanumeric()).collect::<String>();
    let files: Vec<_> = (0..60).map(|n| (format!("dir{}/file{n}", n % 7), noise())).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    bench.commit("main", &files, "large");
}

/// How many times a prepare runs git: with a clone, and with a mirror that is there.
async fn calls_of_a_prepare(bench: &Bench) -> [u64; 2] {
    let workspaces = bench.workspaces();
    let calls = || bench.run.calls.load(Ordering::Relaxed);
    let before = calls();
    bench.ready(&workspaces, "first").await;
    let between = calls();
    bench.ready(&workspaces, "second").await;
    [between - before, calls() - between]
}

/// Until git runs for the nth time from now, n up to `calls`, and some way into it, or into what follows.
async fn a_moment_within(bench: &Bench, calls: u64) {
    let now = || bench.run.calls.load(Ordering::Relaxed);
    let aim = now() + fastrand::u64(1..=calls);
    while now() < aim {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_micros(fastrand::u64(..10_000))).await;
}

#[tokio::test]
async fn after_a_kill_at_any_moment_the_next_prepare_works() {
    let bench = Bench::new();
    large(&bench);
    let [cold, warm] = calls_of_a_prepare(&bench).await;
    let (mut interrupted, mut round) = (0, 0);
    // Some end before their moment comes: they do not count.
    while interrupted < rounds() {
        assert!(round < 10 * rounds(), "only {interrupted} of {round} were interrupted");
        let agent = format!("a{round}");
        if round % 3 == 0 {
            bench.run.settle(&bench.root().join("rigs/town/mirror.git")).await;
            remove(&bench.root());
        }
        let workspaces = bench.workspaces();
        let request = bench.request(&agent);
        let calls = if round % 3 == 0 { cold } else { warm };
        // A third of the rounds kills git, a third drops the request, and a third forgets all that the host knew.
        let outcome = tokio::select! {
            outcome = bench.prepare(&workspaces, &request) => Some(outcome),
            () = async {
                a_moment_within(&bench, calls).await;
                let running = *bench.run.running.lock();
                if let Some(group) = running.filter(|_| round % 3 == 1) {
                    let _ = kill_process_group(group, Signal::KILL);
                    std::future::pending::<()>().await;
                }
            } => None,
        };
        interrupted += u64::from(!matches!(outcome, Some(Ok(_))));
        let workspaces = if round % 3 == 2 {
            drop(workspaces);
            bench.workspaces()
        } else {
            workspaces
        };
        bench.prepare(&workspaces, &request).await.unwrap();
        let path = bench.path(&agent);
        assert_eq!(git(&path, ["rev-parse", "HEAD"]), bench.remote("main"));
        if !bench.run.is_sandboxed() {
            assert_eq!(git(&path, ["status", "--porcelain"]), "");
        }
        round += 1;
    }
    println!("{interrupted} of {round} were interrupted");
    let left: Vec<_> =
        fs::read_dir(bench.root().join("rigs/town/mirror.git/objects/pack")).unwrap().collect();
    assert!(
        left.iter().all(|entry| !entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("tmp_"))
    );
}

#[tokio::test]
async fn locks_of_an_operation_that_was_dropped_block_nothing() {
    let bench = Bench::new();
    large(&bench);
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    for round in 0..12 {
        bench.write("ann", "dir1/file1", &"x\n".repeat(round * 1000 + 1));
        let moment = Duration::from_micros(fastrand::u64(..40_000));
        let _ = tokio::time::timeout(moment, workspace.commit("x", &author(), &Paths::All)).await;
        let _ = tokio::time::timeout(moment, workspace.checkpoint("x")).await;
        workspace.checkpoint("y").await.unwrap();
        bench.write("ann", "y", &round.to_string());
        workspace.commit("y", &author(), &Paths::All).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_rebase_that_was_dropped_is_undone() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let workspace = bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    // So many that the kill comes before the end.
    for n in 0..150 {
        bench.write("ann", "mine", &n.to_string());
        git(&path, ["add", "mine"]);
        git(&path, ["commit", "--quiet", "-m", &n.to_string()]);
    }
    let head = git(&bench.path("ann"), ["rev-parse", "HEAD"]);
    bench.commit("main", &[("theirs", "x")], "theirs");
    workspace.fetch().await.unwrap();
    // At bad moments too: as soon as it is there, with its state half written, and later.
    for begun in [
        "rebase-merge",
        "rebase-merge/head-name",
        "rebase-merge/done",
        "rebase-merge/rewritten-list",
    ] {
        let under_way = async {
            while !path.join(".git").join(begun).exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let done = tokio::select! {
            done = workspace.rebase() => Some(done),
            () = under_way => None,
        };
        assert!(done.is_none(), "it was not interrupted: {done:?}");
        let status = workspace.status().await.unwrap();
        assert_eq!(
            (status.ahead, status.behind),
            (150, 1),
            "{begun}: neither finished nor half done"
        );
        assert_eq!(status.branch.as_deref(), Some("agent/ann"));
        assert_eq!(git(&path, ["rev-parse", "HEAD"]), head);
        assert!(status.changes.is_empty() && !path.join(".git/rebase-merge").exists());
    }
    workspace.rebase().await.unwrap();
}

#[tokio::test]
async fn what_a_killed_git_leaves_in_the_mirror_is_removed() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    bench.ready(&workspaces, "ann").await;
    bench.commit("main", &[("more", "x")], "more");
    let mirror = bench.root().join("rigs/town/mirror.git");
    let remains = [
        "refs/heads/main.lock",
        "packed-refs.lock",
        "objects/pack/tmp_pack_x",
        "incoming-1/pack/x",
    ];
    for remains in remains {
        let path = mirror.join(remains);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    bench.server.misbehave(Some(git_server::Fault::Stall));
    let before = bench.server.counts().requests;
    tokio::select! {
        done = async { bench.prepare(&workspaces, &bench.request("ben")).await } => panic!("{done:?}"),
        () = async {
            while bench.server.counts().requests == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => {}
    }
    bench.server.misbehave(None);
    let prepared = bench.prepare(&workspaces, &bench.request("ben")).await.unwrap();
    assert_eq!(prepared.head.as_str(), bench.remote("main"));
    for remains in remains {
        assert!(!mirror.join(remains).exists(), "{remains}");
    }
}

#[tokio::test]
async fn half_a_workspace_is_not_built_on() {
    let bench = Bench::new();
    let workspaces = bench.workspaces();
    let half = bench.root().join("preparing/ann");
    fs::create_dir_all(half.join(".git/refs/heads/agent")).unwrap();
    for name in ["junk", ".git/index.lock", ".git/refs/heads/agent/ann.lock", ".git/MERGE_HEAD"] {
        fs::write(half.join(name), "").unwrap();
    }
    bench.ready(&workspaces, "ann").await;
    let path = bench.path("ann");
    assert!(!path.join("junk").exists() && !path.join(".git/MERGE_HEAD").exists());
    assert_eq!(fs::read_dir(bench.root().join("preparing")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_mirror_without_its_configuration_is_repaired() {
    let bench = Bench::new();
    bench.ready(&bench.workspaces(), "ann").await;
    let mirror = bench.root().join("rigs/town/mirror.git");
    fs::remove_file(mirror.join("config")).unwrap();
    bench.ready(&bench.workspaces(), "ben").await;
    git(&bench.path("ann"), ["fsck", "--strict"]);
}
