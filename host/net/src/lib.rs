//! Outgoing connections of the whole host: agents, the town's client, the client commands.
//!
//! ```text
//!   URL ─▶ Destination ─▶ a proxy? ── no ──▶ its addresses, judged ─┐
//!                             │ yes                                 ├─▶ TCP, both families raced ─▶ TLS ─▶ stream
//!                             └────────────▶ the proxy's addresses ─┘         └─▶ CONNECT ─▶ TLS ─▶ stream
//! ```
//!
//! - [`url`]: base URLs, and the destination of a request
//! - [`connect`]: from a destination to a stream
//! - [`proxy`]: `HTTP_PROXY` and its kin
//! - [`exchange`]: requests for small documents, one at a time
//! - [`idle`]: connections that wait for the next request
//! - [`trust`]: which certificates are believed
//! - [`interim`]: a bound on interim answers
//! - [`credential`]: a key that may change while the host runs
//! - [`reachable`]: where a listener of this machine is reached
//! - [`wait`]: what a server says about trying again

pub mod connect;
pub mod credential;
pub mod exchange;
pub mod idle;
pub mod interim;
pub mod proxy;
mod reachable;
pub mod trust;
pub mod url;
pub mod wait;

pub use connect::{
    Addresses, Boxed, ConnectError, Connected, Connector, Judged, Route, Step, Stream, System,
};
pub use credential::{Credential, ReadCredential};
pub use exchange::{ExchangeError, Exchanges};
pub use idle::Idle;
pub use interim::Interim;
pub use proxy::{Proxies, ProxyError};
pub use reachable::reachable;
pub use trust::{Trust, TrustError};
pub use url::{BaseUrl, Destination, UrlError};
pub use wait::retry_after;

use std::ffi::OsString;

/// Reads a variable of the environment as text. One that is empty counts as not set.
fn text(
    variable: &impl Fn(&str) -> Option<OsString>,
    name: &str,
) -> Result<Option<String>, NotUtf8> {
    match variable(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(NotUtf8(name.to_owned())),
    }
}

/// A variable that is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no UTF-8")]
pub struct NotUtf8(String);
