//! Other code for all agents of a role, one after the other.
//!
//! ```text
//!   loading ─▶ rolling ─▶ proving ─▶ done: the role has it, also after a restart of the host
//!      │          │          │
//!      │          └──────────┴── an agent has a fault, or cannot keep its state; or it is taken back
//!      │                         └─▶ reverting ─▶ failed | aborted: all have what they had
//!      └── does not load: failed
//! ```
//!
//! How one agent goes on with other code is `bulkhead_agent`'s. Starts of agents that have the new code load that, and
//! all others what the role had before, until all have it. Nothing is written down before the end: a host that dies in
//! between comes back with what the role had.

mod brought;
mod rollout;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_agent::Code;
use bulkhead_api::{UpgradePhase, UpgradeView};
use bulkhead_types::{AgentSpec, Digest};
use parking_lot::Mutex;

use brought::{Brought, Replacement, Replacements, digest_of, in_place, uses};
pub use brought::{BroughtComponent, Incoming};
use rollout::Rollout;
pub use source::ComponentSource;

use crate::{Inner, Supervisor};

/// Why an upgrade did not begin, or is not shown.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeRefusal {
    /// The configuration has no such role.
    #[error("unknown role {role:?}; the configuration has {known}")]
    NoSuchRole {
        /// As it was asked for.
        role: String,
        /// Those that it has.
        known: String,
    },
    /// There was none since the host was started.
    #[error("role {0} was not upgraded since the host was started")]
    None(String),
    /// Another one is under way.
    #[error("an upgrade of role {0} is under way")]
    UnderWay(String),
    /// There is nothing to take back.
    #[error("the upgrade of role {0} has ended: there is nothing to take back")]
    Over(String),
    /// The container goes away.
    #[error("the container is going away")]
    Draining,
    /// The reference is invalid. A sentence with the reason.
    #[error("{0}")]
    BadReference(String),
    /// The component cannot be fetched, or lacks the signature that it needs. A sentence with the reason.
    #[error("{0}")]
    NotFetched(String),
    /// The state directory does not take the component.
    #[error("the component cannot be kept in the state directory: {0}")]
    Disk(#[from] io::Error),
    /// The host lost track of it.
    #[error("the host failed; its log has the details")]
    Lost,
}

/// What roles have instead of what the configuration names, and upgrades that change it.
pub(crate) struct Upgrades {
    brought: Brought,
    roles: Mutex<Roles>,
    /// Of what earlier runs left.
    notices: Vec<String>,
    /// Held by a task that gives a file its name or takes it away, until it is known who uses it.
    files: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Roles {
    replacements: Replacements,
    /// The last one of each role.
    rollouts: BTreeMap<Arc<str>, Arc<Rollout>>,
}

impl Roles {
    /// Whether a role has this file, had it before, or is about to have it.
    fn uses(&self, sha256: Digest) -> bool {
        let is_coming =
            |rollout: &Arc<Rollout>| rollout.brought == Some(sha256) && !rollout.phase().is_over();
        uses(&self.replacements, sha256) || self.rollouts.values().any(is_coming)
    }
}

impl Upgrades {
    /// What earlier runs left in `dir`.
    pub(crate) fn read(dir: PathBuf, catalog: &crate::Catalog) -> Self {
        let brought = Brought::new(dir);
        let (replacements, notices) = brought.read(catalog);
        brought.sweep(&replacements);
        let roles = Mutex::new(Roles { replacements, ..Roles::default() });
        Self { brought, roles, notices, files: tokio::sync::Mutex::default() }
    }

    /// Says which roles have something else than an earlier run left.
    pub(crate) fn report(&self) {
        self.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    }

    /// What an agent of this spec is made from, where the configuration names `configured`.
    pub(crate) fn code_for(&self, spec: &AgentSpec, configured: Code) -> Code {
        let roles = self.roles.lock();
        let rollout = roles.rollouts.get(&spec.role);
        if let Some(target) = rollout.and_then(|rollout| rollout.code_for(spec)) {
            return target;
        }
        match roles.replacements.get(&spec.role) {
            Some(replacement) if *replacement.component == *spec.component => {
                in_place(&configured, self.brought.path(replacement.sha256))
            }
            _ => configured,
        }
    }
}

impl Supervisor {
    /// A file for a component that somebody brings.
    pub async fn receive_component(&self) -> Result<Incoming, UpgradeRefusal> {
        let brought = self.0.upgrades.brought.clone();
        on_disk(move || brought.begin()).await
    }

    /// Has all agents of a role go on with other code: the component that was brought, or else what the configuration
    /// names, as its files are now. Agents on trial have `prove` to come through a turn.
    pub async fn upgrade(
        &self,
        role: &str,
        component: Option<BroughtComponent>,
        prove: Duration,
    ) -> Result<UpgradeView, UpgradeRefusal> {
        // It goes on when the caller has left: a file that was kept would be nobody's.
        let (this, role) = (self.clone(), role.to_owned());
        let begins = async move { this.begin_upgrade(&role, component, prove).await };
        let begun = self.0.container.spawner().spawn_infallible("begin an upgrade", begins).await;
        begun.ok().flatten().ok_or(UpgradeRefusal::Lost)?
    }

