//! Whose cgroups they are.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

const PREFIX: &str = "bulkhead-tools-";

/// A process that owns cgroups: named by its namespace, its number, and when it started, in clock ticks since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    namespace: u64,
    pid: i32,
    start: u64,
}

impl Owner {
    /// That process, of this one's namespace.
    pub fn of(pid: Pid) -> Option<Self> {
        let pid = pid.as_raw_nonzero().get();
        Some(Self { namespace: namespace()?, pid, start: start_of(pid)? })
    }

    /// The name of its cgroup.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}-{}-{}", self.namespace, self.pid, self.start)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let namespace = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        let start = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { namespace, pid, start })
    }
}

/// Whether that cgroup belonged to a process of this namespace that is dead. Of other namespaces nothing is known.
pub fn is_stale(name: &str) -> bool {
    let Some(owner) = Owner::parse(name) else { return false };
    namespace() == Some(owner.namespace) && start_of(owner.pid) != Some(owner.start)
}

fn namespace() -> Option<u64> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

fn start_of(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, behind) = text.rsplit_once(')')?;
    let state = behind.split_whitespace().next()?;
    let start = behind.split_whitespace().nth(19)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_of_a_live_process_is_not_stale_and_that_of_another_start_is() {
        let me = Owner::of(rustix::process::getpid()).unwrap();
        assert_eq!(Owner::parse(&me.name()), Some(me.clone()));
        assert!(!is_stale(&me.name()));
        assert!(is_stale(&Owner { start: me.start + 1, ..me.clone() }.name()));
        assert!(!is_stale(&Owner { namespace: 1, start: 1, ..me }.name()));
        assert!(!is_stale("bulkhead-tools-x") && !is_stale("system.slice"));
    }
}
