//! Connects the routes of the control API with the town's client.

use bulkhead_control::TownEdge;
use bulkhead_town::Handle;
use bulkhead_types::{Secret, TownFigures};

/// The town's client as the control API sees it.
pub struct TownClient(pub Handle);

impl TownEdge for TownClient {
    fn refresh_token(&self, token: Secret) -> Result<(), String> {
        self.0.refresh_token(token).map_err(|error| error.to_string())
    }

    fn acknowledge(&self, town_id: Option<&str>, nonce: &str) {
        if town_id.is_none_or(|asked| asked == self.0.town_id()) {
            self.0.acknowledge(nonce);
        }
    }

    fn figures(&self) -> TownFigures {
        self.0.figures()
    }
}
