//! One HTTP/1.1 connection. Nobody drives it but the caller that waits on it: what it costs is the caller's, and it closes when
//! it is dropped.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bulkhead_net::interim::{Bounded, Interim};
use bulkhead_net::{Addresses, ConnectError, Connected, Connector, Destination, Route, Step};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime::Id;

/// Bounds the head of a response, and with it the buffer of a connection, which may grow past it by one read.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Headers in the head of a response.
const MAX_HEADERS: usize = 256;

/// What is read of a response that nobody needs any more, so that its connection can be used again.
const MAX_LEFTOVER_BYTES: usize = 64 * 1024;

type Driver = http1::Connection<TokioIo<Bounded>, Full<Bytes>>;

/// A connection to an endpoint's server.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` when the connection has ended.
    driver: Option<Pin<Box<Driver>>>,
    route: Route,
    pub(crate) runtime: Id,
    interim: Interim,
    /// It has carried a request before.
    pub(crate) is_reused: bool,
}

/// Why there is no connection.
pub(crate) enum OpenError {
    Connect(ConnectError),
    Hyper(hyper::Error),
}

impl Connection {
    /// Connects. `step` says how far it came.
    pub(crate) async fn open(
        connector: &Connector,
        to: &Destination,
        addresses: &dyn Addresses,
        patience: Duration,
        step: &mut Step,
    ) -> Result<Self, OpenError> {
        let connecting = connector.connect(to, addresses, patience, step);
        let Connected { stream, route, runtime } = connecting.await.map_err(OpenError::Connect)?;
        let interim = Interim::default();
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
        let shaking = client.handshake(TokioIo::new(interim.bound(stream)));
        let (sender, driver) = shaking.await.map_err(OpenError::Hyper)?;
        let driver = Some(Box::pin(driver));
        Ok(Self { sender, driver, route, runtime, interim, is_reused: false })
    }

    /// Sends a request, of whose URL path and query count, and waits for the head of the response.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        // It was built from parts that were checked.
        let _ = self.route.prepare(&mut request);
        self.interim.count(&mut request);
        let mut response = std::pin::pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            let driven = drive(driver, cx);
            // What comes behind a response is no reason to lose it.
            match (response.as_mut().poll(cx), driven) {
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (response, _) => response,
            }
        })
        .await
    }

    /// The next frame of a response's body.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let driven = drive(&mut self.driver, cx);
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => match driven {
                Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                _ => Poll::Pending,
            },
        }
    }

    /// Whether it can carry a request now. Reads what is left of the last response, as far as it has arrived.
    pub(crate) fn is_ready(&mut self, rest: &mut Option<Incoming>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = 0;
        while let Some(body) = rest {
            match self.poll_frame(body, &mut cx) {
                Poll::Ready(None) => *rest = None,
                Poll::Ready(Some(Ok(frame))) => {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    if bytes > MAX_LEFTOVER_BYTES {
                        return false;
                    }
                }
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
        drive(&mut self.driver, &mut cx).is_pending() && self.sender.is_ready()
    }

    /// Whether it has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.driver.is_some()
    }

    /// Whether the server sent anything since the last request.
    pub(crate) fn has_bytes(&self) -> bool {
        self.interim.has_bytes()
    }

    /// Whether the server sent too many interim answers.
    pub(crate) fn has_too_many_interim(&self) -> bool {
        self.interim.is_too_many()
    }
}

/// Runs a connection as far as it goes. Ready: it has ended.
fn drive(driver: &mut Option<Pin<Box<Driver>>>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
    let Some(running) = driver else { return Poll::Ready(Ok(())) };
    let polled = running.as_mut().poll(cx);
    if polled.is_ready() {
        *driver = None;
    }
    polled
}
