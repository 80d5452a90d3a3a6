//! Controllers of both versions, behind one face.
//!
//! | | version 2 | version 1 |
//! | --- | --- | --- |
//! | memory | `memory.max`, no swap, killed as a whole | `memory.limit_in_bytes`, with swap |
//! | processes | `pids.max` | `pids.max` |
//! | share of processors | `cpu.weight` | `cpu.shares` |
//! | processor time | `cpu.stat` | `cpuacct.usage` |
//! | kill | `cgroup.kill` | one by one, none may be made |

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::file;
use super::owner::{Owner, is_stale};
use super::place::Place;
use crate::command::Limits;
use crate::layers::Cgroup;

/// Of 100, and of 1024, for all tools together: agents go first, however many tools there are. With a core to themselves
/// tools have twice the share of a thread of the slow lane.
const WEIGHT: &str = "20";
const SHARES: &str = "200";
/// Where processes move that are in the way.
const LEAF: &str = "bulkhead-host";
const KILL_ROUNDS: usize = 100;
/// All tools may always take so much more: one that starts needs some before it is one.
const LEAST_ROOM: u64 = 8 << 20;
/// More than each processor takes ahead.
const BATCH: u64 = 1 << 20;

/// Directories that hold the cgroups of tools.
#[derive(Debug, Clone)]
pub enum Controllers {
    V2(PathBuf),
    V1(V1),
}

/// Of each controller its directory, where it can be written to.
#[derive(Debug, Clone, Default)]
pub struct V1 {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
}

/// The same for one tool.
#[derive(Debug)]
pub struct Group(Controllers);

impl Controllers {
    /// Makes this owner's directories, and removes stale ones.
    pub fn prepare(places: &[Place], owner: &Owner, may_move: bool) -> Result<Self, String> {
        let unified = places.iter().find(|place| place.controllers.is_empty());
        let first = match unified.filter(|place| offers_memory(&place.dir)) {
            Some(place) => Self::prepare_v2(&place.dir, owner, may_move),
            None => Err("version 2 of cgroups has no memory controller here".to_owned()),
        };
        first.or_else(|why| {
            let v1 = V1::prepare(places, owner);
            if v1.memory.is_some() { Ok(Self::V1(v1)) } else { Err(v1_missing(places, &why)) }
        })
    }

    fn prepare_v2(dir: &Path, owner: &Owner, may_move: bool) -> Result<Self, String> {
        let dir = above_leaf(dir);
        remove_stale(dir);
        enable(dir)
            .or_else(|error| {
                let is_busy = error.kind() == ErrorKind::ResourceBusy;
                if !(is_busy && may_move) {
                    return Err(error);
                }
                vacate(dir).and_then(|()| enable(dir))
            })
            .map_err(|error| error.to_string())?;
        let own = make_dir(dir, &owner.name()).map_err(|error| error.to_string())?;
        enable(&own).map_err(|error| error.to_string())?;
        // Not all hosts let processors be shared.
        let _ = file::write(&own.join("cpu.weight"), WEIGHT);
        Ok(Self::V2(own))
    }

    /// Which one limits memory.
    pub fn version(&self) -> Cgroup {
        match self {
            Self::V2(_) => Cgroup::V2,
            Self::V1(_) => Cgroup::V1,
        }
    }

    pub fn limits_pids(&self) -> bool {
        match self {
            Self::V2(_) => true,
            Self::V1(v1) => v1.pids.is_some(),
        }
    }

    /// What none limits.
    pub fn missing(&self) -> Vec<String> {
        let Self::V1(v1) = self else { return Vec::new() };
        let all = [
            (&v1.pids, "pids: the number of processes is limited by user"),
            (&v1.cpu, "cpu: tools share processors by their niceness alone"),
            (&v1.cpuacct, "cpuacct: CPU time is limited for each process"),
        ];
        let missing = all.into_iter().filter(|(dir, _)| dir.is_none());
        missing.map(|(_, what)| format!("no writable cgroup controller {what}")).collect()
    }

    /// Removes the cgroups of tools.
    pub fn clear(&self) {
        self.dirs().into_iter().flat_map(children).for_each(|dir| remove_all(&dir));
    }

    /// Removes everything.
    pub fn remove(&self) {
        self.dirs().into_iter().for_each(remove_all);
    }

    fn dirs(&self) -> Vec<&Path> {
        match self {
            Self::V2(dir) => vec![dir],
            Self::V1(v1) => v1.dirs(),
        }
    }

    /// Limits all tools together to what they have and so many bytes more. Pages that the kernel can drop at once do not
    /// count.
    pub fn give_room(&self, bytes: u64) -> io::Result<()> {
        let (dir, used, idle, limit) = match self {
            Self::V2(dir) => (dir, "memory.current", "inactive_file", "memory.max"),
            Self::V1(V1 { memory: Some(dir), .. }) => {
                let names = ("memory.usage_in_bytes", "total_inactive_file");
                (dir, names.0, names.1, "memory.limit_in_bytes")
            }
            Self::V1(_) => return Ok(()),
        };
        let used = file::number(&dir.join(used)).unwrap_or(0);
        let idle = file::word(&dir.join("memory.stat"), idle).unwrap_or(0);
        let most = used.saturating_sub(idle).saturating_add(bytes.max(LEAST_ROOM));
        // What the kernel's counters hold, and not more.
        file::write(&dir.join(limit), most.min(i64::MAX.cast_unsigned()).to_string())
    }

