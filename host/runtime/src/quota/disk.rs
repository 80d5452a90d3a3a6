//! The space that all agents leave to the host.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::fstatvfs;

use super::Space;

/// What agents may take before the disk is asked again: so much more than it says can be gone by then.
const LEASE: Space = Space { bytes: 16 * 1024 * 1024, entries: 1024 };

/// For how long that holds. Others write as well.
const LEASE_TIME: Duration = Duration::from_secs(1);

/// What the file system of the state directory keeps free of agents' files, so that the host can write down what it
/// has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFloor {
    /// Free bytes.
    pub bytes: u64,
    /// Free inodes. File systems that do not count them have none to keep.
    pub inodes: u64,
}

impl Default for DiskFloor {
    /// Room for the database and its log, some core dumps, and a directory for each of a thousand agents.
    fn default() -> Self {
        Self { bytes: 64 * 1024 * 1024, inodes: 2000 }
    }
}

/// Writes of agents that were refused in this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Because of the agent's own limits.
    pub refused_by_quota: u64,
    /// Because the disk is nearly full.
    pub refused_by_floor: u64,
}

/// A disk with its floor.
#[derive(Default)]
pub(crate) struct Disk {
    floor: DiskFloor,
    lease: Mutex<Lease>,
    by_quota: AtomicU64,
    by_floor: AtomicU64,
}

#[derive(Default)]
struct Lease {
    left: Space,
    until: Option<Instant>,
}

impl Disk {
    pub(crate) fn new(floor: DiskFloor) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(crate) fn figures(&self) -> DiskFigures {
        DiskFigures {
            refused_by_quota: self.by_quota.load(Relaxed),
            refused_by_floor: self.by_floor.load(Relaxed),
        }
    }

    pub(super) fn refused_by_quota(&self) {
        self.by_quota.fetch_add(1, Relaxed);
    }

    /// Whether `space` more leaves the floor free on the file system of `root`.
    pub(super) fn take(&self, root: &File, space: Space) -> io::Result<bool> {
        let mut lease = self.lease.lock();
        let now = Instant::now();
        if !space.is_within(lease.left) || lease.until.is_none_or(|until| until < now) {
            let above = self.above_floor(root)?;
            if !space.is_within(above) {
                self.by_floor.fetch_add(1, Relaxed);
                return Ok(false);
            }
            lease.until = Some(now + LEASE_TIME);
            lease.left = Space {
                bytes: above.bytes.min(LEASE.bytes.max(space.bytes)),
                entries: above.entries.min(LEASE.entries.max(space.entries)),
            };
        }
        lease.left = lease.left.minus(space);
        Ok(true)
    }

    fn above_floor(&self, root: &File) -> io::Result<Space> {
        let free = fstatvfs(root)?;
        let bytes = free.f_bavail.saturating_mul(free.f_frsize);
        let entries = match free.f_files {
            0 => u64::MAX,
            _ => free.f_favail.saturating_sub(self.floor.inodes),
        };
        Ok(Space { bytes: bytes.saturating_sub(self.floor.bytes), entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_leave_less_than_the_floor_is_refused_and_counted() {
        let root = File::open(std::env::temp_dir()).unwrap();
        let free = Disk::new(DiskFloor { bytes: 0, inodes: 0 });
        assert!(free.take(&root, Space::entry(4096)).unwrap());
        for floor in
            [DiskFloor { bytes: u64::MAX, inodes: 0 }, DiskFloor { bytes: 0, inodes: u64::MAX }]
        {
            let full = Disk::new(floor);
            let knows_inodes = fstatvfs(&root).unwrap().f_files > 0;
            let expected = floor.inodes > 0 && !knows_inodes;
            assert_eq!(full.take(&root, Space::entry(4096)).unwrap(), expected);
            assert_eq!(full.figures().refused_by_floor, u64::from(!expected));
        }
    }

    #[test]
    fn the_disk_is_asked_again_when_the_lease_is_used_up() {
        let root = File::open(std::env::temp_dir()).unwrap();
        let disk = Disk::new(DiskFloor { bytes: 0, inodes: 0 });
        let most = LEASE.bytes;
        assert!(disk.take(&root, Space { bytes: most - 1, entries: 0 }).unwrap());
        assert_eq!(disk.lease.lock().left.bytes, 1);
        assert!(disk.take(&root, Space { bytes: 2, entries: 0 }).unwrap());
        assert_eq!(disk.lease.lock().left.bytes, most - 2);
    }
}
