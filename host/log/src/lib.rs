//! Where facts land.
//!
//! ```text
//!  any crate ── Sink::record(Event) ──▶ Log ── bounded buffer ──▶ writer thread ──▶ stdout, as JSON or as text
//!  tracing (libraries, host) ─────────▶ Diagnostics layer ─────▶ Log, as `container.log`
//! ```
//!
//! Nothing here blocks its caller: a full buffer drops lines and counts them, and the gap in `seq` shows
//! the reader. What the lines are stands in `docs/events.md`, which is made by a test. Every fact that passes the log is counted ([`Counts`]), for `GET /metrics`.

mod budget;
mod context;
mod counts;
mod diagnostics;
mod durations;
#[cfg(test)]
mod examples;
mod gauge;
mod held;
mod line;
mod log;
#[cfg(test)]
mod reference;
mod repeats;
mod roles;
pub mod schema;
#[cfg(test)]
mod shown;

pub use budget::Budget;
pub use context::{RunContext, now};
pub use counts::Counts;
pub use diagnostics::Diagnostics;
pub use durations::{DurationFigures, Durations};
pub use gauge::{Counted, Gauge};
pub use held::Held;
pub use log::{Format, Log, LogConfig};
pub use roles::RoleFigures;

use std::sync::Arc;

use bulkhead_account::Account;
use bulkhead_types::Event;

/// Takes facts. The one way upward for everything below `daemon`.
pub trait Sink: Send + Sync {
    /// Takes one fact. Returns at once, whatever becomes of it.
    fn record(&self, event: Event);

    /// Takes a fact that an agent caused. What waits of it for the log is held by the agent's account;
    /// a line that the account has no room for is dropped and counted like one that the buffer has none for.
    fn record_for(&self, event: Event, account: &Arc<Account>) {
        let _ = account;
        self.record(event);
    }
}

/// The sink as it is handed around.
pub type SharedSink = Arc<dyn Sink>;
