//! The protocol of clients: lines, of which some are followed by bytes. Pure.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

use crate::fault::Fault;

/// Longest line: what a server says of itself names all servers of its cluster.
const MAX_LINE: usize = 64 * 1024;
/// Largest message: a list of keys.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

const END: &[u8] = b"\r\n";

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Info(Box<Info>),
    Message(Message),
    Ping,
    Pong,
    /// Nothing that matters.
    Other,
    Error(String),
}

/// What a server says of itself.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub server_name: String,
    pub version: String,
    pub headers: bool,
    pub tls_required: bool,
    pub max_payload: usize,
    pub jetstream: bool,
    pub nonce: String,
}

impl Info {
    /// Whether the server lets several writes on one version of a key pass, where the stream has replicas: before 2.9.21 it looks at
    /// the condition of a write before the others have agreed on the one before it.
    pub fn has_racing_writes(&self) -> bool {
        let parts = self.version.split(['.', '-']).map(str::parse::<u64>);
        let numbers: Vec<_> = parts.map_while(Result::ok).take(3).collect();
        !numbers.is_empty() && *numbers < [2, 9, 21][..]
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub subject: String,
    pub headers: Bytes,
    pub payload: Bytes,
}

impl Message {
    /// Nobody listens to the subject that was asked.
    pub fn has_no_responder(&self) -> bool {
        self.payload.is_empty() && self.headers.starts_with(b"NATS/1.0 503")
    }
}

/// The value of a header, of a block of them.
pub(crate) fn header<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = block.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A message to a subject. The answer goes to `reply`.
pub(crate) fn publish(
    subject: &str,
    reply: &str,
    headers: &[(&str, &str)],
    payload: &[u8],
) -> Vec<u8> {
    let mut block = String::new();
    if !headers.is_empty() {
        block.push_str("NATS/1.0\r\n");
        headers.iter().for_each(|(name, value)| block.push_str(&format!("{name}: {value}\r\n")));
        block.push_str("\r\n");
    }
    let head = match block.len() {
        0 => format!("PUB {subject} {reply} {}\r\n", payload.len()),
        bytes => format!("HPUB {subject} {reply} {bytes} {}\r\n", bytes + payload.len()),
    };
    [head.as_bytes(), block.as_bytes(), payload, END].concat()
}

/// Takes what has arrived of the front of a buffer. `None`: it is not whole yet.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Op>, Fault> {
    let Some(end) = memchr::memmem::find(&buffer[..buffer.len().min(MAX_LINE)], END) else {
        return match buffer.len() < MAX_LINE {
            true => Ok(None),
            false => Err(strange("a line that does not end")),
        };
    };
    let line =
        std::str::from_utf8(&buffer[..end]).map_err(|_| strange("a line that is no text"))?;
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let op = match verb.to_ascii_uppercase().as_str() {
        "MSG" | "HMSG" => {
            let has_headers = verb.len() == 4;
            let (subject, of_headers, bytes) =
                sizes(rest, has_headers).ok_or_else(|| strange("a message without a size"))?;
            let begins = end + END.len();
            if buffer.len() < begins + bytes + END.len() {
                buffer.reserve(begins + bytes + END.len() - buffer.len());
                return Ok(None);
            }
            buffer.advance(begins);
            let mut payload = buffer.split_to(bytes).freeze();
            buffer.advance(END.len());
            let headers = payload.split_to(of_headers);
            return Ok(Some(Op::Message(Message { subject, headers, payload })));
        }
        "INFO" => {
            let info = serde_json::from_str(rest.trim())
                .map_err(|error| strange(&format!("nothing of itself: {error}")))?;
            Op::Info(Box::new(info))
        }
        "PING" => Op::Ping,
        "PONG" => Op::Pong,
        "+OK" => Op::Other,
        "-ERR" => Op::Error(rest.trim().trim_matches('\'').to_owned()),
        _ => return Err(strange("what no NATS server says")),
    };
    buffer.advance(end + END.len());
    Ok(Some(op))
}

/// Subject, bytes of headers, bytes in all.
fn sizes(line: &str, has_headers: bool) -> Option<(String, usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let subject = words.next()?.to_owned();
    let bytes: usize = words.next_back()?.parse().ok()?;
    let of_headers = if has_headers { words.next_back()?.parse().ok()? } else { 0 };
    (of_headers <= bytes && bytes <= MAX_MESSAGE).then_some((subject, of_headers, bytes))
}

fn strange(what: &str) -> Fault {
    Fault::misbehaves(format!("what answers is no NATS server: it sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Op> {
        let mut buffer = BytesMut::from(text);
        std::iter::from_fn(|| take(&mut buffer).unwrap()).collect()
    }

    #[test]
    fn a_message_is_taken_when_all_of_it_has_arrived() {
        let text = b"PING\r\nHMSG _INBOX.a.1 1 16 18\r\nNATS/1.0 503\r\n\r\nab\r\nMSG b 1 reply 0\r\n\r\n-ERR 'x y'\r\n";
        let message = |subject: &str, headers: &'static [u8], payload: &'static [u8]| {
            Op::Message(Message {
                subject: subject.into(),
                headers: Bytes::from_static(headers),
                payload: Bytes::from_static(payload),
            })
        };
        let expected = [
            Op::Ping,
            message("_INBOX.a.1", b"NATS/1.0 503\r\n\r\n", b"ab"),
            message("b", b"", b""),
            Op::Error("x y".into()),
        ];
        assert_eq!(all(text), expected);
        let (mut buffer, mut taken) = (BytesMut::new(), Vec::new());
        for byte in text {
            buffer.extend([*byte]);
            taken.extend(take(&mut buffer).unwrap());
        }
        assert_eq!(taken, expected);
    }

    #[test]
    fn what_no_server_says_is_an_error() {
        let long = vec![b'x'; MAX_LINE];
        let texts: [&[u8]; 7] = [
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b"MSG a 1 x\r\n",
            b"MSG a 1 99999999999\r\n",
            b"HMSG a 1 3 2\r\n",
            b"INFO {\r\n",
            &long,
        ];
        for text in texts {
            assert!(take(&mut BytesMut::from(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn headers_are_found_by_their_names() {
        let block = "NATS/1.0\r\nKV-Operation: DEL\r\n\r\n";
        assert_eq!(header(block, "kv-operation"), Some("DEL"));
        assert_eq!(header(block, "x"), None);
        let published = publish("a", "b", &[("KV-Operation", "DEL")], b"xy");
        let expected = format!("HPUB a b {} {}\r\n{block}xy\r\n", block.len(), block.len() + 2);
        assert_eq!(String::from_utf8(published).unwrap(), expected);
        assert_eq!(publish("a", "b", &[], b"xy"), b"PUB a b 2\r\nxy\r\n");
    }
}
