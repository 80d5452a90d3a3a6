//! Limits that the kernel holds for each process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::command::Command;

const OPEN_FILES: u64 = 1024;

/// What no cgroup limits for all processes of a tool together.
#[derive(Debug, Clone, Copy)]
pub struct Alone {
    pub memory: bool,
    pub pids: bool,
}

/// Limits this process and those that it starts.
pub fn limit(command: &Command, alone: Alone) -> rustix::io::Result<()> {
    let limits = &command.limits;
    let file_bytes = command.file_bytes();
    // SIGXCPU at the soft limit, behind the launcher's own deadline.
    let seconds = limits.cpu.as_secs() + 1;
    set(Resource::Cpu, seconds, seconds + 1)?;
    set(Resource::Core, 0, 0)?;
    set(Resource::Nofile, OPEN_FILES, OPEN_FILES)?;
    set(Resource::Fsize, file_bytes, file_bytes)?;
    set(Resource::Memlock, 0x1_0000, 0x1_0000)?;
    set(Resource::Msgqueue, 0, 0)?;
    if alone.pids {
        set(Resource::Nproc, limits.pids.into(), limits.pids.into())?;
    }
    if alone.memory {
        // Not the address space: runtimes reserve more of it than they ever use.
        set(Resource::Data, limits.memory_bytes, limits.memory_bytes)?;
    }
    Ok(())
}

/// Nobody can ask for more than the maximum that there is.
fn set(resource: Resource, soft: u64, hard: u64) -> rustix::io::Result<()> {
    let maximum = getrlimit(resource).maximum.unwrap_or(u64::MAX).min(hard);
    setrlimit(resource, Rlimit { current: Some(soft.min(maximum)), maximum: Some(maximum) })
}
