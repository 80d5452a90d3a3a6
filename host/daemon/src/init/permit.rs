//! What keeper, init process and supervisor say to each other of the lease.

use std::io::Write;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

/// The variable, with a [`KeeperOrder`]. A process that has it set is a keeper.
pub const KEEPER: &str = "BULKHEAD_KEEPER";

/// What the init process hands to a keeper: four numbers with colons between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeeperOrder {
    /// The init process.
    pub init_pid: u32,
    /// The highest epoch that it knows of.
    pub floor: u64,
    /// Until then it may run a supervisor by what an earlier keeper held, in nanoseconds of `CLOCK_BOOTTIME`. 0: it may not.
    pub permit_until: u64,
    /// The epoch that was given back so that another copy takes it. 0: none.
    pub yields: u64,
}

impl KeeperOrder {
    /// The value of the variable.
    pub fn to_value(self) -> String {
        let Self { init_pid, floor, permit_until, yields } = self;
        format!("{init_pid}:{floor}:{permit_until}:{yields}")
    }

    /// Reads it.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(':');
        let order = Self {
            init_pid: parts.next()?.parse().ok()?,
            floor: parts.next()?.parse().ok()?,
            permit_until: parts.next()?.parse().ok()?,
            yields: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(order)
    }
}

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
    /// It waits, and cannot answer probes.
    Unheard { why: String },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let order = KeeperOrder { init_pid: 7, floor: 12, permit_until: u64::MAX, yields: 11 };
        assert_eq!(KeeperOrder::parse(&order.to_value()), Some(order));
        for bad in ["", "7", "7:12", "7:12:3", "7:12:3:x", "7:12:3:4:5"] {
            assert_eq!(KeeperOrder::parse(bad), None, "{bad}");
        }
    }
}
