//! Connections that wait for the next call.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use tokio::time::Instant;

use crate::connection::Connection;

/// Most connections that wait at one endpoint.
const MAX_IDLE: usize = 8;

/// After so long a wait a connection is not used again: many servers and routers have forgotten it by then. It closes
/// at the next use of the endpoint, because nothing runs in between.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Idle connections, the latest last.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Idle>>);

struct Idle {
    connection: Connection,
    /// The end of the last response, which had not arrived when its answer was over.
    rest: Option<Incoming>,
    since: Instant,
}

impl Pool {
    /// Keeps a connection whose last response is read to its end, or as good as that.
    pub(crate) fn put(&self, mut connection: Connection, mut rest: Option<Incoming>) {
        // Otherwise the rest may still be on its way.
        if !connection.is_ready(&mut rest) && (rest.is_none() || !connection.is_open()) {
            return;
        }
        connection.is_reused = true;
        let since = Instant::now();
        let mut idle = self.fresh();
        if idle.len() == MAX_IDLE {
            idle.remove(0);
        }
        idle.push(Idle { connection, rest, since });
    }

    /// A connection that can be used at once. One that the server closed is noticed and left out.
    pub(crate) fn take(&self) -> Option<Connection> {
        loop {
            let mut latest = self.fresh().pop()?;
            if latest.connection.is_ready(&mut latest.rest) {
                return Some(latest.connection);
            }
        }
    }

    /// Those that have not waited for too long.
    fn fresh(&self) -> MutexGuard<'_, Vec<Idle>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < MAX_WAIT);
        idle
    }
}
