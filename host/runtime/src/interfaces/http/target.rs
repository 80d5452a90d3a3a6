//! Where a request goes: the name, its addresses, the connection to one of them.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_model::{HttpPolicy, Level};
use http::{Uri, uri::Scheme};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, Result};

use super::lookups::Lookups;
use crate::logs::Logs;

/// Where a request goes.
pub(super) struct Target {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Self> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        // `Uri` keeps the brackets of an IPv6 literal.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, tls })
    }

    pub(super) async fn connect(
        &self,
        policy: &HttpPolicy,
        logs: &Logs,
        lookups: &Lookups,
        patience: Duration,
    ) -> Result<TcpStream> {
        let connecting = async {
            let addresses = self.addresses(lookups).await?.into_iter();
            let admitted = self.admitted(policy, logs, addresses)?;
            TcpStream::connect(admitted.as_slice()).await.map_err(Error::Connect)
        };
        let stream =
            timeout(patience, connecting).await.map_err(|_| Error::ConnectionTimeout)??;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Asks the resolver of the system, unless the host is an address.
    async fn addresses(&self, lookups: &Lookups) -> Result<Vec<SocketAddr>> {
        if let Ok(literal) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, self.port)]);
        }
        let (host, port) = (self.host.clone(), self.port);
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        let failed = |text: String| Error::DnsError { rcode: Some(text), info_code: None };
        match lookups.run(look_up).await {
            Ok(found) => found.map_err(|error| failed(error.to_string())),
            Err(error) => Err(failed(error)),
        }
    }

    fn admitted(
        &self,
        policy: &HttpPolicy,
        logs: &Logs,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>> {
        let mut admitted = Vec::new();
        let mut denied = None;
        for address in addresses {
            match policy.admit_address(&self.host, address.ip()) {
                Ok(()) => admitted.push(address),
                Err(reason) => denied = Some(reason),
            }
        }
        if admitted.is_empty() {
            let reason =
                denied.map_or_else(|| format!("{} has no address", self.host), |d| d.to_string());
            let text = format!("outgoing request refused: {reason}");
            logs.line(Level::Warn, "http", &text, Default::default());
            return Err(Error::DestinationIpProhibited);
        }
        Ok(admitted)
    }

    pub(super) async fn encrypt(
        &self,
        stream: TcpStream,
        tls: Arc<rustls::ClientConfig>,
        patience: Duration,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name =
            ServerName::try_from(self.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let connecting = tokio_rustls::TlsConnector::from(tls).connect(name, stream);
        timeout(patience, connecting)
            .await
            .map_err(|_| Error::ConnectionTimeout)?
            .map_err(Error::Tls)
    }
}
