//! One request over one connection, with a bound on its answer.

use std::cell::Cell;
use std::error::Error;
use std::time::Duration;

use bulkhead_model::Timestamp;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::target::Target;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Largest answer. A thousand crash records, the longest list, have a tenth of it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// The host's clock when it answered, to a second; its times are compared with this and not with the
    /// clock of this machine.
    pub(crate) at: Option<Timestamp>,
    pub(crate) retry_after: Option<Duration>,
}

/// Asks. `sent` becomes true when the request is on its way: from then on the host may act on it.
/// The error is for a person, without the address.
pub(crate) async fn ask(
    target: &Target,
    method: Method,
    path: &str,
    body: Bytes,
    sent: &Cell<bool>,
) -> Result<Answer, String> {
    let request = request(target, method, path, body)?;
    let connect = TcpStream::connect((target.host.as_str(), target.port));
    let stream = timeout(CONNECT, connect)
        .await
        .map_err(|_| format!("no connection in {} s", CONNECT.as_secs()))?
        .map_err(|error| format!("cannot connect: {error}"))?;
    // Small requests, each waited for.
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let exchange = async {
        sent.set(true);
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| chain(&*error))?.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            body,
            at: date(&head.headers),
            retry_after: retry_after(&head.headers),
        })
    };
    // The connection carries the exchange. When it ends first, the exchange has all there is.
    let carry = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = exchange => answer,
        () = carry => Err("the connection ended".to_owned()),
    }
}

fn request(
    target: &Target,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", target.prefix))
        .header(HOST, &target.authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("bulkhead/", env!("CARGO_PKG_VERSION")));
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(authorization) = &target.authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    request.body(Full::new(body)).map_err(|error| error.to_string())
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp(moment.as_millisecond()))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
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

    #[test]
    fn the_hosts_patience_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "5".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(5)));
        headers.insert(RETRY_AFTER, "Thu, 15 Jan 2026 09:30:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
