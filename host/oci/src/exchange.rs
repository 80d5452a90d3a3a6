//! HTTP/1: one request on one connection, and its answer piece by piece.

use std::time::Duration;

use bulkhead_net::{Boxed, Connected, Connector, Destination, Step, System};
use bulkhead_types::error::chain;
use bytes::Bytes;
use http::header::{CONNECTION, USER_AGENT};
use http::{HeaderValue, Request, response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::failure::Cause;
use crate::settings::Times;

/// Largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

const AGENT: &str = concat!("bulkhead/", env!("CARGO_PKG_VERSION"));

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    pub head: response::Parts,
    body: Incoming,
    /// Never ends, so that the answer does first.
    connection: Boxed<'static, ()>,
    at: String,
    stall: Duration,
}

/// Asks for an absolute URL, and waits for the head of the answer.
pub(crate) async fn send(
    connector: &Connector,
    times: &Times,
    to: &Destination,
    request: Request<()>,
) -> Result<Answer, Cause> {
    let at = to.host_and_port();
    let mut step = Step::Resolving;
    let connecting = connector.connect(to, &System, times.connect, &mut step);
    // TLS and a proxy may take as long again.
    let connected = timeout(times.connect * 3, connecting).await;
    let Ok(connected) = connected else {
        let reason = format!("{} took too long", step.doing());
        return Err(Cause::Unreachable { at, reason });
    };
    let Connected { stream, route, .. } =
        connected.map_err(|error| Cause::Unreachable { at: at.clone(), reason: chain(&error) })?;
    let broken = |reason: String| Cause::Interrupted { at: at.clone(), reason };
    let mut request = request.map(|()| Empty::<Bytes>::new());
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    route.prepare(&mut request).map_err(|error| broken(format!("make the request: {error}")))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    let shaken = builder.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut requests, connection) = shaken.map_err(|error| broken(chain(&error)))?;
    let mut connection: Boxed<'static, ()> = Box::pin(async move {
        // An exchange on it learns of its end.
        drop(connection.await);
        std::future::pending().await
    });
    let answered = async {
        tokio::select! {
            biased;
            answer = requests.send_request(request) => answer,
            () = &mut connection => unreachable!("it only carries the answer"),
        }
    };
    let answered = timeout(times.stall, answered).await;
    let answered = answered.map_err(|_| broken(format!("nothing came in {:?}", times.stall)))?;
    let (head, body) = answered.map_err(|error| broken(chain(&error)))?.into_parts();
    Ok(Answer { head, body, connection, at, stall: times.stall })
}

impl Answer {
    /// Who answered: host and port.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// The next piece. `None`: that was all.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Cause> {
        loop {
            let frame = async {
                tokio::select! {
                    biased;
                    frame = self.body.frame() => frame,
                    () = &mut self.connection => unreachable!("it only carries the answer"),
                }
            };
            let broken = |reason: String| Cause::Interrupted { at: self.at.clone(), reason };
            let frame = timeout(self.stall, frame).await;
            let Some(frame) =
                frame.map_err(|_| broken(format!("nothing came in {:?}", self.stall)))?
            else {
                return Ok(None);
            };
            // What is no data is a trailer.
            if let Ok(data) = frame.map_err(|error| broken(chain(&error)))?.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, if it is not larger than that. `what` is for the text of the error.
    pub(crate) async fn whole(mut self, what: &str, max_bytes: usize) -> Result<Vec<u8>, Cause> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await? {
            whole.extend_from_slice(&piece);
            if whole.len() > max_bytes {
                let (what, bytes) = (what.to_owned(), whole.len() as u64);
                return Err(Cause::TooLarge { what, bytes, max_bytes: max_bytes as u64 });
            }
        }
        Ok(whole)
    }
}
