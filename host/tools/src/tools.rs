//! The asynchronous face of the launcher. One future owns the socket and all that is known of tools; everybody else
//! sends it requests through a bounded queue, or throws a switch.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::child::{Child, Meter, Output, Progress, Switch, Which};
use crate::command::Command;
use crate::end::{End, Ended, Finished, SpawnError};
use crate::link::{Link, Process};
use crate::settings::{MOST_TOOLS, Settings};
use crate::wire::{Report, Request, receive, seal, send};

/// Requests that wait for the socket. Callers wait above it.
const QUEUE: usize = 64;
/// Until a program runs: some milliseconds, on a machine that is not overloaded.
const START_PATIENCE: Duration = Duration::from_secs(30);
const GONE: &str = "the launcher is gone";

/// Runs tools. Clones are the same.
#[derive(Debug, Clone)]
pub struct Tools {
    requests: mpsc::Sender<Start>,
    notify: Arc<Notify>,
    next: Arc<AtomicU64>,
    running: Arc<Semaphore>,
    limit: u32,
    /// Bytes that all tools may still take. [`UNBOUNDED`]: nobody said so.
    room: Arc<AtomicU64>,
}

/// Room that nobody bounds.
const UNBOUNDED: u64 = u64::MAX;

/// A change of the room that the launcher hears of.
const ROOM_STEP: u64 = 1 << 20;

/// A tool to start.
#[derive(Debug)]
struct Start {
    id: u64,
    files: [OwnedFd; 4],
    entry: Entry,
}

/// A tool that starts or runs.
#[derive(Debug)]
struct Entry {
    /// Which worker has it.
    worker: u64,
    started: Option<oneshot::Sender<Result<(), SpawnError>>>,
    progress: watch::Sender<Progress>,
    switch: Arc<Switch>,
    is_killed: bool,
    /// Counts it among those that run.
    permit: OwnedSemaphorePermit,
}

/// What drives the socket.
struct Driver {
    socket: AsyncFd<OwnedFd>,
    requests: mpsc::Receiver<Start>,
    notify: Arc<Notify>,
    worker: u64,
    tools: HashMap<u64, Entry>,
    room: Arc<AtomicU64>,
    /// The room that the worker knows.
    known_room: u64,
    /// Behind the socket, whose end it waits for when dropped.
    _process: Process,
}

/// See [`Launcher::connect`](crate::Launcher::connect).
pub fn drive(
    link: Link,
    worker: u64,
    settings: Settings,
) -> io::Result<(Tools, impl Future<Output = io::Result<()>> + Send)> {
    let (sender, requests) = mpsc::channel(QUEUE);
    let limit = settings.tools.min(MOST_TOOLS);
    let notify = Arc::new(Notify::new());
    let tools = Tools {
        requests: sender,
        notify: notify.clone(),
        next: Arc::new(AtomicU64::new(1)),
        running: Arc::new(Semaphore::new(limit as usize)),
        limit,
        room: Arc::new(AtomicU64::new(UNBOUNDED)),
    };
    let Link { socket, process } = link;
    #[expect(unsafe_code, reason = "tokio polls no other sockets of packets")]
    // SAFETY: an `OwnedFd` that the `AsyncFd` owns stays open and the same.
    let socket = unsafe { AsyncFd::register(socket) }?;
    let driver = Driver {
        socket,
        requests,
        notify,
        worker,
        tools: HashMap::new(),
        room: Arc::clone(&tools.room),
        known_room: UNBOUNDED,
        _process: process,
    };
    Ok((tools, driver.run()))
}

impl Tools {
    /// Starts a tool, and returns when its program runs. Dropping the future kills it.
    ///
    /// # Errors
    ///
    /// At once if as many run as [`Settings::tools`] allows: nothing waits in a queue. After 30 s if the launcher does not
    /// answer.
    pub async fn spawn(&self, command: &Command) -> Result<Child, SpawnError> {
        command.check().map_err(SpawnError::Invalid)?;
        let permit = self.running.clone().try_acquire_owned();
        let permit = permit.map_err(|_| SpawnError::TooMany(self.limit))?;
        let file = seal(command).map_err(unavailable)?;
        let (stdin, stdout, stderr) = (pipe()?, pipe()?, pipe()?);
        let switch = Arc::new(Switch::new(self.notify.clone()));
        let (progress, watched) = watch::channel(Progress::default());
        let (started, is_started) = oneshot::channel();
        let entry = Entry {
            worker: 0,
            started: Some(started),
            progress,
            switch: switch.clone(),
            is_killed: false,
            permit,
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let start = Start { id, files: [file, stdin.0, stdout.1, stderr.1], entry };
        let guard = CancelOnDrop(switch.clone(), AtomicBool::new(true));
        self.requests.send(start).await.map_err(|_| unavailable(GONE))?;
        let is_started = timeout(START_PATIENCE, is_started).await;
        let is_started = is_started.map_err(|_| unavailable("the launcher does not answer"))?;
        is_started.unwrap_or_else(|_| Err(unavailable(GONE)))?;
        guard.1.store(false, Ordering::Relaxed);
        let meter = Arc::new(Meter::new(command.limits.output_bytes, switch.clone()));
        let output = |end: OwnedFd, which| {
            pipe::Receiver::from_owned_fd(end).map(|it| Output::new(it, meter.clone(), which))
        };
        // From here on dropping the child kills it.
        let mut child = Child {
            stdin: None,
            stdout: None,
            stderr: None,
            progress: watched,
            switch,
            meter: meter.clone(),
        };
        child.stdin = Some(pipe::Sender::from_owned_fd(stdin.1).map_err(unavailable)?);
        child.stdout = Some(output(stdout.0, Which::Stdout).map_err(unavailable)?);
        child.stderr = Some(output(stderr.0, Which::Stderr).map_err(unavailable)?);
        Ok(child)
    }

    /// From here on all tools together may take so many bytes of memory more than they have now. Above that the kernel
    /// ends one of them, with [`End::Shed`], and nothing else of the container. Without cgroups nothing happens.
    pub fn give_room(&self, bytes: u64) {
        self.room.store(bytes, Ordering::Relaxed);
        // It tells what differs from what the launcher knows, and small steps add up.
        self.notify.notify_one();
    }

    /// Runs a tool to its end, with these bytes as its whole input. Dropping the future kills it.
    ///
    /// # Errors
    ///
    /// As [`Tools::spawn`].
    pub async fn run(&self, command: &Command, stdin: Vec<u8>) -> Result<Finished, SpawnError> {
        Ok(self.spawn(command).await?.finish(&stdin, |_| true).await)
    }
}

/// Kills a tool whose start nobody waits for any more.
struct CancelOnDrop(Arc<Switch>, AtomicBool);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.1.load(Ordering::Relaxed) {
            self.0.kill(crate::end::KillReason::Cancelled);
        }
    }
}

