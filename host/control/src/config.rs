//! What the server is asked to be, and its bounds.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bulkhead_types::Secret;
use serde::Deserialize;

use crate::AllowedHost;

/// How a control server is set up.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where to listen. Port 0 takes any free port; [`crate::ControlServer::local_addr`] says which.
    pub listen: SocketAddr,
    /// When set, every route but `/health`, `/livez` and `/readyz` needs `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// Listen beyond loopback although there is no token.
    pub allow_unauthenticated: bool,
    /// Names that the server may be asked by, beside `localhost` and literal addresses.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Where health, readiness, liveness and metrics are answered as well, to everybody, and nothing else.
    pub probe_listen: Option<SocketAddr>,
    /// What clients of `POST /mcp` may do.
    pub mcp: Mcp,
    /// Bounds on what clients may cost.
    pub limits: ControlLimits,
}

/// What clients of `POST /mcp` may do. With the token they may do everything by other routes: this is about models that
/// have only the tools of this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mcp {
    /// Nothing.
    Off,
    /// Look.
    #[default]
    Read,
    /// Look, send messages, start and stop agents.
    Change,
}

/// Bounds on what clients may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlLimits {
    /// Open connections, 512. One control plane, its dashboards and probes need tens; an idle one
    /// costs a few KiB. A connection above it takes the place of the oldest that has shown no token, else of the
    /// one with the token that waits for longest.
    pub connections: usize,
    /// Connections beside those, 64, while all of those are at work with the token. A probe is answered, whatever
    /// else comes is 503. Above: closed without a word.
    pub probe_connections: usize,
    /// Streams that are open at one time, 2048, beside those connections. Above: 503.
    pub streams: usize,
    /// Without another frame of a stream, a heartbeat comes this often, 15 s: proxies close connections on which nothing
    /// happens, and only a write shows that a client is gone.
    pub heartbeat: Duration,
    /// From the first wait for a request to its last header byte, 10 s. It also ends a kept
    /// connection on which nothing happens. No answer is sent: the connection is closed.
    pub header_read: Duration,
    /// Request line and headers of one request, 16 KiB: an agent id of 10,000 characters still gets
    /// a reasoned 400 instead of a bare 431.
    pub header_bytes: usize,
    /// One `X-Town-Config`, 512 KiB: twice as much as its values may have, for JSON. It is no part of the head that
    /// `header_bytes` bounds. Above, it is not read; its request is answered.
    pub config_bytes: usize,
    /// Such headers of more than 16 KiB that are held at one time, 16. Above: the oldest is not read.
    pub large_configs: usize,
    /// One request body, 2 MiB: a prompt of 1 MiB in which every second byte is escaped. Above: 413.
    pub body_bytes: usize,
    /// All request bodies that are held at one time, 64 MiB. Above: 503, to be tried again.
    pub bodies_bytes: usize,
    /// The rest of a refused body that is read and thrown away, 16 MiB. Without it the client would
    /// still be sending when the connection closes, and would see a reset instead of the answer. As much is read of
    /// what is not kept of `X-Town-Config` in one head; above: 431.
    pub discard_bytes: usize,
    /// From the last header byte to the last byte of the body, 30 s. Later: 408.
    pub body_read: Duration,
    /// A refused client that sends nothing of its body for this long, 1 s, gets its answer.
    pub body_quiet: Duration,
    /// The same inside a body, 10 s: a client that sends one does not read yet, and would see a reset.
    pub body_pause: Duration,
    /// A client that takes no byte of an answer for this long, 30 s, is disconnected.
    pub write_stall: Duration,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            probe_connections: 64,
            streams: 2048,
            heartbeat: Duration::from_secs(15),
            header_read: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            config_bytes: 512 * 1024,
            large_configs: 16,
            body_bytes: 2 * 1024 * 1024,
            bodies_bytes: 64 * 1024 * 1024,
            discard_bytes: 16 * 1024 * 1024,
            body_read: Duration::from_secs(30),
            body_quiet: Duration::from_secs(1),
            body_pause: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
        }
    }
}

