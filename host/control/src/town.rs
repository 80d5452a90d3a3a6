//! What the routes need of the town's client.

use bulkhead_types::{Secret, TownFigures};

/// The town's client as the routes see it. The daemon implements it, so that this crate knows no town. No method
/// blocks.
pub trait TownEdge: Send + Sync + 'static {
    /// Replaces the token in place. The error says why the text cannot be a token.
    fn refresh_token(&self, token: Secret) -> Result<(), String>;
    /// Sends the town one `container-ready` with this nonce, unless `town_id` names another town.
    fn acknowledge(&self, town_id: Option<&str>, nonce: &str);
    /// The figures now.
    fn figures(&self) -> TownFigures;
}