    async fn begin_upgrade(
        &self,
        role: &str,
        component: Option<BroughtComponent>,
        prove: Duration,
    ) -> Result<UpgradeView, UpgradeRefusal> {
        let inner = &self.0;
        let (role, component_name, configured) = inner.configured(role)?;
        if inner.container.is_draining() {
            return Err(UpgradeRefusal::Draining);
        }
        let before = inner.upgrades.roles.lock().replacements.get(&role).map(|it| it.sha256);
        let files = inner.upgrades.files.lock().await;
        let (code, replacement) = match component {
            None => (configured, None),
            Some(component) => {
                let (brought, code) = (inner.upgrades.brought.clone(), configured.clone());
                let name = component_name.to_string();
                on_disk(move || {
                    let (sha256, replaces) = (component.sha256, digest_of(&code.component)?);
                    let path = brought.keep(component)?;
                    let before = before.filter(|before| *before != sha256);
                    let replacement = Replacement { component: name, sha256, replaces, before };
                    Ok((in_place(&code, path), Some(replacement)))
                })
                .await?
            }
        };
        let brought = replacement.as_ref().map(|it| it.sha256);
        let rollout = Rollout::new(Arc::clone(&role), component_name, code, brought, prove);
        let begun = inner.begin_rollout(role, rollout);
        drop(files);
        if begun.is_err() {
            inner.forget(brought).await;
        }
        let rollout = begun?;
        let (inner, under_way) = (Arc::clone(inner), Arc::clone(&rollout));
        let name = format!("upgrade of {}", rollout.role);
        drop(self.0.container.spawner().spawn(name, async move {
            under_way.run(&inner, replacement).await;
            Ok::<_, std::convert::Infallible>(())
        }));
        Ok(rollout.view())
    }

    /// The upgrade of a role that is under way, or the last one.
    pub fn upgrade_of(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal> {
        self.0.rollout(role).map(|rollout| rollout.view())
    }

    /// Takes an upgrade back that is under way. All agents go back to the code before.
    pub fn abort_upgrade(&self, role: &str) -> Result<UpgradeView, UpgradeRefusal> {
        let rollout = self.0.rollout(role)?;
        if !rollout.abort() {
            return Err(UpgradeRefusal::Over(role.to_owned()));
        }
        Ok(rollout.view())
    }
}

impl Inner {
    fn configured(&self, role: &str) -> Result<(Arc<str>, Arc<str>, Code), UpgradeRefusal> {
        self.config.catalog.code_of(role).ok_or_else(|| UpgradeRefusal::NoSuchRole {
            role: role.to_owned(),
            known: self.config.catalog.role_names(),
        })
    }

    fn rollout(&self, role: &str) -> Result<Arc<Rollout>, UpgradeRefusal> {
        self.configured(role)?;
        let rollout = self.upgrades.roles.lock().rollouts.get(role).cloned();
        rollout.ok_or_else(|| UpgradeRefusal::None(role.to_owned()))
    }

    fn begin_rollout(
        &self,
        role: Arc<str>,
        rollout: Rollout,
    ) -> Result<Arc<Rollout>, UpgradeRefusal> {
        let mut roles = self.upgrades.roles.lock();
        let is_under_way = |rollout: &Arc<Rollout>| !rollout.phase().is_over();
        if roles.rollouts.get(&role).is_some_and(is_under_way) {
            return Err(UpgradeRefusal::UnderWay(role.to_string()));
        }
        let rollout = Arc::new(rollout);
        roles.rollouts.insert(role, Arc::clone(&rollout));
        Ok(rollout)
    }

    /// Removes files that were brought, unless a role uses them.
    async fn forget(&self, brought: impl IntoIterator<Item = Digest>) {
        let _files = self.upgrades.files.lock().await;
        for sha256 in brought {
            if self.upgrades.roles.lock().uses(sha256) {
                continue;
            }
            let brought = self.upgrades.brought.clone();
            if let Err(error) = on_disk(move || brought.remove(sha256)).await {
                tracing::warn!(%sha256, %error, "a component that no role has could not be removed");
            }
        }
    }

    /// The role has this for good. An error says that it holds until the host ends only.
    async fn commit_upgrade(
        &self,
        rollout: &Rollout,
        replacement: Option<Replacement>,
    ) -> Result<(), UpgradeRefusal> {
        let (replacements, old) = {
            let mut roles = self.upgrades.roles.lock();
            let old = match replacement {
                Some(replacement) => {
                    roles.replacements.insert(Arc::clone(&rollout.role), replacement)
                }
                None => roles.replacements.remove(&rollout.role),
            };
            rollout.ends(UpgradePhase::Done, None);
            (roles.replacements.clone(), old)
        };
        let brought = self.upgrades.brought.clone();
        on_disk(move || brought.write(&replacements)).await?;
        let before = old.as_ref().and_then(|old| old.before);
        self.forget(old.map(|old| old.sha256)).await;
        self.forget(before).await;
        Ok(())
    }
}

/// On a thread that may wait.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, UpgradeRefusal> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| UpgradeRefusal::Lost)?;
    Ok(done?)
}
