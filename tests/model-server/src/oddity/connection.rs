//! A connection whose answers are written byte for byte.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;

use super::{Asked, Step, steps};
use crate::fault::STALL;
use crate::record::Entry;
use crate::server::Shared;

/// Of a request's head.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// Of a request's body.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

struct Request {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What becomes of the connection after an answer.
enum Then {
    NextRequest,
    Close,
    Reset,
}

/// Serves requests until one ends the connection. An error: the client hung up, or does not speak HTTP.
pub(crate) async fn serve(
    read: impl AsyncRead + Unpin,
    mut write: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let mut read = BufReader::new(read);
    while let Some(Request { path, headers, body }) = request(&mut read).await? {
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let before = shared.log().count_of(&path);
        let entry = shared.log().begin(path.clone(), headers, &body);
        if let Ok(request) = serde_json::from_value(json.clone()) {
            shared.note(request);
        }
        let messages = json["messages"].as_array();
        let is_result = |message: &Value| message["role"] == "tool";
        let has_results = messages.is_some_and(|messages| messages.iter().any(is_result));
        let name = path.split('/').nth(2).unwrap_or_default();
        let steps = steps(name, Asked { has_results, before }).unwrap_or_else(|| {
            let said = format!("{{\"error\":\"no such oddity: {name}\"}}");
            super::answer("404 Not Found", super::JSON, said)
        });
        let then = run(steps, &entry, &mut read, &mut write).await?;
        entry.complete();
        match then {
            Then::NextRequest => {}
            Then::Close => break,
            Then::Reset => {
                write.as_ref().set_zero_linger()?;
                // Dropping it would send an end before the reset.
                write.forget();
                break;
            }
        }
    }
    Ok(())
}

async fn run(
    steps: Vec<Step>,
    entry: &Entry,
    read: &mut (impl AsyncRead + Unpin),
    write: &mut OwnedWriteHalf,
) -> io::Result<Then> {
    let mut is_chunked = false;
    for step in steps {
        match step {
            Step::Head(head) => {
                entry.status(head[9..12].parse().unwrap_or_default());
                is_chunked = head.contains("transfer-encoding: chunked");
                write.write_all(head.as_bytes()).await?;
            }
            Step::Send(bytes) => {
                send(write, &bytes, is_chunked).await?;
                entry.chunk();
            }
            Step::End => write.write_all(b"0\r\n\r\n").await?,
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Beat(every) => {
                for _ in 0..STALL.as_millis() / every.as_millis() {
                    send(write, b": beat\n\n", is_chunked).await?;
                    hears_out(read, every).await?;
                }
                return Ok(Then::Close);
            }
            Step::Silence => {
                hears_out(read, STALL).await?;
                return Ok(Then::Close);
            }
            Step::Close => return Ok(Then::Close),
            Step::Reset => return Ok(Then::Reset),
        }
    }
    Ok(Then::NextRequest)
}

async fn send(write: &mut OwnedWriteHalf, bytes: &[u8], is_chunked: bool) -> io::Result<()> {
    if !is_chunked {
        return write.write_all(bytes).await;
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    write.write_all(&chunk).await
}

/// Waits. An error: the client hung up before, or sent something.
async fn hears_out(read: &mut (impl AsyncRead + Unpin), time: Duration) -> io::Result<()> {
    match tokio::time::timeout(time, read.read(&mut [0])).await {
        Err(_) => Ok(()),
        Ok(_) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// The next request. None: the client ended the connection.
async fn request(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Request>> {
    let mut head = (&mut *read).take(MAX_HEAD_BYTES);
    let Some(first) = line(&mut head).await? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = line(&mut head).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let value = |wanted: &str| {
        headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let body = match value("content-length") {
        Some(length) => {
            let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
            exactly(read, length).await?
        }
        None if value("transfer-encoding").is_some() => chunks(read).await?,
        None => Vec::new(),
    };
    Ok(Some(Request { path, headers, body }))
}

async fn chunks(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(read).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let chunk = exactly(read, size).await?;
        line(read).await?;
        if chunk.is_empty() {
            return Ok(body);
        }
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

async fn exactly(read: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    if length > MAX_BODY_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; length];
    read.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A line without its end. None: there is no more.
async fn line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = String::new();
    match read.read_line(&mut line).await? {
        0 => Ok(None),
        _ => Ok(Some(line.trim_end().to_owned())),
    }
}
