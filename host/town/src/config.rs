//! What the client is asked to be.

use std::time::Duration;

use bulkhead_net::{BaseUrl, Connector};
use bulkhead_types::Secret;

use crate::token::{self, TokenError};

/// How the town is called.
#[derive(Debug, Clone)]
pub struct TownConfig {
    /// Which town.
    pub town_id: String,
    /// Where its API is.
    pub api: BaseUrl,
    /// The first token. Others come by refresh.
    pub token: Secret,
    /// Through which proxy, and which certificates are believed.
    pub connector: Connector,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// One call, all its tries together.
    pub call: Duration,
    /// How long the calls about one agent are tried, while the town answers others.
    pub give_up: Duration,
}

/// Why the client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The token cannot be sent.
    #[error("town.token (GASTOWN_CONTAINER_TOKEN) {0}")]
    Token(#[source] TokenError),
    /// The thread or its runtime could not be made.
    #[error("cannot start the town's thread")]
    Thread(#[source] std::io::Error),
}

impl TownConfig {
    /// Can a client be set up like this?
    pub fn check(&self) -> Result<(), ConfigError> {
        token::check(&self.token).map_err(ConfigError::Token)
    }
}
