//! The pipes of a program as WASI's streams.

use std::io;

use bulkhead_tools::Output;
use bytes::Bytes;
use tokio::net::unix::pipe::Sender;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that are read at once: what a pipe holds.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes that are written at once: a pipe takes these whole, or not at all.
const PERMIT_BYTES: usize = 4096;

/// Reads what a program writes.
pub(super) struct Reader(Output);

impl Reader {
    pub(super) fn new(output: Output) -> Self {
        Self(output)
    }
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut piece = vec![0; size.min(PIECE_BYTES)];
        if piece.is_empty() {
            return Ok(Bytes::new());
        }
        match self.0.try_read(&mut piece) {
            Ok(0) => Err(StreamError::Closed),
            Ok(bytes) => {
                piece.truncate(bytes);
                Ok(piece.into())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Bytes::new()),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        // An error is what the next read returns.
        let _ = self.0.readable().await;
    }
}

/// Writes what a program reads.
pub(super) struct Writer {
    /// `None`: nobody reads any more.
    pipe: Option<Sender>,
    /// Written by the guest, and not yet taken by the pipe.
    waiting: Bytes,
    permit: usize,
}

impl Writer {
    pub(super) fn new(pipe: Sender) -> Self {
        Self { pipe: Some(pipe), waiting: Bytes::new(), permit: 0 }
    }

    /// Hands over what waits, as far as the pipe takes it.
    fn push(&mut self) -> StreamResult<()> {
        while !self.waiting.is_empty() {
            let Some(pipe) = &self.pipe else { return Err(StreamError::Closed) };
            match pipe.try_write(&self.waiting) {
                Ok(bytes) => drop(self.waiting.split_to(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    (self.pipe, self.waiting) = (None, Bytes::new());
                    return Err(StreamError::Closed);
                }
            }
        }
        Ok(())
    }
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let Some(left) = self.permit.checked_sub(bytes.len()) else {
            let (bytes, permit) = (bytes.len(), self.permit);
            let text = format!("wrote {bytes} bytes to stdin, check-write allowed {permit}");
            return Err(StreamError::Trap(wasmtime::Error::msg(text)));
        };
        self.permit = left;
        // What waits is nothing, or there would be no permit.
        self.waiting = if self.waiting.is_empty() {
            bytes
        } else {
            [&self.waiting[..], &bytes[..]].concat().into()
        };
        self.push()
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.push()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.push()?;
        if self.pipe.is_none() {
            return Err(StreamError::Closed);
        }
        self.permit = if self.waiting.is_empty() { PERMIT_BYTES } else { 0 };
        Ok(self.permit)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        while !self.waiting.is_empty() {
            let Some(pipe) = &self.pipe else { return };
            if pipe.writable().await.is_err() || self.push().is_err() {
                return;
            }
        }
    }
}
