//! Components that a reference names, and that are fetched from elsewhere.

use futures_util::future::BoxFuture;

use super::{BroughtComponent, Incoming, UpgradeRefusal};
use crate::Supervisor;

/// Fetches the components that references name.
pub trait ComponentSource: Send + Sync {
    /// Writes the component into `incoming`. `replaces` names the configured component whose place it takes: a signature
    /// that the configuration requires of that one is required of this one.
    fn fetch_into<'a>(
        &'a self,
        reference: &'a str,
        replaces: &'a str,
        incoming: Incoming,
    ) -> BoxFuture<'a, Result<BroughtComponent, UpgradeRefusal>>;
}

impl Supervisor {
    /// The component that a reference names, for [`upgrade`](Self::upgrade) of this role.
    pub async fn fetch_component(
        &self,
        role: &str,
        reference: &str,
    ) -> Result<BroughtComponent, UpgradeRefusal> {
        let (_, replaces, _) = self.0.configured(role)?;
        let Some(source) = &self.0.config.components else {
            let error = format!("{reference}: this host has no registries");
            return Err(UpgradeRefusal::NotFetched(error));
        };
        let incoming = self.receive_component().await?;
        source.fetch_into(reference, &replaces, incoming).await
    }
}