    /// A cgroup for a tool, without limits.
    pub fn make(&self, number: u64) -> io::Result<Group> {
        Ok(Group(match self {
            Self::V2(dir) => Self::V2(make_dir(dir, &number.to_string())?),
            Self::V1(v1) => Self::V1(v1.map(|dir| make_dir(dir, &number.to_string()))?),
        }))
    }
}

impl V1 {
    fn prepare(places: &[Place], owner: &Owner) -> Self {
        let find = |name: &str| {
            let place =
                places.iter().find(|place| place.controllers.iter().any(|it| it == name))?;
            remove_stale(&place.dir);
            make_dir(&place.dir, &owner.name()).ok()
        };
        let v1 = Self {
            memory: find("memory"),
            pids: find("pids"),
            cpu: find("cpu"),
            cpuacct: find("cpuacct"),
        };
        if let Some(dir) = &v1.cpu {
            // Every kernel takes it, and a tool is nice where one does not.
            let _ = file::write(&dir.join("cpu.shares"), SHARES);
        }
        v1
    }

    fn all(&self) -> [&Option<PathBuf>; 4] {
        [&self.memory, &self.pids, &self.cpu, &self.cpuacct]
    }

    /// Each once: one directory may hold several.
    fn dirs(&self) -> Vec<&Path> {
        let mut dirs: Vec<&Path> = self.all().into_iter().flatten().map(PathBuf::as_path).collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs
    }

    fn map(&self, make: impl Fn(&Path) -> io::Result<PathBuf>) -> io::Result<Self> {
        let make = |dir: &Option<PathBuf>| dir.as_deref().map(&make).transpose();
        Ok(Self {
            memory: make(&self.memory)?,
            pids: make(&self.pids)?,
            cpu: make(&self.cpu)?,
            cpuacct: make(&self.cpuacct)?,
        })
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        if let Some(dir) = &self.memory {
            let bytes = limits.memory_bytes.to_string();
            file::write(&dir.join("memory.limit_in_bytes"), &bytes)?;
            // Where the kernel does not count swap there is none of it to limit.
            let _ = file::write(&dir.join("memory.memsw.limit_in_bytes"), &bytes);
            let _ = file::write(&dir.join("memory.swappiness"), "0");
        }
        if let Some(dir) = &self.pids {
            file::write(&dir.join("pids.max"), limits.pids.to_string())?;
        }
        Ok(())
    }
}

impl Group {
    /// To clone into, with version 2.
    pub fn unified_dir(&self) -> io::Result<Option<OwnedFd>> {
        match &self.0 {
            Controllers::V2(dir) => Ok(Some(File::open(dir)?.into())),
            Controllers::V1(_) => Ok(None),
        }
    }

    /// What a thread writes to to join, with version 1.
    pub fn tasks(&self) -> io::Result<Vec<OwnedFd>> {
        let Controllers::V1(v1) = &self.0 else { return Ok(Vec::new()) };
        let open = |dir: &Path| file::open(&dir.join("tasks")).map(OwnedFd::from);
        v1.dirs().into_iter().map(open).collect()
    }

    /// Processor time.
    pub fn cpu(&self) -> Option<Duration> {
        match &self.0 {
            Controllers::V2(dir) => {
                file::word(&dir.join("cpu.stat"), "usage_usec").map(Duration::from_micros)
            }
            Controllers::V1(v1) => {
                file::number(&v1.cpuacct.as_ref()?.join("cpuacct.usage")).map(Duration::from_nanos)
            }
        }
    }

    /// Memory now.
    pub fn memory_bytes(&self) -> Option<u64> {
        match &self.0 {
            Controllers::V2(dir) => file::number(&dir.join("memory.current")),
            Controllers::V1(v1) => file::number(&v1.memory.as_ref()?.join("memory.usage_in_bytes")),
        }
    }

    /// The most memory. Kernels before 5.19 have no peak in version 2: then what it has now.
    pub fn peak_bytes(&self) -> Option<u64> {
        match &self.0 {
            Controllers::V2(dir) => file::number(&dir.join("memory.peak"))
                .or_else(|| file::number(&dir.join("memory.current"))),
            Controllers::V1(v1) => {
                file::number(&v1.memory.as_ref()?.join("memory.max_usage_in_bytes"))
            }
        }
    }

    /// Killed by the kernel for its limit.
    pub fn oom_kills(&self) -> Option<u64> {
        match &self.0 {
            Controllers::V2(dir) => file::word(&dir.join("memory.events"), "oom_kill"),
            Controllers::V1(v1) => {
                file::word(&v1.memory.as_ref()?.join("memory.oom_control"), "oom_kill")
            }
        }
    }

