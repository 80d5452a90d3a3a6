//! Streams of files.
//!
//! A guest that waits for a piece is moved to a thread that may block, and reads or writes it there in place. A stream
//! that reads or writes without waiting takes a blocking thread for each piece, and a guest may have hundreds of
//! streams. So of those threads one agent has a share, and a stream waits for its turn when the share is used up. A
//! piece has its permit of the share until its thread is through with it, also when the guest is gone.
//! Also what the page cache has is read by a thread: see `docs/decisions/execution.md`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn_blocking};

use crate::lanes::at_work;
use crate::may_block::Blocking;
use crate::quota::{At, Open};

/// A stream reads and writes a file by pieces of at most this.
const PIECE_BYTES: usize = 64 * 1024;

/// What is read when a guest waits for a file without saying how much it wants.
const DEFAULT_BYTES: usize = 4096;

/// Reads a file, piece by piece.
pub(super) struct Reader {
    file: Open<Arc<File>>,
    position: u64,
    blocking: Blocking,
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
    pub(super) fn new(file: Open<Arc<File>>, position: u64, blocking: Blocking) -> Self {
        Self { file, position, blocking, state: Reading::Idle }
    }

    fn begin(&mut self, size: usize, permit: OwnedSemaphorePermit) {
        let (file, position) = (self.file.clone(), self.position);
        let blocking = self.blocking.clone();
        self.state = Reading::UnderWay(spawn_blocking(move || {
            let read = at_work(|| blocking.charged(|| read_piece(&file, position, size)));
            drop(permit);
            read
        }));
    }

    /// Begins to read, when it is its turn and nothing else has to be done first.
    async fn begin_in_turn(&mut self, size: usize) {
        if let Reading::Idle = self.state {
            // Nobody closes a share.
            if let Ok(permit) = Arc::clone(self.blocking.share()).acquire_owned().await {
                self.begin(size, permit);
            }
        }
    }

    /// Reads in place, when nothing else has to be done first.
    async fn read_in_place(&mut self, size: usize) {
        if let Reading::Idle = self.state {
            self.blocking.thread().await;
            self.state = read_piece(&self.file, self.position, size).into();
        }
    }

    /// Waits for what is under way.
    async fn settle(&mut self) {
        if let Reading::UnderWay(work) = &mut self.state {
            self.state = work.await.into();
        }
    }
}

