//! The crate against a registry on a real socket.

mod faults;
mod kill;
mod logins;
mod server;
mod signed;

use std::fs;
use std::time::Duration;

use bulkhead_net::Connector;
use bulkhead_types::Digest;
use tempfile::TempDir;

use self::server::Server;
use crate::{Cause, Component, PublicKey, Reference, Registries, Settings, Times};

/// A component of some pieces.
fn wasm() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A registry, and a host beside it.
struct Town {
    server: Server,
    dir: TempDir,
    settings: Settings,
}

impl Town {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path().join("components"), Connector::default());
        settings.times = Times { fetch: Duration::from_secs(60), ..Times::default() };
        Self { server: Server::start(), dir, settings }
    }

    fn reference(&self, digest: Digest) -> Reference {
        let text = format!("oci://{}/town/toast:v1@sha256:{digest}", self.server.at);
        Reference::parse(&text).unwrap()
    }

    fn registries(&self) -> Registries {
        Registries::open(self.settings.clone())
    }

    /// As a new process would.
    async fn get(&self, digest: Digest) -> Result<Component, Cause> {
        self.get_signed(digest, None).await
    }

    async fn get_signed(
        &self,
        digest: Digest,
        key: Option<&PublicKey>,
    ) -> Result<Component, Cause> {
        let got = self.registries().get(&self.reference(digest), key).await;
        got.map_err(|error| {
            let text = error.to_string();
            assert!(text.starts_with(&self.reference(digest).to_string()), "{text}");
            *error.cause
        })
    }

    /// Directories of the cache, entries or not.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.settings.dir).into_iter().flatten();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[track_caller]
    fn has_nothing(&self) {
        assert_eq!(self.entries(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_component_is_fetched_once_and_then_needs_no_network() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    assert!(town.registries().kept(&town.reference(digest), None).unwrap().is_none());
    let component = town.get(digest).await.unwrap();
    assert!(fs::read(&component.path).unwrap() == wasm());
    assert_eq!(component.digest, server::digest(&wasm()));
    assert_eq!(*component.path, *town.settings.place(&town.reference(digest)));
    assert_eq!(town.server.asked().len(), 2, "{:?}", town.server.asked());
    let reference = town.reference(digest);
    let Town { server, settings, dir: _dir } = town;
    drop(server);
    let registries = Registries::open(settings);
    assert_eq!(registries.get(&reference, None).await.unwrap().path, component.path);
    assert!(registries.kept(&reference, None).unwrap().is_some());
}

#[tokio::test]
async fn an_index_leads_to_the_component() {
    let town = Town::new();
    let manifest = town.server.push(&wasm());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"sha256:{manifest}","size":9,"platform":{{"architecture":"wasm","os":"wasip2"}}}}]}}"#
    );
    let path = format!("/v2/town/toast/manifests/sha256:{}", server::digest(index.as_bytes()));
    let digest = town.server.put(&path, index.as_bytes());
    assert!(fs::read(&town.get(digest).await.unwrap().path).unwrap() == wasm());
    assert_eq!(town.entries(), [digest.to_string()]);
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_download() {
    let town = Town::new();
    let digest = town.server.push(&wasm());
    let (registries, reference) = (town.registries(), town.reference(digest));
    let callers = (0..8).map(|_| registries.get(&reference, None));
    let got = futures_util::future::join_all(callers).await;
    assert!(got.iter().all(Result::is_ok), "{got:?}");
    assert_eq!(town.server.asked_for("/blobs/").len(), 1);
}

#[tokio::test]
async fn one_caller_that_gives_up_does_not_end_the_download_of_another() {
    let mut town = Town::new();
    town.settings.times.stall = Duration::from_secs(1);
    let digest = kill::hangs_in_the_middle(&town);
    let (registries, reference) = (town.registries(), town.reference(digest));
    let mut first = Box::pin(registries.get(&reference, None));
    let mut second = Box::pin(registries.get(&reference, None));
    let step = Duration::from_millis(5);
    while registries.waiting(&reference) < 2 || town.server.asked_for("/blobs/").is_empty() {
        assert!(tokio::time::timeout(step, &mut first).await.is_err());
        assert!(tokio::time::timeout(step, &mut second).await.is_err());
    }
    drop(first);
    assert!(fs::read(&second.await.unwrap().path).unwrap() == wasm());
    let asked = town.server.asked_for("/blobs/");
    assert!(asked.iter().skip(1).all(|it| it.range.is_some()), "begun again: {asked:?}");
}

#[tokio::test]
async fn a_manifest_without_a_component_costs_no_download() {
    let town = Town::new();
    let tar = format!(
        r#"{{"mediaType":"application/x-tar","digest":"sha256:{}","size":9}}"#,
        Digest([1; 32])
    );
    let cause = town.get(town.server.manifest(&tar)).await.unwrap_err();
    assert!(cause.to_string().contains("it has application/x-tar"), "{cause}");
    let wasm = tar.replace("x-tar", "wasm");
    let cause = town.get(town.server.manifest(&format!("{wasm},{wasm}"))).await.unwrap_err();
    assert!(cause.to_string().contains("2 layers of components"), "{cause}");
    assert!(town.server.asked_for("/blobs/").is_empty());
    town.has_nothing();
}

#[tokio::test]
async fn a_component_that_is_too_large_is_not_downloaded() {
    let mut town = Town::new();
    town.settings.bounds.max_component_bytes = 1000;
    let cause = town.get(town.server.push(&[0; 1001])).await.unwrap_err();
    assert!(cause.to_string().ends_with("has 1001 bytes, at most 1000 are taken"), "{cause}");
    assert!(town.server.asked_for("/blobs/").is_empty());
    town.get(town.server.push(&[0; 1000])).await.unwrap();
}
