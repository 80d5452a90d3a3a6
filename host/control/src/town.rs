//! What the routes need of the town's client.

use std::sync::Arc;

use bulkhead_town::{Figures, Handle};
use bulkhead_types::Secret;

/// The town's client as the routes see it. A trait, so that the server's own tests need no town. Nothing of it
/// waits.
pub trait TownEdge: Send + Sync + 'static {
    /// Swaps the token in place. An error says why it cannot be one.
    fn refresh_token(&self, token: Secret) -> Result<(), String>;
    /// Has the town told, once, when the container is ready. Not for another town.
    fn acknowledge(&self, town_id: Option<&str>, nonce: &str);
    /// The figures now.
    fn figures(&self) -> Figures;
}

impl TownEdge for Handle {
    fn refresh_token(&self, token: Secret) -> Result<(), String> {
        Handle::refresh_token(self, token).map_err(|error| error.to_string())
    }

    fn acknowledge(&self, town_id: Option<&str>, nonce: &str) {
        if town_id.is_none_or(|asked| asked == self.town_id()) {
            Handle::acknowledge(self, nonce);
        }
    }

    fn figures(&self) -> Figures {
        Handle::figures(self)
    }
}

/// The town, when the container has one.
#[derive(Clone)]
pub(crate) struct Town(pub(crate) Option<Arc<dyn TownEdge>>);
