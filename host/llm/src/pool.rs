//! Connections that wait for the next call.

use std::time::Duration;

use bulkhead_net::Idle;
use hyper::body::Incoming;

use crate::connection::Connection;

/// Most connections of a thread that wait at one endpoint.
const MAX_IDLE: usize = 8;

/// After so long a wait a connection is not used again: many servers and routers have forgotten it by then. It closes
/// at the next use of the endpoint, because nothing runs in between.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Idle connections, each with the end of its last response where that had not arrived when its answer was over.
pub(crate) struct Pool(Idle<(Connection, Option<Incoming>)>);

impl Default for Pool {
    fn default() -> Self {
        Self(Idle::new(MAX_IDLE, MAX_WAIT))
    }
}

impl Pool {
    /// Keeps a connection whose last response is read to its end, or as good as that.
    pub(crate) fn put(&self, mut connection: Connection, mut rest: Option<Incoming>) {
        // Otherwise the rest may still be on its way.
        if !connection.is_ready(&mut rest) && (rest.is_none() || !connection.is_open()) {
            return;
        }
        connection.is_reused = true;
        self.0.put(connection.runtime, (connection, rest));
    }

    /// A connection that can be used at once. One that the server closed is noticed and left out.
    pub(crate) fn take(&self) -> Option<Connection> {
        loop {
            let (mut connection, mut rest) = self.0.take()?;
            if connection.is_ready(&mut rest) {
                return Some(connection);
            }
        }
    }
}