impl Driver {
    /// To the end of all tools and their callers. An error: the launcher is gone before.
    async fn run(mut self) -> io::Result<()> {
        let (mut is_closed, mut result) = (false, Ok(()));
        while !(is_closed && self.tools.is_empty()) {
            let notify = self.notify.clone();
            let done = tokio::select! {
                start = self.requests.recv(), if !is_closed => match start {
                    Some(start) => self.start(start).await,
                    None => { is_closed = true; Ok(()) }
                },
                () = notify.notified() => match self.tell_room().await {
                    Ok(()) => self.kill().await,
                    failed => failed,
                },
                ready = self.socket.readable() => match ready {
                    Ok(mut ready) => { ready.clear_ready(); self.take_all().await }
                    Err(error) => Err(error),
                },
            };
            if done.is_err() {
                result = done;
                break;
            }
        }
        for (_, entry) in self.tools.drain() {
            entry.lose();
        }
        result
    }

    async fn start(&mut self, Start { id, files, mut entry }: Start) -> io::Result<()> {
        entry.worker = self.worker;
        let request = Request::Spawn { id, worker: self.worker };
        self.tools.insert(id, entry);
        let files = files.each_ref().map(AsFd::as_fd);
        self.send(&request, &files).await
    }

    /// Sends the room, if it is another one.
    async fn tell_room(&mut self) -> io::Result<()> {
        let bytes = self.room.load(Ordering::Relaxed);
        if bytes.abs_diff(self.known_room) < ROOM_STEP {
            return Ok(());
        }
        self.known_room = bytes;
        self.send(&Request::Room { bytes }, &[]).await
    }

    /// Sends what switches want.
    async fn kill(&mut self) -> io::Result<()> {
        let wanted = |(id, it): (&u64, &mut Entry)| {
            let why = it.switch.reason().filter(|_| !it.is_killed)?;
            it.is_killed = true;
            Some(Request::Kill { id: *id, why })
        };
        let requests: Vec<Request> = self.tools.iter_mut().filter_map(wanted).collect();
        for request in requests {
            self.send(&request, &[]).await?;
        }
        Ok(())
    }

    /// The launcher reads as long as it lives, so this waits for no tool.
    async fn send(&self, request: &Request, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            match ready.try_io(|it| send(it.get_ref(), request, files)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    async fn take_all(&mut self) -> io::Result<()> {
        loop {
            match receive(self.socket.get_ref()) {
                Ok(Some((report, _))) => self.take(report),
                Ok(None) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        // A tool may have been given up while it started.
        self.kill().await
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Hello { worker, .. } => self.replace_worker(worker),
            Report::Started { id } => {
                if let Some(started) = self.tools.get_mut(&id).and_then(|it| it.started.take()) {
                    // Callers that do not wait any more have thrown the switch.
                    let _ = started.send(Ok(()));
                }
            }
            Report::Refused { id, error } => {
                if let Some(entry) = self.tools.remove(&id) {
                    entry.refuse(error);
                }
            }
            Report::Usage { id, usage } => {
                if let Some(entry) = self.tools.get(&id) {
                    entry.progress.send_modify(|it| it.usage = usage);
                }
            }
            Report::Ended { id, ended } => {
                if let Some(entry) = self.tools.remove(&id) {
                    entry.end(ended);
                }
            }
        }
    }

    /// What the workers before it had is dead.
    fn replace_worker(&mut self, worker: u64) {
        self.worker = worker;
        self.known_room = UNBOUNDED;
        self.notify.notify_one();
        let lost = self.tools.extract_if(|_, entry| entry.worker < worker);
        for (_, entry) in lost {
            entry.lose();
        }
    }
}

impl Entry {
    fn end(self, ended: Ended) {
        // Before anybody hears of it: there is room then.
        drop(self.permit);
        self.progress.send_modify(|it| {
            it.usage = ended.usage;
            it.ended = Some(ended.clone());
        });
        self.switch.ended(ended);
    }

    fn refuse(self, error: SpawnError) {
        drop(self.permit);
        if let Some(started) = self.started {
            let _ = started.send(Err(error));
        }
    }

    fn lose(self) {
        if self.started.is_some() {
            return self.refuse(unavailable("the launcher died"));
        }
        let usage = self.progress.borrow().usage;
        self.end(Ended { end: End::LauncherDied, usage });
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(unavailable)
}

fn unavailable(why: impl std::fmt::Display) -> SpawnError {
    SpawnError::Unavailable(why.to_string())
}