impl ControlLimits {
    /// No more connections than a process has descriptors for that may have so many open: it needs most of them for
    /// something else.
    pub fn fit_into(&mut self, open_files: usize) {
        self.connections = self.connections.min((open_files / 4).max(1));
        self.streams = self.streams.min((open_files / 4).max(1));
        self.probe_connections = self.probe_connections.min((open_files / 32).max(1));
    }
}

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Anybody who reaches the address could run agents.
    #[error(
        "refuse to listen on {0} without a token: anybody who reaches it could run agents; set \
         BULKHEAD_CONTROL_TOKEN, listen on 127.0.0.1, or set allow_unauthenticated"
    )]
    Unauthenticated(SocketAddr),
    /// An empty token protects nothing, and is nearly always an unset variable.
    #[error("the control token is empty; set BULKHEAD_CONTROL_TOKEN to a value, or leave it unset")]
    EmptyToken,
    /// A token with blanks or control characters cannot be sent in a header.
    #[error(
        "the control token has blanks or characters that a header cannot carry; use visible ASCII"
    )]
    UnusableToken,
    /// Somebody listens there already.
    #[error(
        "{address} is in use by another process; stop that one, or listen elsewhere with {variable} \
         (port 0 takes any free port)"
    )]
    AddressInUse {
        /// Where.
        address: SocketAddr,
        /// What says where.
        variable: &'static str,
    },
    /// The control API and the probes cannot share an address.
    #[error(
        "{probe} of server.probe_listen is taken by server.listen ({listen}); choose another one, or set BULKHEAD_PROBE_LISTEN"
    )]
    SameAddress {
        /// Of the probes.
        probe: SocketAddr,
        /// Of the control API.
        listen: SocketAddr,
    },
    /// The system does not let the server listen there.
    #[error("cannot listen on {address}; check the address and the permissions, or set {variable}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What says where.
        variable: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The server's own thread or runtime could not be made.
    #[error("cannot start the control server's thread")]
    Thread(#[source] std::io::Error),
}

impl ControlConfig {
    /// Can the token that is configured be sent?
    pub fn check_token(&self) -> Result<(), ControlError> {
        match &self.token {
            Some(token) if token.expose().is_empty() => Err(ControlError::EmptyToken),
            Some(token) if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(ControlError::UnusableToken)
            }
            _ => Ok(()),
        }
    }

    /// Can it listen at all its addresses at a time?
    pub fn check_addresses(&self) -> Result<(), ControlError> {
        let listen = self.listen;
        match self.probe_listen.filter(|probe| meet(listen, *probe)) {
            Some(probe) => Err(ControlError::SameAddress { probe, listen }),
            None => Ok(()),
        }
    }

    /// May a server be set up like this?
    pub fn check(&self) -> Result<(), ControlError> {
        self.check_token()?;
        self.check_addresses()?;
        match &self.token {
            Some(_) => Ok(()),
            None if self.allow_unauthenticated => Ok(()),
            None if self.listen.ip().to_canonical().is_loopback() => Ok(()),
            None => Err(ControlError::Unauthenticated(self.listen)),
        }
    }
}

/// Whether one of two listeners finds its port taken by the other: on `[::]` the kernel takes IPv4 as well. Port 0 is any
/// free one.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let (here, there) = (one.ip().to_canonical(), other.ip().to_canonical());
    let takes = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let is_shared = here == there || takes(here, there) || takes(there, here);
    one.port() != 0 && one.port() == other.port() && is_shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, token: Option<&str>, allow_unauthenticated: bool) -> ControlConfig {
        ControlConfig {
            listen: listen.parse().unwrap(),
            token: token.map(|token| Secret::from(token.to_owned())),
            allow_unauthenticated,
            allowed_hosts: Vec::new(),
            probe_listen: None,
            mcp: Mcp::default(),
            limits: ControlLimits::default(),
        }
    }

    #[test]
    fn loopback_needs_no_token() {
        for listen in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(config(listen, None, false).check().is_ok(), "{listen}");
        }
    }

    #[test]
    fn elsewhere_needs_a_token_or_a_deliberate_flag() {
        for listen in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080"] {
            let error = config(listen, None, false).check().unwrap_err().to_string();
            assert!(error.contains(listen) && error.contains("BULKHEAD_CONTROL_TOKEN"), "{error}");
            assert!(config(listen, Some("t"), false).check().is_ok());
            assert!(config(listen, None, true).check().is_ok());
        }
    }

    #[test]
    fn a_token_that_cannot_work_is_refused() {
        for token in ["", "a b", "a\n", "ä"] {
            assert!(config("127.0.0.1:0", Some(token), true).check().is_err(), "{token:?}");
        }
    }

    #[test]
    fn two_listeners_meet_where_the_kernel_refuses_the_second() {
        let meet =
            |one: &str, other: &str| super::meet(one.parse().unwrap(), other.parse().unwrap());
        for (one, other, refused) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("0.0.0.0:8080", "127.0.0.1:8080", true),
            ("[::1]:8080", "[::]:8080", true),
            ("[::]:8080", "127.0.0.1:8080", true),
            ("[::]:8080", "0.0.0.0:8080", true),
            ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "127.0.0.2:8080", false),
            ("127.0.0.1:8080", "127.0.0.1:8081", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:8080", "[::1]:8080", false),
        ] {
            assert_eq!((meet(one, other), meet(other, one)), (refused, refused), "{one} {other}");
        }
    }
}
