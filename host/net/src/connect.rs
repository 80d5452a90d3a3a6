//! From a destination to a stream.

use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_fence::Fenced;
use bulkhead_types::error::chain;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tower::{Service, ServiceExt};

use crate::proxy::Proxy;
use crate::url::path_of;
use crate::{Destination, Proxies, Trust};

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// An open connection, whatever it is made of.
pub type Stream = Pin<Box<dyn Io>>;

/// Makes connections. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    /// What lies on the way.
    pub proxies: Proxies,
    /// Who is believed at its end.
    pub trust: Trust,
}

/// A connection, and how requests on it look.
pub struct Connected {
    /// Where requests are written and answers read.
    pub stream: Stream,
    /// How requests on it look.
    pub route: Route,
    /// Hears of what arrives on it.
    pub runtime: Id,
}

impl Connected {
    /// It was opened in this runtime.
    fn new(stream: Stream, route: Route) -> Self {
        Self { stream, route, runtime: Handle::current().id() }
    }
}

/// How a request on a connection looks: a server gets the path alone, a proxy that passes plain HTTP on gets the
/// whole URL.
#[derive(Debug, Clone)]
pub struct Route {
    to: Destination,
    forwarded: bool,
    authorization: Option<HeaderValue>,
}

/// How far a connection has come, for the text of one that ran out of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its name is looked up.
    Resolving,
    /// TCP.
    Connecting,
    /// A proxy was asked to connect.
    Proxy,
    /// TLS.
    Encrypting,
}

/// Why there is no connection. The text says where to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or no resolver answers.
    #[error("cannot resolve {host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What came instead of an address.
        reason: String,
    },
    /// Its addresses are not allowed.
    #[error("{0}")]
    Refused(String),
    /// Nobody took the connection at any of its addresses.
    #[error("cannot connect to {to}")]
    Connect {
        /// Host and port.
        to: String,
        /// What the last address came to.
        #[source]
        source: io::Error,
    },
    /// The proxy is there and does not connect further.
    #[error("the proxy {at} does not connect to {to}: {reason}")]
    Proxy {
        /// The proxy.
        at: String,
        /// The destination.
        to: String,
        /// What it said.
        reason: String,
    },
    /// No TLS: a certificate that is not believed, a wrong name, no TLS at all.
    #[error("no TLS with {host}: {reason}")]
    Tls {
        /// The name.
        host: String,
        /// Why not.
        reason: String,
    },
}

impl Step {
    /// What was being done, as a fragment.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Resolving => "resolving the name",
            Self::Connecting => "connecting",
            Self::Proxy => "waiting for the proxy",
            Self::Encrypting => "setting up TLS",
        }
    }
}

/// A future of some type.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Finds the addresses of a destination, and leaves out those that it must not lead to.
pub trait Addresses: Sync {
    /// At least one, in the order in which they are tried.
    fn of<'a>(&'a self, to: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>>;
}

/// Asks the system's resolver, and takes every address.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Addresses for System {
    fn of<'a>(&'a self, to: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>> {
        Box::pin(async move {
            if let Some(address) = to.address() {
                return Ok(vec![SocketAddr::new(address, to.port)]);
            }
            let failed = |reason: String| ConnectError::Resolve { host: to.host.clone(), reason };
            let found = tokio::net::lookup_host((to.host.as_str(), to.port)).await;
            let found: Vec<_> = found.map_err(|error| failed(error.to_string()))?.collect();
            if found.is_empty() {
                return Err(failed("it has no address".into()));
            }
            Ok(found)
        })
    }
}

/// Leaves out of what `found` finds the addresses that `admit` refuses. When none is left the last refusal is the
/// error.
#[derive(Debug, Clone, Copy)]
pub struct Judged<A, F> {
    /// Finds them.
    pub found: A,
    /// May a connection to this destination go to this address?
    pub admit: F,
}

impl<A, F, E> Addresses for Judged<A, F>
where
    A: Addresses,
    F: Fn(&Destination, IpAddr) -> Result<(), E> + Sync,
    E: std::fmt::Display,
{
    fn of<'a>(&'a self, to: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>> {
        Box::pin(async move {
            let mut admitted = self.found.of(to).await?;
            let mut denied = None;
            admitted.retain(|address| match (self.admit)(to, address.ip()) {
                Ok(()) => true,
                Err(why) => {
                    denied = Some(why.to_string());
                    false
                }
            });
            match denied {
                Some(why) if admitted.is_empty() => Err(ConnectError::Refused(why)),
                _ => Ok(admitted),
            }
        })
    }
}

