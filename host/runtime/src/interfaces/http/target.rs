//! Where a request goes: the addresses of its name that its agent's policy allows, and the connection to one of them.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use bulkhead_net::{Addresses, Boxed, ConnectError, Connected, Destination, Judged, Step};
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, Result};

use super::{Agent, Lookups};

/// "Blocked" among the extended DNS errors (RFC 8914): a policy of those who run the resolver. Of all the errors of
/// `wasi:http` that say what happened, only this kind has room for a text.
const BLOCKED: u16 = 15;

/// Connects for an agent, to addresses that its policy admits. It may take so long in all. Where a proxy is on the
/// way the name is looked up there, and what the proxy may reach is the proxy's business.
pub(super) async fn connect(
    agent: &Agent,
    to: &Destination,
    patience: Duration,
) -> Result<Connected> {
    let admit = |to: &Destination, address| agent.policy.admit_address(&to.host, to.port, address);
    let judged = Judged { found: SharedResolver(agent.lookups.clone()), admit };
    let mut step = Step::Resolving;
    let connecting = agent.connector.connect(to, &judged, patience, &mut step);
    match timeout(patience, connecting).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => {
            match &error {
                ConnectError::Refused(why) => agent.refused(why),
                ConnectError::Tls { .. } | ConnectError::Proxy { .. } => agent.failed(&error),
                ConnectError::Resolve { .. } | ConnectError::Connect { .. } => {}
            }
            Err(wasi_error(error))
        }
        Err(_) if step == Step::Resolving => Err(Error::DnsTimeout),
        Err(_) => Err(Error::ConnectionTimeout),
    }
}

/// Asks the resolver of the system in the agent's share, unless the host is an address.
#[derive(Clone)]
pub(crate) struct SharedResolver(pub(crate) Lookups);

impl Addresses for SharedResolver {
    fn of<'a>(&'a self, to: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>> {
        Box::pin(self.look_up(to))
    }
}

impl SharedResolver {
    async fn look_up(&self, to: &Destination) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Some(address) = to.address() {
            return Ok(vec![SocketAddr::new(address, to.port)]);
        }
        let failed = |reason: String| ConnectError::Resolve { host: to.host.clone(), reason };
        let (host, port) = (to.host.clone(), to.port);
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        let found: Vec<_> = match self.0.run(look_up).await {
            Ok(found) => found.map_err(|error| failed(error.to_string()))?,
            Err(error) => return Err(failed(error)),
        };
        if found.is_empty() {
            return Err(failed("it has no address".into()));
        }
        Ok(found)
    }
}

fn wasi_error(error: ConnectError) -> Error {
    match error {
        ConnectError::Resolve { reason, .. } => {
            Error::DnsError { rcode: Some(reason), info_code: None }
        }
        ConnectError::Refused(reason) => {
            Error::DnsError { rcode: Some(reason), info_code: Some(BLOCKED) }
        }
        ConnectError::Connect { source, .. } => Error::Connect(source),
        ConnectError::Proxy { .. } => Error::InternalError(Some(error.to_string())),
        ConnectError::Tls { reason, .. } => Error::Tls(std::io::Error::other(reason)),
    }
}
