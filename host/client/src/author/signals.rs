//! The signals that end a command with a child.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// From the first on none of them ends the process by itself.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The end that a signal asks for. Ctrl-C is the usual one.
    pub(crate) async fn next(&mut self) -> Result<(), Failure> {
        tokio::select! {
            _ = self.interrupt.recv() => Ok(()),
            _ = self.terminate.recv() => Err(Failure::signaled(15)),
            _ = self.hangup.recv() => Err(Failure::signaled(1)),
        }
    }
}
