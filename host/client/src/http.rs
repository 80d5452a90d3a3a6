//! One request over one connection: an answer within a bound, or a body as it comes.

use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::time::Duration;

use bulkhead_net::{ConnectError, Connected, Step, Stream, System, retry_after, wait};
use bulkhead_types::Timestamp;
use bulkhead_types::error::chain;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::target::Target;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Largest answer. A thousand crash records, the longest list, have a tenth of it.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// The host's clock when it answered, to a second; its times are compared with this and not with the
    /// clock of this machine.
    pub(crate) at: Option<Timestamp>,
    pub(crate) retry_after: Option<Duration>,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: Bytes,
    /// What the body is, if there is one.
    pub(crate) content: &'static str,
    /// What the answer should be: JSON, or a stream.
    pub(crate) accept: &'static str,
    /// Of a stream that is opened again: the last event that came.
    pub(crate) last_event_id: Option<u64>,
}

/// JSON, as all routes have it that are no streams.
pub(crate) const JSON: &str = "application/json";

/// A component.
pub(crate) const WASM: &str = "application/wasm";

/// Frames that come until somebody ends them.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

type Carrier = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

/// The beginning of an answer, and its body as it comes.
pub(crate) struct Response {
    pub(crate) head: Parts,
    pub(crate) body: Body,
}

/// A body that comes. It carries its own connection.
pub(crate) struct Body {
    incoming: Incoming,
    /// Until it is over.
    carrier: Option<Pin<Box<Carrier>>>,
}

/// Asks. `sent` is called when the request is on its way: from then on the host may act on it.
/// The error is for a person, without the address.
pub(crate) async fn open(
    target: &Target,
    ask: Ask<'_>,
    sent: impl FnOnce(),
) -> Result<Response, String> {
    let mut request = request(target, ask)?;
    let mut step = Step::Resolving;
    let connect = target.connector.connect(&target.api.destination, &System, CONNECT, &mut step);
    let Connected { stream, route, .. } = match timeout(CONNECT, connect).await {
        Ok(connected) => connected.map_err(|error| not_connected(target, &error))?,
        Err(_) => {
            return Err(format!(
                "no connection in {} s, while {}",
                CONNECT.as_secs(),
                step.doing()
            ));
        }
    };
    route.prepare(&mut request).map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let mut carrier = Some(Box::pin(connection));
    sent();
    let mut response = pin!(sender.send_request(request));
    let response = beside(&mut carrier, &mut response).await.map_err(|error| chain(&error))?;
    let (head, incoming) = response.into_parts();
    Ok(Response { head, body: Body { incoming, carrier } })
}

/// Waits for something that a connection carries. When the connection ends first, there is all that there will be.
async fn beside<T>(
    carrier: &mut Option<Pin<Box<Carrier>>>,
    carried: &mut (impl Future<Output = T> + Unpin),
) -> T {
    while let Some(connection) = carrier {
        tokio::select! {
            biased;
            carried = &mut *carried => return carried,
            _ = connection => *carrier = None,
        }
    }
    carried.await
}

impl Response {
    /// All of it, within a bound.
    pub(crate) async fn answer(self) -> Result<Answer, String> {
        let Self { head, body: Body { incoming, mut carrier } } = self;
        let mut body = pin!(Limited::new(incoming, MAX_ANSWER_BYTES).collect());
        let body = beside(&mut carrier, &mut body).await;
        Ok(Answer {
            status: head.status.as_u16(),
            body: body.map_err(|error| chain(&*error))?.to_bytes(),
            at: date(&head.headers),
            retry_after: retry_after(&head.headers, jiff::Timestamp::now()),
        })
    }
}

impl Body {
    /// What comes next. `None`: the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let mut frame = self.incoming.frame();
            let frame = match beside(&mut self.carrier, &mut frame).await {
                None => return Ok(None),
                Some(frame) => frame.map_err(|error| chain(&error))?,
            };
            // Trailers say nothing here.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// Why there is no connection, and what to do where nobody listens. A proxy that refuses is not the host.
fn not_connected(target: &Target, error: &ConnectError) -> String {
    let remedy = match error {
        ConnectError::Connect { to, source }
            if source.kind() == ErrorKind::ConnectionRefused
                && *to == target.api.destination.host_and_port() =>
        {
            match target.is_default {
                true => {
                    "; there is no bulkhead.toml here: start the host with `bulkhead run`, or name its configuration \
                     with --config or BULKHEAD_CONFIG, or its address with --url"
                }
                false => "; start the host with `bulkhead run`, or name its address with --url",
            }
        }
        _ => "",
    };
    format!("{}{remedy}", chain(error))
}

fn request(target: &Target, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, String> {
    let Ask { method, path, body, content, accept, last_event_id } = ask;
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", target.api.prefix))
        .header(ACCEPT, accept)
        .header(USER_AGENT, concat!("bulkhead/", env!("CARGO_PKG_VERSION")));
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, content);
    }
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    if let Some(authorization) = &target.authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    request.body(Full::new(body)).map_err(|error| error.to_string())
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let moment = wait::date(headers.get(DATE)?.to_str().ok()?)?;
    Some(Timestamp(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_clock_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(DATE, "Thu, 15 Jan 2026 09:30:00 GMT".parse().unwrap());
        assert_eq!(date(&headers).unwrap().to_string(), "2026-01-15T09:30:00.000Z");
        headers.insert(DATE, "yesterday".parse().unwrap());
        assert_eq!(date(&headers), None);
    }
}
