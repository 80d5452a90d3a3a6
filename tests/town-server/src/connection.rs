//! One connection, with the faults that show on the wire.
//!
//! hyper reads every request and writes every answer that is HTTP. For an answer that is none, the service
//! names the fault and never returns; the connection is then taken from hyper, and the fault is written, or
//! done, by hand.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use crate::answer::{AGENT_ID, Answer, Asked, RUN_ID, answer, text};
use crate::call::{Call, Target};
use crate::fault::Fault;
use crate::log::Record;
use crate::shared::Shared;
use crate::tokens::Standing;

/// Largest body of a request.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;

/// An endless body ends here all the same, if its reader takes that much.
const ENDLESS_BYTES: usize = 2 * 1024 * 1024 * 1024;

/// A piece of it.
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// What an answer looks like when it is not done by hand.
type Reply = Response<Full<Bytes>>;

/// What is done by hand.
enum Raw {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// A body without an end.
    Endless,
    /// A reset.
    Reset,
}

/// A stream that knows the TCP connection that it stands on.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves a connection until one side has enough of it.
pub(crate) async fn serve(stream: impl Wire, shared: Arc<Shared>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let service = service_fn(move |request| {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        async move {
            match reply(&shared, request).await {
                Ok(reply) => Ok::<_, Infallible>(reply),
                Err(raw) => {
                    let _ = sender.send(raw).await;
                    pending().await
                }
            }
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let raw = tokio::select! {
        biased;
        raw = receiver.recv() => raw,
        // An error is the caller's end of it.
        _ = &mut connection => return,
    };
    let stream = connection.into_parts().io.into_inner();
    // The caller may be gone; that is its right.
    let _ = by_hand(stream, raw).await;
}

async fn by_hand(mut stream: impl Wire, raw: Option<Raw>) -> std::io::Result<()> {
    match raw {
        Some(Raw::Bytes(bytes)) => stream.write_all(&bytes).await?,
        Some(Raw::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n").await?;
            stream.write_all(b"transfer-encoding: chunked\r\n\r\n").await?;
            stream.write_all(b"1a\r\n{\"success\":true,\"data\": \"\r\n").await?;
            let size = format!("{:x}\r\n", PIECE.len());
            for _ in 0..ENDLESS_BYTES / PIECE.len() {
                stream.write_all(size.as_bytes()).await?;
                stream.write_all(&PIECE).await?;
                stream.write_all(b"\r\n").await?;
            }
        }
        Some(Raw::Reset) => return stream.tcp().set_zero_linger(),
        None => {}
    }
    stream.shutdown().await
}

/// The answer to a request, or what has to be done by hand instead.
async fn reply(shared: &Shared, request: Request<Incoming>) -> Result<Reply, Raw> {
    let (head, body) = request.into_parts();
    let target = Target::parse(&shared.options.prefix, &head.method, head.uri.path());
    let Some(target) = target else {
        return Ok(whole(Answer::error(StatusCode::NOT_FOUND, "the town has no such call")));
    };
    let (number, standing, fault) = begin(shared, &target, &head);
    match fault {
        Some(Fault::Hang) => pending().await,
        Some(Fault::Reset) => return Err(Raw::Reset),
        _ => {}
    }
    // A caller that does not finish its request has no answer to wait for.
    let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return Ok(whole(Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "body is too large")));
        }
    };
    shared.lock().look_for_secrets(&format!("body of {}", target.call), &body);
    if let Some(Fault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    if let Some(instead) = fault.and_then(|fault| instead(fault, target.call)) {
        if let Ok(reply) = &instead {
            end(shared, number, reply.status(), body.len());
        }
        return instead;
    }
    let asked = Asked { target: &target, standing, headers: &head.headers, body: &body };
    let answer = {
        let mut state = shared.lock();
        let town = state.town(&target.town);
        answer(town, &asked)
    };
    end(shared, number, answer.status, body.len());
    match fault {
        Some(Fault::HalfHead) => Err(Raw::Bytes(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec())),
        Some(Fault::HalfBody) => Err(Raw::Bytes(half(&answer))),
        _ => Ok(whole(answer)),
    }
}

/// Writes a call down, and finds out how good its token is and what will happen to it.
fn begin(
    shared: &Shared,
    target: &Target,
    head: &hyper::http::request::Parts,
) -> (u64, Standing, Option<Fault>) {
    let mut state = shared.lock();
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != AUTHORIZATION) {
        state.look_for_secrets(&format!("{name} of {}", target.call), value.as_bytes());
    }
    state.look_for_secrets("a path", head.uri.to_string().as_bytes());
    let token = text(&head.headers, AUTHORIZATION.as_str());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let (standing, generation) = state.town(&target.town).tokens.check(token);
    // Calls about a rig name the agent in a header only.
    let agent = target.agent.as_deref().or_else(|| text(&head.headers, AGENT_ID));
    let fault = state.faults.take(target.call, agent);
    let number = state.log.push(Record {
        at_ms: u64::try_from(shared.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        call: target.call,
        path: head.uri.path().to_owned(),
        town: target.town.clone(),
        agent: agent.map(str::to_owned),
        run_id: text(&head.headers, RUN_ID).map(str::to_owned),
        generation,
        standing,
        fault,
        status: None,
        body_bytes: 0,
    });
    (number, standing, fault)
}

fn end(shared: &Shared, number: u64, status: StatusCode, body_bytes: usize) {
    if let Some(record) = shared.lock().log.get_mut(number) {
        record.status = Some(status.as_u16());
        record.body_bytes = body_bytes;
    }
}

/// What a call gets that is not carried out.
fn instead(fault: Fault, call: Call) -> Option<Result<Reply, Raw>> {
    let with_type = |content_type, body: &'static [u8]| {
        let mut reply = Response::new(Full::new(Bytes::from_static(body)));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        reply
    };
    Some(match fault {
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Ok(whole(Answer::error(status, "told to fail")))
        }
        Fault::NotHttp => Err(Raw::Bytes(b"220 mail.example ready\r\n\0\xff\xfe\r\n\r\n".to_vec())),
        Fault::NotJson => Ok(with_type("text/html", b"<html><body>Sign in to go on")),
        Fault::WrongShape if call == Call::Snapshot => {
            let mut reply = with_type("application/octet-stream", b"not what was kept");
            let no_hash = HeaderValue::from_static("00");
            reply.headers_mut().insert(crate::answer::SHA256, no_hash);
            Ok(reply)
        }
        Fault::WrongShape => {
            Ok(with_type("application/json", b"{\"success\":7,\"data\":[[42],\"?\"]}"))
        }
        Fault::TooLarge => Err(Raw::Endless),
        _ => return None,
    })
}

fn whole(answer: Answer) -> Reply {
    let mut reply = Response::new(Full::new(answer.body));
    *reply.status_mut() = answer.status;
    *reply.headers_mut() = answer.headers;
    reply
}

/// The head of an answer, and half its body.
fn half(answer: &Answer) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {}\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(format!("content-length: {}\r\n\r\n", answer.body.len().max(2)).into_bytes());
    bytes.extend_from_slice(&answer.body[..answer.body.len() / 2]);
    bytes
}