impl Connector {
    /// Connects. Where there are several addresses `patience` is divided among them, and IPv4 and IPv6 are raced
    /// (RFC 8305), so that one that swallows packets is no obstacle. It does not bound the whole: TLS, a proxy and
    /// the resolver may take as long again. `step` says how far it came.
    pub fn connect<'a>(
        &'a self,
        to: &'a Destination,
        addresses: &'a dyn Addresses,
        patience: Duration,
        step: &'a mut Step,
    ) -> Boxed<'a, Result<Connected, ConnectError>> {
        Box::pin(self.make(to, addresses, patience, step))
    }

    async fn make(
        &self,
        to: &Destination,
        addresses: &dyn Addresses,
        patience: Duration,
        step: &mut Step,
    ) -> Result<Connected, ConnectError> {
        let Some(proxy) = self.proxies.of(to) else {
            let stream: Stream = Box::pin(tcp(to, addresses, patience, step).await?);
            let stream = if to.tls { self.encrypt(to, stream, step).await? } else { stream };
            return Ok(Connected::new(stream, Route::direct(to.clone())));
        };
        // Its name is the operator's, not the guest's.
        let mut stream: Stream = Box::pin(tcp(&proxy.at, &System, patience, step).await?);
        if proxy.at.tls {
            stream = self.encrypt(&proxy.at, stream, step).await?;
        }
        if !to.tls {
            let authorization = proxy.authorization;
            let route = Route { to: to.clone(), forwarded: true, authorization };
            return Ok(Connected::new(stream, route));
        }
        *step = Step::Proxy;
        let stream = tunnel(&proxy, to, stream).await?;
        let stream = self.encrypt(to, stream, step).await?;
        Ok(Connected::new(stream, Route::direct(to.clone())))
    }

    /// Sets up TLS on a connection to a destination, for protocols that begin without.
    pub async fn encrypt(
        &self,
        to: &Destination,
        stream: Stream,
        step: &mut Step,
    ) -> Result<Stream, ConnectError> {
        *step = Step::Encrypting;
        let failed = |reason: String| ConnectError::Tls { host: to.host.clone(), reason };
        let name =
            ServerName::try_from(to.host.clone()).map_err(|error| failed(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(self.trust.of(to).clone());
        let stream = connector.connect(name, stream).await;
        Ok(Box::pin(stream.map_err(|error| failed(chain(&error)))?))
    }
}

/// Connects to one of the addresses, and to no other.
async fn tcp(
    to: &Destination,
    addresses: &dyn Addresses,
    patience: Duration,
    step: &mut Step,
) -> Result<Fenced<TcpStream>, ConnectError> {
    *step = Step::Resolving;
    let found = addresses.of(to).await?;
    *step = Step::Connecting;
    let mut connector = HttpConnector::new_with_resolver(Found(found));
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(patience));
    let uri = format!("http://addresses.invalid:{}/", to.port).parse::<Uri>();
    let uri = uri.expect("a port makes no URL invalid");
    let connecting: Boxed<'static, _> = Box::pin(connector.oneshot(uri));
    match connecting.await {
        Ok(stream) => Ok(Fenced(stream.into_inner())),
        Err(error) => {
            Err(ConnectError::Connect { to: to.host_and_port(), source: io_error(&error) })
        }
    }
}

/// Answers every name with what was found and judged, so that no second look-up can lead elsewhere.
#[derive(Clone)]
struct Found(Vec<SocketAddr>);

impl Service<Name> for Found {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

/// The system's error behind another one.
fn io_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    match causes.find_map(|cause| cause.downcast_ref::<io::Error>()) {
        Some(found) => match found.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(found.kind(), found.to_string()),
        },
        None => io::Error::other(chain(error)),
    }
}

/// Asks a proxy for a tunnel.
async fn tunnel(proxy: &Proxy, to: &Destination, stream: Stream) -> Result<Stream, ConnectError> {
    let uri = |at: &Destination| format!("http://{}/", at.host_and_port()).parse::<Uri>();
    let failed = |reason: String| ConnectError::Proxy {
        at: proxy.at.host_and_port(),
        to: to.host_and_port(),
        reason,
    };
    let uris = uri(&proxy.at).and_then(|at| Ok((at, uri(to)?)));
    let (at, to) = uris.map_err(|error| failed(error.to_string()))?;
    let mut tunnel = Tunnel::new(at, Open(Some(TokioIo::new(stream))));
    if let Some(authorization) = &proxy.authorization {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    let asking: Boxed<'static, _> = Box::pin(tunnel.oneshot(to));
    let stream = asking.await.map_err(|error| failed(chain(&error)))?;
    Ok(stream.into_inner())
}

/// A connection that is there already, once.
struct Open(Option<TokioIo<Stream>>);

impl Service<Uri> for Open {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::Error::other("asked for twice")))
    }
}

impl Route {
    fn direct(to: Destination) -> Self {
        Self { to, forwarded: false, authorization: None }
    }

    /// Gives a request the form that the other side wants: its target, and the header `Host`. Of the URL only path
    /// and query count.
    pub fn prepare<B>(&self, request: &mut Request<B>) -> Result<(), http::Error> {
        let path = path_of(request.uri());
        let authority = self.to.authority();
        let host = HeaderValue::try_from(&authority)?;
        request.headers_mut().insert(HOST, host);
        let mut target = Uri::builder().path_and_query(path);
        if self.forwarded {
            target = target.scheme("http").authority(authority);
            if let Some(authorization) = &self.authorization {
                request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
            }
        }
        *request.uri_mut() = target.build()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
