//! Components that registries have: those of the configuration, fetched at boot and as soon as they can be had, and those of
//! upgrades, fetched when somebody asks for one.
//!
//! A path stands for each of them ([`bulkhead_oci::Settings::place`]), so nothing else of the host knows of registries:
//! an agent whose component is not there yet, or not signed as it should be, fails to start as if its file were missing,
//! and the others start. What is kept counts once it was verified, with today's keys ([`Vouched`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_oci::{Component, Reference, Registries};
use bulkhead_runtime::Vouched;
use bulkhead_supervisor::{BroughtComponent, ComponentSource, Incoming, UpgradeRefusal};
use bulkhead_types::backoff::Backoff;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::config::{ComponentSettings, Settings, Wanted};

/// What a boot waits for components that are not kept.
pub const FETCH_AT_BOOT: Duration = Duration::from_secs(10);

/// Between two tries while the host runs.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));

/// The components of a configuration that registries have.
pub struct Components {
    registries: Registries,
    wanted: BTreeMap<Arc<str>, Wanted>,
    vouched: Vouched,
    /// Those that are there. What is held is not removed for another.
    held: Mutex<BTreeMap<Arc<str>, Component>>,
}

/// Why a component is not there.
pub struct Missing {
    pub name: Arc<str>,
    pub reason: String,
}

impl Components {
    /// Asks nobody yet.
    pub fn of(settings: &Settings) -> Arc<Self> {
        let ComponentSettings { registries, wanted, .. } = settings.components.clone();
        let vouched = settings.runtime.vouched.clone();
        let registries = Registries::open(registries);
        Arc::new(Self { registries, wanted, vouched, held: Mutex::default() })
    }

    /// Fetches what is not there, all at once, each within its deadline and this one. Returns what is still missing.
    pub async fn fetch(&self, within: Duration) -> Vec<Missing> {
        let wanted = self.wanted.iter().filter(|(name, _)| !self.holds(name));
        let fetched = wanted.map(|(name, wanted)| self.fetch_one(name, wanted, within));
        join_all(fetched).await.into_iter().flatten().collect()
    }

    /// Returns when all are there.
    pub async fn keep_fetching(&self) {
        for failures in 0.. {
            if self.wanted.keys().all(|name| self.holds(name)) {
                return;
            }
            sleep(BACKOFF.pause_when_asked(failures, fastrand::f64(), Some(BACKOFF.first))).await;
            for Missing { name, reason } in self.fetch(Duration::MAX).await {
                tracing::warn!(component = %name, reason, "a component could not be fetched, and is tried again");
            }
        }
    }

    /// References of those that are there, by name.
    pub fn there(&self) -> Vec<String> {
        let held = self.held.lock();
        let there = self.wanted.iter().filter(|(name, _)| held.contains_key(&***name));
        there.map(|(name, wanted)| format!("component {name}: {}", wanted.reference)).collect()
    }

    async fn fetch_one(
        &self,
        name: &Arc<str>,
        wanted: &Wanted,
        within: Duration,
    ) -> Option<Missing> {
        let got = self.registries.get(&wanted.reference, wanted.public_key.as_ref());
        let reason = match timeout(within, got).await {
            Ok(Ok(component)) => {
                self.vouched.give(name, Ok(component.digest));
                let mut held = self.held.lock();
                held.insert(Arc::clone(name), component);
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{} was not there after {within:?}", wanted.reference),
        };
        self.vouched.give(name, Err(reason.clone()));
        Some(Missing { name: Arc::clone(name), reason })
    }

    fn holds(&self, name: &Arc<str>) -> bool {
        self.held.lock().contains_key(name)
    }
}

impl ComponentSource for Components {
    fn fetch_into<'a>(
        &'a self,
        reference: &'a str,
        replaces: &'a str,
        incoming: Incoming,
    ) -> BoxFuture<'a, Result<BroughtComponent, UpgradeRefusal>> {
        Box::pin(async move {
            let reference = Reference::parse(reference)
                .map_err(|error| UpgradeRefusal::BadReference(error.to_string()))?;
            let key = self.wanted.get(replaces).and_then(|wanted| wanted.public_key.as_ref());
            let fetched = self.registries.get(&reference, key).await;
            let component =
                fetched.map_err(|error| UpgradeRefusal::NotFetched(error.to_string()))?;
            // It may make room for others as soon as it is copied.
            let copied = spawn_blocking(move || copy(&component, incoming)).await;
            Ok(copied.map_err(|_| UpgradeRefusal::Lost)??)
        })
    }
}

fn copy(component: &Component, mut into: Incoming) -> io::Result<BroughtComponent> {
    io::copy(&mut File::open(&component.path)?, &mut into)?;
    into.finish()
}