    /// Whether it was at its own limit.
    pub fn is_at_limit(&self) -> bool {
        match &self.0 {
            Controllers::V2(dir) => {
                file::word(&dir.join("memory.events"), "oom").is_some_and(|times| times > 0)
            }
            // Not all kernels count how often it was. They take pages by the dozen, so that a little may be left.
            Controllers::V1(v1) => v1.memory.as_ref().is_some_and(|dir| {
                let most = file::number(&dir.join("memory.max_usage_in_bytes")).unwrap_or(0);
                let limit = file::number(&dir.join("memory.limit_in_bytes"));
                limit.is_some_and(|limit| most.saturating_add(BATCH) >= limit)
            }),
        }
    }

    /// Forks refused for its limit.
    pub fn refused_forks(&self) -> Option<u64> {
        let dir = match &self.0 {
            Controllers::V2(dir) => dir,
            Controllers::V1(v1) => v1.pids.as_ref()?,
        };
        file::word(&dir.join("pids.events"), "max")
    }

    /// Kills all in it.
    pub fn kill(&self) {
        match &self.0 {
            Controllers::V2(dir) if file::write(&dir.join("cgroup.kill"), "1").is_ok() => {}
            Controllers::V2(dir) => kill_each(dir, Some(dir)),
            Controllers::V1(v1) => {
                let Some(dir) = v1.memory.as_ref() else { return };
                kill_each(dir, v1.pids.as_ref());
            }
        }
    }

    /// Removes it. False while something is in it.
    pub fn remove(&self) -> bool {
        let is_gone = |dir: &Path| match fs::remove_dir(dir) {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        !self.0.dirs().into_iter().map(is_gone).collect::<Vec<_>>().contains(&false)
    }

    /// What may be in it.
    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        let dir = match &self.0 {
            Controllers::V1(v1) => return v1.limit(limits),
            Controllers::V2(dir) => dir,
        };
        file::write(&dir.join("memory.max"), limits.memory_bytes.to_string())?;
        file::write(&dir.join("memory.oom.group"), "1")?;
        file::write(&dir.join("pids.max"), limits.pids.to_string())?;
        // Not all kernels count swap.
        let _ = file::write(&dir.join("memory.swap.max"), "0");
        Ok(())
    }
}

fn offers_memory(dir: &Path) -> bool {
    let names = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    names.split_whitespace().any(|name| name == "memory")
}

/// The cgroup that holds those of tools: processes that moved, or were started by one that did, are in the leaf below it.
fn above_leaf(dir: &Path) -> &Path {
    let is_leaf = dir.file_name().is_some_and(|name| name == LEAF);
    dir.parent().filter(|_| is_leaf).unwrap_or(dir)
}

/// Memory and processes have to be limited, processors should.
fn enable(dir: &Path) -> io::Result<()> {
    let control = dir.join("cgroup.subtree_control");
    file::write(&control, "+memory +pids")?;
    let _ = file::write(&control, "+cpu");
    Ok(())
}

/// Moves all processes of a cgroup into one below it, as version 2 wants it. Some may be made meanwhile.
fn vacate(dir: &Path) -> io::Result<()> {
    let leaf = make_dir(dir, LEAF)?;
    for _ in 0..KILL_ROUNDS {
        let processes = file::processes(dir);
        if processes.is_empty() {
            break;
        }
        for pid in processes {
            // It may be gone.
            let _ = file::write(&leaf.join("cgroup.procs"), pid.to_string());
        }
    }
    Ok(())
}

fn make_dir(dir: &Path, name: &str) -> io::Result<PathBuf> {
    let path = dir.join(name);
    match fs::create_dir(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
        _ => Ok(path),
    }
}

fn remove_stale(dir: &Path) {
    let names = children(dir);
    for path in
        names.filter(|path| path.file_name().is_some_and(|it| is_stale(&it.to_string_lossy())))
    {
        remove_all(&path);
    }
}

/// Kills what is in it and below it, and removes it.
fn remove_all(dir: &Path) {
    for child in children(dir) {
        remove_all(&child);
    }
    kill_each(dir, None);
    // What was killed leaves a moment later.
    for _ in 0..KILL_ROUNDS {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => return,
        }
    }
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())).map(|entry| entry.path())
}

/// None may be made meanwhile, where `pids` says how many there may be.
fn kill_each(dir: &Path, pids: Option<&PathBuf>) {
    if let Some(pids) = pids {
        let _ = file::write(&pids.join("pids.max"), "0");
    }
    for _ in 0..KILL_ROUNDS {
        let processes = file::processes(dir);
        if processes.is_empty() {
            return;
        }
        for pid in processes.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Why there is none of version 1 either.
fn v1_missing(places: &[Place], why: &str) -> String {
    let memory = places.iter().find(|place| place.controllers.iter().any(|it| it == "memory"));
    match memory {
        None => format!("{why}, and no memory controller of version 1 is mounted"),
        Some(place) => format!("{why}, and {} is not writable", place.dir.display()),
    }
}
