//! One request over one connection, with a bound on its answer.

use std::io::ErrorKind;
use std::time::Duration;

use bulkhead_net::{ConnectError, Connected, Step, System, retry_after, wait};
use bulkhead_types::Timestamp;
use bulkhead_types::error::chain;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, USER_AGENT};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::target::Target;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Largest answer. A thousand crash records, the longest list, have a tenth of it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

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

/// Asks. `sent` is called when the request is on its way: from then on the host may act on it.
/// The error is for a person, without the address.
pub(crate) async fn ask(
    target: &Target,
    method: Method,
    path: &str,
    body: Bytes,
    sent: impl FnOnce(),
) -> Result<Answer, String> {
    let mut request = request(target, method, path, body)?;
    let mut step = Step::Resolving;
    let connect = target.connector.connect(&target.api.destination, &System, CONNECT, &mut step);
    let Connected { stream, route } = match timeout(CONNECT, connect).await {
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
    let exchange = async {
        sent();
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| chain(&*error))?.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            body,
            at: date(&head.headers),
            retry_after: retry_after(&head.headers, jiff::Timestamp::now()),
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

/// Why there is no connection, and what to do where nobody listens. A proxy that refuses is not the host.
fn not_connected(target: &Target, error: &ConnectError) -> String {
    let remedy = match error {
        ConnectError::Connect { to, source }
            if source.kind() == ErrorKind::ConnectionRefused
                && *to == target.api.destination.host_and_port() =>
        {
            "; start the host with `bulkhead run`, or name its address with --url"
        }
        _ => "",
    };
    format!("{}{remedy}", chain(error))
}

fn request(
    target: &Target,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", target.api.prefix))
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
