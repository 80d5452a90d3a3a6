//! `wasi:filesystem/types.[method]descriptor.read-via-stream` and its like for writing, before those of `wasmtime-wasi`.
//!
//! A stream that reads or writes without waiting takes a blocking thread for each piece, and a guest may have hundreds
//! of streams. So of the threads that wait for files one agent has a share, and a stream waits for its turn when the
//! share is used up. A piece has its place in the share until its thread is through with it, also when the guest is
//! gone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p2::bindings::filesystem::types::{Descriptor, ErrorCode, HostDescriptor};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable,
    StreamError, StreamResult,
};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn_blocking};

use super::FILESYSTEM;
use crate::host_call;
use crate::meter::Meter;
use crate::shares::Shares;
use crate::state::State;

/// Pieces of files that threads read or write for one agent at one time.
const PIECES_OF_AN_AGENT: usize = 4;

/// A stream reads a file by pieces of at most this.
const PIECE_BYTES: usize = 64 * 1024;

/// What is read when a guest waits for a file without saying how much it wants.
const DEFAULT_BYTES: usize = 4096;

const READ: &str = "wasi:filesystem/types.[method]descriptor.read-via-stream";
const WRITE: &str = "wasi:filesystem/types.[method]descriptor.write-via-stream";
const APPEND: &str = "wasi:filesystem/types.[method]descriptor.append-via-stream";

/// The threads that read and write files, in shares.
pub(crate) fn shares() -> Arc<Shares> {
    Arc::new(Shares::new(PIECES_OF_AN_AGENT))
}