impl From<io::Result<Bytes>> for Reading {
    fn from(read: io::Result<Bytes>) -> Self {
        match read {
            Ok(bytes) if bytes.is_empty() => Self::Closed,
            Ok(bytes) => Self::Read(bytes),
            Err(error) => Self::Failed(error),
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
                    && let Ok(permit) = Arc::clone(self.blocking.share()).try_acquire_owned()
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
        self.settle().await;
        if size > 0 {
            self.read_in_place(size).await;
        }
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
pub(super) struct Writer {
    file: Open<Arc<File>>,
    at: At,
    blocking: Blocking,
    state: Writing,
}

enum Writing {
    Idle,
    Waiting(Bytes),
    UnderWay(AbortOnDropJoinHandle<io::Result<usize>>),
    Failed(io::Error),
    Closed,
}

impl Writer {
    pub(super) fn new(file: Open<Arc<File>>, at: At, blocking: Blocking) -> Self {
        Self { file, at, blocking, state: Writing::Idle }
    }

    fn begin(&mut self, bytes: Bytes, permit: OwnedSemaphorePermit) {
        let (file, at) = (self.file.clone(), self.at);
        let blocking = self.blocking.clone();
        self.state = Writing::UnderWay(spawn_blocking(move || {
            let written = at_work(|| blocking.charged(|| write_all(&file, at, &bytes)));
            drop(permit);
            written
        }));
    }

    /// Begins what waits, if it is its turn.
    fn try_begin(&mut self) {
        if let Writing::Waiting(bytes) = &self.state
            && let Ok(permit) = Arc::clone(self.blocking.share()).try_acquire_owned()
        {
            let bytes = bytes.clone();
            self.begin(bytes, permit);
        }
    }

    fn written(&mut self, written: io::Result<usize>) {
        self.state = match written {
            Ok(length) => {
                if let At::Position(position) = &mut self.at {
                    *position += length as u64;
                }
                Writing::Idle
            }
            Err(error) => Writing::Failed(error),
        };
    }

    /// Says once why the last piece was not written.
    fn take_failure(&mut self) -> StreamResult<()> {
        match &self.state {
            Writing::Closed => Err(StreamError::Closed),
            Writing::Failed(_) => match std::mem::replace(&mut self.state, Writing::Closed) {
                Writing::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            Writing::Idle | Writing::Waiting(_) | Writing::UnderWay(_) => Ok(()),
        }
    }
}

fn write_all(file: &Open<Arc<File>>, mut at: At, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match file.quota().write(file, at, &bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => {
                written += length;
                if let At::Position(position) = &mut at {
                    *position += length as u64;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.check_write()? == 0 {
            return Err(StreamError::trap("write not permitted: check-write not called first"));
        }
        self.state = Writing::Waiting(bytes);
        self.try_begin();
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.take_failure()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.take_failure()?;
        self.try_begin();
        Ok(if matches!(self.state, Writing::Idle) { PIECE_BYTES } else { 0 })
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.take_failure()?;
        self.blocking.thread().await;
        let written = write_all(&self.file, self.at, &bytes);
        self.written(written);
        self.take_failure()
    }

    async fn cancel(&mut self) {
        if let Writing::UnderWay(work) = std::mem::replace(&mut self.state, Writing::Closed) {
            work.cancel().await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let Writing::Waiting(bytes) = &self.state {
            let bytes = bytes.clone();
            // Nobody closes a share.
            if let Ok(permit) = Arc::clone(self.blocking.share()).acquire_owned().await {
                self.begin(bytes, permit);
            }
        }
        if let Writing::UnderWay(work) = &mut self.state {
            let written = work.await;
            self.written(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use bulkhead_types::Limits;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::descriptors::Descriptors;
    use crate::meter::Meter;
    use crate::quota::{Disk, Quota};

    const PERMITS: usize = 4;

    fn share() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(PERMITS))
    }

    fn meter() -> Arc<Meter> {
        Arc::new(Meter::new(&Limits::default(), Arc::default(), Arc::default(), Arc::default()))
    }

    fn blocking(share: &Arc<Semaphore>) -> Blocking {
        Blocking::new(meter(), Arc::clone(share))
    }

    fn quota(bytes: u64) -> Arc<Quota> {
        let limits = Limits { workspace_bytes: bytes, ..Limits::default() };
        let descriptors = Descriptors::new(usize::MAX).none();
        Arc::new(Quota::new(&limits, Arc::new(Disk::default()), None, descriptors))
    }

    fn file(quota: &Arc<Quota>) -> Open<Arc<File>> {
        Open::new(Arc::new(tempfile::tempfile().unwrap()), quota)
    }

    #[tokio::test]
    async fn pieces_beyond_the_share_are_written_in_their_turn() {
        let (share, quota) = (share(), quota(1 << 20));
        // A disk that hangs until the test lets go of it.
        let (let_go, wait) = sync_channel::<()>(0);
        let (held, is_held) = sync_channel(0);
        let for_thread = Arc::clone(&quota);
        let disk = std::thread::spawn(move || {
            let _step = for_thread.begin().unwrap();
            held.send(()).unwrap();
            let _ = wait.recv();
        });
        is_held.recv().unwrap();
        let file = file(&quota);
        let mut writers = Vec::new();
        for n in 0..20 {
            let at = At::Position(n);
            let mut writer = Writer::new(file.clone(), at, blocking(&share));
            assert_eq!(writer.check_write().unwrap(), PIECE_BYTES);
            writer.write(Bytes::from_static(b"x")).unwrap();
            assert_eq!(writer.check_write().unwrap(), 0);
            writers.push(writer);
        }
        assert_eq!(share.available_permits(), 0);
        assert!(writers[10].write(Bytes::new()).is_err(), "one piece at a time");
        drop(let_go);
        for writer in &mut writers {
            writer.ready().await;
            assert_eq!(writer.check_write().unwrap(), PIECE_BYTES);
        }
        disk.join().unwrap();
        assert_eq!(share.available_permits(), PERMITS);
        let mut bytes = [0; 20];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 20);
        assert_eq!(bytes, [b'x'; 20]);
    }

    #[tokio::test]
    async fn a_stream_says_once_that_the_workspace_is_full_and_is_closed_then() {
        let mut writer = Writer::new(file(&quota(4096)), At::End, blocking(&share()));
        let mut failures = Vec::new();
        for _ in 0..2 {
            writer.write(Bytes::from_static(&[1; 4096])).unwrap();
            writer.ready().await;
            failures.extend(writer.check_write().err());
        }
        let [StreamError::LastOperationFailed(error)] = &failures[..] else {
            panic!("{failures:?}")
        };
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::StorageFull));
        assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
        assert!(matches!(writer.flush(), Err(StreamError::Closed)));
    }

    fn reader(text: &[u8], share: &Arc<Semaphore>) -> Reader {
        let file = file(&quota(1 << 20));
        file.write_all_at(text, 0).unwrap();
        Reader::new(file, 1, blocking(share))
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
            assert!(file.read(9).unwrap().is_empty());
            file.ready().await;
            assert!(matches!(file.read(9), Err(StreamError::Closed)));
        }
    }

    #[test]
    fn where_the_thread_may_block_a_piece_is_read_and_written_at_once() {
        let share = share();
        let mut one = reader(b"0123456789", &share);
        let mut two = Writer::new(one.file.clone(), At::End, blocking(&share));
        crate::lanes::blocking(|| {
            let read = |one: &mut Reader, size| super::super::now(one.blocking_read(size));
            assert_eq!(read(&mut one, 3).unwrap(), "123");
            assert_eq!(read(&mut one, 3).unwrap(), "456");
            super::super::now(two.blocking_write_and_flush("ab".into())).unwrap();
            assert_eq!(read(&mut one, 100).unwrap(), "789ab");
        });
        assert_eq!(share.available_permits(), PERMITS);
    }

    #[tokio::test]
    async fn what_a_piece_takes_on_another_thread_is_charged() {
        let (meter, quota) = (meter(), quota(1 << 20));
        let (file, charged) = (file(&quota), || meter.usage().cpu_us);
        let blocking = || Blocking::new(Arc::clone(&meter), share());
        let mut writer = Writer::new(file.clone(), At::Position(0), blocking());
        writer.write(vec![1; PIECE_BYTES].into()).unwrap();
        writer.ready().await;
        let written = charged();
        assert!(written > 0);
        let mut reader = Reader::new(file, 0, blocking());
        assert!(reader.read(PIECE_BYTES).unwrap().is_empty());
        reader.ready().await;
        assert!(charged() > written);
    }

    #[tokio::test]
    async fn a_stream_that_is_cancelled_is_closed_and_its_thread_gives_its_place_back() {
        let share = share();
        let mut one = reader(b"0123456789", &share);
        assert!(one.read(2).unwrap().is_empty());
        one.cancel().await;
        assert!(matches!(one.read(1), Err(StreamError::Closed)));
        let _ = Arc::clone(&share).acquire_many_owned(4).await.unwrap();
    }
}
