//! Components that are named by a reference, and are fetched from elsewhere.

use futures_util::future::BoxFuture;

use super::{BroughtComponent, Incoming, UpgradeRefusal};
use crate::Supervisor;

/// Where components come from that a reference names.
pub trait ComponentSource: Send + Sync {
    /// Writes the component that `reference` names into `incoming`. `replaces` is the name of the configured component that it
    /// takes the place of: who has to have signed that one has to have signed this one.
    fn bring<'a>(
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
            let error = format!("{reference}: this host fetches nothing");
            return Err(UpgradeRefusal::NotFetched(error));
        };
        let incoming = self.receive_component().await?;
        source.bring(reference, &replaces, incoming).await
    }
}