/// Puts these functions into the place of the linked ones.
pub(crate) fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut instance = linker.instance(FILESYSTEM)?;
    instance.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store, (file, offset): (Resource<Descriptor>, u64)| {
            host_call::name(READ);
            Ok((answer(store.data_mut().read_via_stream(&file, offset))?,))
        },
    )?;
    instance.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store, (file, offset): (Resource<Descriptor>, u64)| {
            host_call::name(WRITE);
            let state = store.data_mut();
            let stream = state.filesystem().write_via_stream(file, offset);
            Ok((answer(stream.and_then(|stream| state.in_its_share(stream)))?,))
        },
    )?;
    instance.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store, (file,): (Resource<Descriptor>,)| {
            host_call::name(APPEND);
            let state = store.data_mut();
            let stream = state.filesystem().append_via_stream(file);
            Ok((answer(stream.and_then(|stream| state.in_its_share(stream)))?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What is no error code is a trap.
fn answer<T>(result: FsResult<T>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

impl State {
    fn read_via_stream(
        &mut self,
        file: &Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<DynInputStream>> {
        let (share, meter) = (Arc::clone(&self.files), Arc::clone(&self.meter));
        let table = self.filesystem().table;
        let Descriptor::File(file) = table.get(file)? else {
            return Err(FsError::from(ErrorCode::IsDirectory));
        };
        let reader = Reader::new(Arc::clone(&file.file), offset, share, meter);
        let stream: DynInputStream = Box::new(reader);
        Ok(table.push(stream)?)
    }

    fn in_its_share(
        &mut self,
        stream: Resource<DynOutputStream>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let share = Arc::clone(&self.files);
        let table = self.filesystem().table;
        let stream = table.delete(stream)?;
        let stream: DynOutputStream = Box::new(Writer { stream, share, waiting: None });
        Ok(table.push(stream)?)
    }
}

/// Reads a file, piece by piece.
struct Reader {
    file: Arc<File>,
    position: u64,
    share: Arc<Semaphore>,
    meter: Arc<Meter>,
    state: Reading,
}

enum Reading {
    Idle,
    UnderWay(AbortOnDropJoinHandle<io::Result<Bytes>>),
    Read(Bytes),
    Failed(io::Error),
    Closed,
}

impl Reader {
    fn new(file: Arc<File>, position: u64, share: Arc<Semaphore>, meter: Arc<Meter>) -> Self {
        Self { file, position, share, meter, state: Reading::Idle }
    }

    fn begin(&mut self, size: usize, permit: OwnedSemaphorePermit) {
        let (file, position) = (Arc::clone(&self.file), self.position);
        let meter = Arc::clone(&self.meter);
        self.state = Reading::UnderWay(spawn_blocking(move || {
            let read = meter.charged(|| read_piece(&file, position, size));
            drop(permit);
            read
        }));
    }

    /// Begins to read, when it is its turn and nothing else is to be done first.
    async fn begin_in_turn(&mut self, size: usize) {
        if let Reading::Idle = self.state {
            // Nobody closes a share.
            if let Ok(permit) = Arc::clone(&self.share).acquire_owned().await {
                self.begin(size, permit);
            }
        }
    }

    /// Waits for what is under way.
    async fn settle(&mut self) {
        if let Reading::UnderWay(work) = &mut self.state {
            self.state = match work.await {
                Ok(bytes) if bytes.is_empty() => Reading::Closed,
                Ok(bytes) => Reading::Read(bytes),
                Err(error) => Reading::Failed(error),
            };
        }
    }
}

fn read_piece(file: &File, position: u64, size: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; size.min(PIECE_BYTES)];
    loop {
        match file.read_at(&mut bytes, position) {
            Ok(length) => {
                bytes.truncate(length);
                return Ok(bytes.into());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.state {
            Reading::Idle => {
                if size > 0
                    && let Ok(permit) = Arc::clone(&self.share).try_acquire_owned()
                {
                    self.begin(size, permit);
                }
                Ok(Bytes::new())
            }
            Reading::UnderWay(_) => Ok(Bytes::new()),
            Reading::Read(bytes) => {
                let piece = bytes.split_to(bytes.len().min(size));
                if bytes.is_empty() {
                    self.state = Reading::Idle;
                }
                self.position += piece.len() as u64;
                Ok(piece)
            }
            Reading::Failed(_) => match std::mem::replace(&mut self.state, Reading::Closed) {
                Reading::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            Reading::Closed => Err(StreamError::Closed),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size > 0 {
            self.begin_in_turn(size).await;
        }
        self.settle().await;
        self.read(size)
    }

    async fn cancel(&mut self) {
        if let Reading::UnderWay(work) = std::mem::replace(&mut self.state, Reading::Closed) {
            work.cancel().await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.begin_in_turn(DEFAULT_BYTES).await;
        self.settle().await;
    }
}

/// Writes a file, piece by piece. A piece whose turn has not come waits here.
struct Writer {
    stream: DynOutputStream,
    share: Arc<Semaphore>,
    waiting: Option<Bytes>,
}

/// A piece with its place in the share, which it has until the thread that writes it lets it go.
struct Piece {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Writer {
    fn begin(&mut self, bytes: Bytes, permit: OwnedSemaphorePermit) -> StreamResult<()> {
        self.stream.write(Bytes::from_owner(Piece { bytes, _permit: permit }))
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.waiting.is_some() || self.stream.check_write()? == 0 {
            let text = "write not permitted: check-write not called first";
            return Err(StreamError::Trap(wasmtime::Error::msg(text)));
        }
        match Arc::clone(&self.share).try_acquire_owned() {
            Ok(permit) => self.begin(bytes, permit),
            Err(_) => {
                self.waiting = Some(bytes);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if let Some(bytes) = self.waiting.take() {
            match Arc::clone(&self.share).try_acquire_owned() {
                Ok(permit) => self.begin(bytes, permit)?,
                Err(_) => self.waiting = Some(bytes),
            }
            return Ok(0);
        }
        self.stream.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.stream.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.waiting = None;
        self.stream.cancel().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if self.waiting.is_some()
            // Nobody closes a share.
            && let Ok(permit) = Arc::clone(&self.share).acquire_owned().await
            && let Some(bytes) = self.waiting.take()
        {
            // The stream took nothing since it said that it takes this.
            let _ = self.begin(bytes, permit);
        }
        self.stream.ready().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use bulkhead_model::Limits;

    use super::*;

    fn share() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(PIECES_OF_AN_AGENT))
    }

    /// A stream whose thread says that it began, and ends when its channel does.
    struct Hanging {
        began: SyncSender<()>,
        end: Option<Receiver<()>>,
        work: Option<AbortOnDropJoinHandle<()>>,
    }

    #[wasmtime_wasi::async_trait]
    impl OutputStream for Hanging {
        fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
            let (began, end) = (self.began.clone(), self.end.take().expect("one write"));
            self.work = Some(spawn_blocking(move || {
                began.send(()).unwrap();
                let _ = end.recv();
                drop(bytes);
            }));
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            Ok(if self.work.is_some() { 0 } else { PIECE_BYTES })
        }
    }

    #[wasmtime_wasi::async_trait]
    impl Pollable for Hanging {
        async fn ready(&mut self) {
            if let Some(work) = self.work.take() {
                work.await;
            }
        }
    }

    #[tokio::test]
    async fn an_agent_has_its_share_of_threads_and_no_more_also_when_it_is_gone() {
        let (share, (began, begins)) = (share(), sync_channel(100));
        let (mut ends, mut writers) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let (end, ended) = sync_channel::<()>(0);
            ends.push(end);
            let stream = Box::new(Hanging { began: began.clone(), end: Some(ended), work: None });
            let mut writer = Writer { stream, share: Arc::clone(&share), waiting: None };
            assert_eq!(writer.check_write().unwrap(), PIECE_BYTES);
            writer.write(Bytes::from_static(b"x")).unwrap();
            assert_eq!(writer.check_write().unwrap(), 0);
            writers.push(writer);
        }
        let mut count = 0;
        while count < PIECES_OF_AN_AGENT {
            count += begins.try_iter().count();
            tokio::task::yield_now().await;
        }
        assert_eq!((count, share.available_permits()), (PIECES_OF_AN_AGENT, 0));
        // The guest is gone, its threads are not.
        writers.drain(..2);
        assert_eq!(share.available_permits(), 0);
        assert!(writers[10].write(Bytes::new()).is_err(), "one piece at a time");
        // Each that waits has its turn.
        drop(ends);
        for writer in &mut writers {
            writer.ready().await;
            assert_eq!(writer.check_write().unwrap(), PIECE_BYTES);
        }
        assert_eq!(begins.try_iter().count(), 20 - PIECES_OF_AN_AGENT);
        assert_eq!(share.available_permits(), PIECES_OF_AN_AGENT);
    }

    fn reader(text: &[u8], share: &Arc<Semaphore>) -> Reader {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(text, 0).unwrap();
        let meter = Meter::new(&Limits::default(), Arc::default(), Arc::default());
        Reader::new(Arc::new(file), 1, Arc::clone(share), Arc::new(meter))
    }

    #[tokio::test]
    async fn a_file_is_read_in_its_turn_and_what_was_read_takes_no_place() {
        let share = share();
        let taken = Arc::clone(&share).acquire_many_owned(4).await.unwrap();
        let mut files: Vec<_> = (0..10).map(|_| reader(b"0123456789", &share)).collect();
        for file in &mut files {
            assert!(file.read(4).unwrap().is_empty());
            let waits = tokio::time::timeout(std::time::Duration::ZERO, file.ready()).await;
            assert!(waits.is_err(), "it is not its turn");
        }
        drop(taken);
        for file in &mut files {
            file.ready().await;
        }
        assert_eq!(share.available_permits(), 4, "nobody took what was read, and it is no matter");
        for file in &mut files {
            assert_eq!(file.read(4).unwrap(), "1234");
            assert_eq!(file.read(100).unwrap(), "56789");
            assert!(file.read(0).unwrap().is_empty());
            assert!(matches!(file.blocking_read(9).await, Err(StreamError::Closed)));
        }
        let mut one = reader(b"0123456789", &share);
        assert_eq!(one.blocking_read(3).await.unwrap(), "123");
        assert_eq!(one.blocking_read(3).await.unwrap(), "456");
        assert!(one.read(2).unwrap().is_empty());
        one.cancel().await;
        assert!(matches!(one.read(1), Err(StreamError::Closed)));
    }
}
