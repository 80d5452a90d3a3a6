//! Reports to the host. Sending never waits; a host that does not read gets no figures, and everything else later.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use crate::settings::MOST_TOOLS;
use crate::wire::{Report, send};

/// Each tool has a start and an end. Above this, nothing is taken from the host.
const MANY: usize = 4 * MOST_TOOLS as usize;

pub struct Outbox<'a> {
    socket: BorrowedFd<'a>,
    waiting: VecDeque<Report>,
}

impl<'a> Outbox<'a> {
    pub fn new(socket: BorrowedFd<'a>) -> Self {
        Self { socket, waiting: VecDeque::new() }
    }

    /// Sends it, at the latest when the socket takes it again.
    pub fn send(&mut self, report: Report) -> io::Result<()> {
        if matches!(report, Report::Usage { .. }) && !self.is_empty() {
            return Ok(());
        }
        self.waiting.push_back(report);
        self.flush()
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(report) = self.waiting.front() {
            match send(self.socket, report, &[]) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MANY
    }
}
