//! What an init says on its pipe: JSON, one line each.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// An init says little; a line has less than this.
const MOST_BYTES: usize = 4096;

/// From the init of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitReport {
    /// The program runs.
    Started,
    /// It does not.
    Failed(Failure),
    /// More lies in a writable bind than may.
    DiskLimit,
    /// It ended.
    Ended {
        /// As `wait` has it.
        status: i32,
        /// Of all processes that the init reaped.
        cpu: Duration,
        /// Of the largest of them.
        peak_bytes: u64,
    },
}

impl InitReport {
    /// Writes it: less than a pipe takes at once.
    pub fn write(&self, pipe: BorrowedFd<'_>) {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        // The worker is gone otherwise, and this process with it.
        let _ = rustix::io::write(pipe, &line);
    }
}

/// The worker's end of such a pipe.
#[derive(Debug)]
pub struct Reports {
    pipe: File,
    bytes: Vec<u8>,
    is_open: bool,
}

impl Reports {
    /// `pipe` does not block.
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe: pipe.into(), bytes: Vec::new(), is_open: true }
    }

    /// The next one that is there.
    pub fn take(&mut self) -> Option<InitReport> {
        self.fill();
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        serde_json::from_slice(&line).ok()
    }

    /// The init may still say something.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    fn fill(&mut self) {
        let mut chunk = [0; 512];
        while self.is_open && self.bytes.len() < MOST_BYTES {
            match self.pipe.read(&mut chunk) {
                Ok(0) => self.is_open = false,
                Ok(read) => self.bytes.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_open = error.kind() == ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Sends a failure from the tool's process to its init.
pub fn write_failure(mut pipe: impl Write, failure: &Failure) {
    let _ = serde_json::to_writer(&mut pipe, failure);
}

/// What the tool's process sent until its program ran.
pub fn read_failure(pipe: OwnedFd) -> io::Result<Option<Failure>> {
    let mut bytes = Vec::new();
    File::from(pipe).take(MOST_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(if bytes.is_empty() { None } else { Some(serde_json::from_slice(&bytes)?) })
}
