//! One connection, and one request on it at a time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bulkhead_net::{Connected, Connector, Destination, Step, Stream, System};
use bulkhead_types::error::chain;
use bytes::BytesMut;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::runtime::Id;

use crate::fault::Fault;
use crate::login::Login;
use crate::wire::{self, Info, Message, Op};

pub(crate) struct Connection {
    stream: Stream,
    pub runtime: Id,
    buffer: BytesMut,
    /// Begins the subject of every answer.
    inbox: String,
    requests: u64,
    pub info: Info,
}

impl Connection {
    /// Connects, and logs in. `patience` is for TCP alone.
    pub async fn open(
        to: &Destination,
        login: &Login,
        connector: &Connector,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let mut step = Step::Resolving;
        // A server speaks first, and says whether it wants TLS.
        let plain = Destination { tls: false, ..to.clone() };
        let connected = connector.connect(&plain, &System, patience, &mut step).await;
        let connected = connected.map_err(|error| Fault::unavailable(chain(&error)))?;
        let Connected { stream, runtime, .. } = connected;
        let buffer = BytesMut::with_capacity(4096);
        let inbox = format!("_INBOX.{}", random()?);
        let mut it = Self { stream, runtime, buffer, inbox, requests: 0, info: Info::default() };
        it.info = match it.next().await? {
            Op::Info(info) => *info,
            Op::Error(text) => return Err(Fault::of_server(&text)),
            _ => return Err(Fault::misbehaves("the NATS server says nothing of itself")),
        };
        if to.tls || it.info.tls_required {
            if !it.buffer.is_empty() {
                let text = "the NATS server sent something before TLS that it must not";
                return Err(Fault::misbehaves(text));
            }
            let encrypted = connector.encrypt(&plain, it.stream, &mut step).await;
            it.stream = encrypted.map_err(|error| Fault::unavailable(chain(&error)))?;
        }
        if !it.info.headers {
            let text = "the NATS server knows no headers, which conditions of writes are in: it needs version 2.9 or later";
            return Err(Fault::misbehaves(text));
        }
        it.log_in(login).await?;
        Ok(it)
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Fault> {
        let connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
            "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "name": "bulkhead",
        });
        let mut connect = match connect {
            serde_json::Value::Object(connect) => connect,
            _ => serde_json::Map::new(),
        };
        login.add_to(&mut connect, &self.info.nonce);
        let connect = serde_json::Value::Object(connect);
        let text = format!("CONNECT {connect}\r\nSUB {}.* 1\r\nPING\r\n", self.inbox);
        self.send(text.as_bytes()).await?;
        loop {
            match self.next().await? {
                Op::Pong => return Ok(()),
                Op::Ping => self.send(b"PONG\r\n").await?,
                Op::Error(text) => return Err(Fault::of_server(&text)),
                Op::Info(_) | Op::Message(_) | Op::Other => {}
            }
        }
    }

    /// Sends a message, and waits for the answer. After an error or without an end the connection is not to be used again.
    pub async fn request(
        &mut self,
        subject: &str,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<Message, Fault> {
        self.requests += 1;
        let reply = format!("{}.{}", self.inbox, self.requests);
        self.send(&wire::publish(subject, &reply, headers, payload)).await?;
        loop {
            match self.next().await? {
                Op::Message(message) if message.subject == reply => return Ok(message),
                Op::Ping => self.send(b"PONG\r\n").await?,
                Op::Error(text) => return Err(Fault::of_server(&text)),
                Op::Info(_) | Op::Message(_) | Op::Pong | Op::Other => {}
            }
        }
    }

    /// Whether the server has not closed it, as far as that has arrived here. Nothing waits.
    pub async fn is_open(&mut self) -> bool {
        let mut bytes = [0; 1024];
        loop {
            let mut read = ReadBuf::new(&mut bytes);
            let polled = poll_fn(|cx| {
                Poll::Ready(match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                    Poll::Pending => None,
                    Poll::Ready(done) => Some(done),
                })
            });
            match polled.await {
                None => return true,
                Some(Ok(())) if !read.filled().is_empty() => {
                    self.buffer.extend_from_slice(read.filled());
                }
                Some(_) => return false,
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(broken)
    }

    async fn next(&mut self) -> Result<Op, Fault> {
        loop {
            if let Some(op) = wire::take(&mut self.buffer)? {
                return Ok(op);
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(broken)? == 0 {
                return Err(Fault::unavailable("the NATS server closed the connection"));
            }
        }
    }
}

fn broken(error: io::Error) -> Fault {
    Fault::unavailable(format!("the connection to the NATS server broke: {error}"))
}

/// Nobody else must read the answers.
fn random() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::unavailable(format!("no random number: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
