//! A process that is ended while it fetches.

use std::process::{Command, Stdio};

use support::launcher::spawn_bound;

use super::server::{Reply, Then};
use super::*;

const REFERENCE: &str = "OCI_TEST_REFERENCE";
const DIR: &str = "OCI_TEST_DIR";

/// The process that is killed.
#[tokio::test]
#[ignore = "a part of the test below"]
async fn fetches_what_never_ends() {
    let Ok(reference) = std::env::var(REFERENCE) else { return };
    let dir = std::env::var(DIR).unwrap();
    let settings = Settings::new(dir.into(), Connector::default());
    let got = Registries::open(settings).get(&reference.parse().unwrap(), None).await;
    panic!("{got:?}");
}

pub(super) fn hangs_in_the_middle(town: &Town) -> Digest {
    let digest = town.server.push(&wasm());
    town.server.answers(|asked, before| {
        let hangs = Reply::new(200, &wasm()).sends(500_000, Then::Hangs);
        (asked.path.contains("/blobs/") && before == 0).then_some(hangs)
    });
    digest
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_that_is_believed() {
    let town = Town::new();
    let digest = hangs_in_the_middle(&town);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "tests::kill::fetches_what_never_ends", "--ignored"])
        .env(REFERENCE, town.reference(digest).to_string())
        .env(DIR, &town.settings.dir)
        .stdout(Stdio::null());
    let mut child = spawn_bound(command).unwrap();
    town.server.wait_for("/blobs/", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = town.entries();
    assert!(matches!(&*left, [new] if new.starts_with(".new-")), "{left:?}");
    let registries = town.registries();
    town.has_nothing();
    assert!(registries.kept(&town.reference(digest), None).unwrap().is_none());
    let component = registries.get(&town.reference(digest), None).await.unwrap();
    assert!(fs::read(&component.path).unwrap() == wasm());
}

#[tokio::test]
async fn a_fetch_that_nobody_wants_any_more_leaves_nothing() {
    let town = Town::new();
    let digest = hangs_in_the_middle(&town);
    let registries = town.registries();
    let reference = town.reference(digest);
    let mut fetch = Box::pin(registries.get(&reference, None));
    while town.server.asked_for("/blobs/").is_empty() {
        let begun = tokio::time::timeout(Duration::from_millis(5), &mut fetch).await;
        assert!(begun.is_err(), "{begun:?}");
    }
    assert_eq!(town.entries().len(), 1);
    drop(fetch);
    town.has_nothing();
    registries.get(&reference, None).await.unwrap();
}
