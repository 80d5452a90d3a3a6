//! The launcher, as the host has it.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::layers::Layers;
use crate::link::{Link, Process};
use crate::settings::Settings;
use crate::tools::{Tools, drive};
use crate::wire::{Report, Request, receive, send};

/// Until the launcher has tried what it can do: some 20 ms on a quiet machine.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The process that launches tools. Dropping it ends the launcher and all tools.
#[derive(Debug)]
pub struct Launcher {
    link: Link,
    worker: u64,
    layers: Layers,
    settings: Settings,
}

impl Launcher {
    /// Runs a program that has to call [`serve`](crate::serve()), with a socket as its standard input. Give it no variables
    /// that it does not need: it is the parent of all tools. Waits until it knows what it can do. Call it before this
    /// process confines itself, which the launcher would inherit, and before it maps much memory.
    ///
    /// # Errors
    ///
    /// If the program does not start or answer, and if a layer is missing that [`Settings::require`] names.
    pub fn start(mut command: Command, settings: &Settings) -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        command.current_dir("/").stdin(Stdio::from(theirs)).stdout(Stdio::null());
        // A Ctrl-C is for the host, which lets its agents finish.
        command.process_group(0);
        let process = Process(command.spawn()?);
        // It holds the launcher's end, which has to close with the launcher.
        drop(command);
        let link = Link { socket, process };
        send(&link.socket, &Request::Settings(settings.clone()), &[])?;
        let (worker, layers) = first_report(&link.socket)?;
        match layers.missing(&settings.require) {
            Some(problem) => Err(io::Error::new(ErrorKind::Unsupported, problem)),
            None => Ok(Self { link, worker, layers, settings: settings.clone() }),
        }
    }

    /// What confines tools here, and what is missing and why.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.link.process.0.id()
    }

    /// The asynchronous face, and what has to be polled for it to work: it ends when all [`Tools`] and children are
    /// dropped, or with an error when the launcher is gone for good. Dropping it kills all tools.
    ///
    /// # Errors
    ///
    /// If the runtime cannot poll the socket.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O.
    pub fn connect(self) -> io::Result<(Tools, impl Future<Output = io::Result<()>> + Send)> {
        drive(self.link, self.worker, self.settings)
    }
}

fn first_report(socket: &OwnedFd) -> io::Result<(u64, Layers)> {
    if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&PATIENCE))? == 0 {
        return Err(io::Error::new(ErrorKind::TimedOut, "the launcher of tools does not answer"));
    }
    match receive(socket)? {
        Some((Report::Hello { worker, layers }, _)) => Ok((worker, layers)),
        Some(_) => Err(io::Error::other("the launcher of tools does not greet")),
        None => Err(io::Error::other("the launcher of tools ended at its start")),
    }
}
