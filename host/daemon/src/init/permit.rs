//! What keeper, init process and supervisor say to each other of the lease.

use std::io::Write;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

/// The variable: the process id of init, and the highest epoch that it knows of, with a colon between. A process that has it
/// set is a keeper.
pub const KEEPER: &str = "BULKHEAD_KEEPER";

/// What a keeper says to its init process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum KeeperMessage {
    /// It is not held here. Sentences with who holds it, under which epoch, and what the register said instead of an answer.
    Waiting { holder: Option<String>, epoch: u64, failing: Option<String> },
    /// It is held here. The end of the work comes at `fence_at`, in nanoseconds of `CLOCK_BOOTTIME`.
    Held { epoch: u64, fence_at: u64 },
    /// It is not held here any more. The keeper ends.
    Lost { why: String },
    /// It cannot be held, and trying again does not help. The keeper ends.
    Refused { why: String },
}

/// The right to run a supervisor, until a moment of `CLOCK_BOOTTIME` in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeasePermit {
    /// Number of the acquisition.
    pub epoch: u64,
    /// The supervisor must be gone then.
    pub fence_at: u64,
}

impl LeasePermit {
    /// Whether the supervisor must be gone now.
    pub fn is_over(self) -> bool {
        bulkhead_fence::now() >= self.fence_at
    }

    /// What a renewal takes on the way to the supervisor.
    pub const FRAME_BYTES: usize = 16;

    fn to_frame(self) -> [u8; Self::FRAME_BYTES] {
        let mut frame = [0; Self::FRAME_BYTES];
        let (epoch, fence_at) = frame.split_at_mut(8);
        epoch.copy_from_slice(&self.epoch.to_le_bytes());
        fence_at.copy_from_slice(&self.fence_at.to_le_bytes());
        frame
    }

    /// Reads one back.
    pub fn of_frame(frame: [u8; Self::FRAME_BYTES]) -> Self {
        let frame = u128::from_le_bytes(frame);
        Self { epoch: frame as u64, fence_at: (frame >> 64) as u64 }
    }

    /// Sends it to a supervisor. One that does not read ends by the permit that it has.
    pub fn send(self, mut to: &UnixStream) {
        let _ = to.write(&self.to_frame());
    }
}
