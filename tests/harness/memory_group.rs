//! A memory group of the kernel's, version 1, so that a test can cause a real out-of-memory kill.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{FlockOperation, flock};

use crate::wait_until;

/// Groups that this process made.
static MADE: AtomicUsize = AtomicUsize::new(0);

const ROOT: &str = "/sys/fs/cgroup/memory";

/// A group with a limit, removed when it is dropped. Its processes must have ended by then.
pub struct MemoryGroup {
    dir: PathBuf,
    limit_bytes: u64,
}

impl MemoryGroup {
    /// A group below that of this process. Says why when there can be none, which takes root and the
    /// controller of version 1.
    pub fn with_limit(limit_bytes: u64) -> Result<Self, String> {
        let own = own_group().ok_or("there is no memory controller of version 1")?;
        Self::inside(&own, limit_bytes)
    }

    /// A group below this one. Drop it first.
    pub fn below(&self, limit_bytes: u64) -> Result<Self, String> {
        Self::inside(&self.dir, limit_bytes)
    }

    fn inside(above: &Path, limit_bytes: u64) -> Result<Self, String> {
        let number = MADE.fetch_add(1, Relaxed);
        let dir = above.join(format!("bulkhead-test-{}-{number}", std::process::id()));
        let _ = fs::remove_dir(&dir);
        fs::create_dir(&dir).map_err(|error| format!("make a memory group: {error}"))?;
        let group = Self { dir, limit_bytes };
        group
            .write("memory.limit_in_bytes", limit_bytes)
            .map_err(|error| format!("limit a memory group: {error}"))?;
        Ok(group)
    }

    /// A command that puts itself into the group and becomes its arguments: for
    /// [`run_by`](crate::HostBuilder::run_by).
    pub fn entrance(&self) -> Vec<String> {
        let procs = self.dir.join("cgroup.procs");
        let procs = procs.to_str().expect("a path in UTF-8");
        let script = "echo $$ >\"$0\" && exec \"$@\"";
        ["sh", "-c", script, procs].map(str::to_owned).to_vec()
    }

    /// Share of the limit that only swapping would free.
    pub fn share(&self) -> f64 {
        let stat = fs::read_to_string(self.dir.join("memory.stat")).expect("read memory.stat");
        let used = stat.lines().find_map(|line| line.strip_prefix("total_rss ")?.parse().ok());
        used.unwrap_or(0.0) / self.limit_bytes as f64
    }

    /// Kills by the kernel in this group so far.
    pub fn oom_kills(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join("memory.oom_control")).expect("read it");
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        kills.expect("the kernel counts kills")
    }

    fn write(&self, file: &str, value: u64) -> std::io::Result<()> {
        fs::write(self.dir.join(file), value.to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let removed = || fs::remove_dir(&self.dir).is_ok();
        // The kernel may take a moment to let go of the last process.
        if !removed() && !std::thread::panicking() {
            wait_until("the memory group is empty", removed);
        }
    }
}

/// Until it is dropped, no other test makes the kernel kill for want of memory, nor relies on that it does
/// not: the kernel counts for the whole machine.
#[must_use]
pub fn kills_are_mine() -> File {
    locked(FlockOperation::LockExclusive)
}

/// Until it is dropped, no test makes the kernel kill for want of memory.
#[must_use]
pub fn no_kills() -> File {
    locked(FlockOperation::LockShared)
}

fn locked(how: FlockOperation) -> File {
    // Beside the binary, where what is built lies: nothing stays behind elsewhere.
    let path = crate::files::binary().with_file_name("test-kills.lock");
    let file = File::options().append(true).create(true).open(path).expect("open a lock file");
    flock(&file, how).expect("lock a file");
    file
}

fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let is_memory = parts.next()?.split(',').any(|name| name == "memory");
        parts.next().filter(|_| is_memory)
    })?;
    let below = Path::new(ROOT).join(own.trim_start_matches('/'));
    let dir = if below.is_dir() { below } else { PathBuf::from(ROOT) };
    dir.join("memory.limit_in_bytes").is_file().then_some(dir)
}
