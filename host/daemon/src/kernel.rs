//! What the kernel counts and says about memory, of this machine and of the group of processes that this
//! one belongs to.
//!
//! | figure | own group, v2 | own group, v1 | machine |
//! | --- | --- | --- | --- |
//! | kills for want of memory | `memory.events` `oom_kill` | `memory.oom_control` `oom_kill` | `/proc/vmstat` `oom_kill` |
//! | hits of the limit | `memory.events` `max` | `memory.failcnt` | |
//! | limit | `memory.max` | `memory.limit_in_bytes` | `MemTotal` |
//! | bytes that only swapping frees | `memory.stat` `anon` | `memory.stat` `total_rss` | `MemTotal - MemAvailable` |
//! | pressure | `memory.pressure` | | `/proc/pressure/memory` |
//!
//! The machine's figures of limit and use stand in where the group has no limit of its own. A file that is
//! not there or says something else is a figure that is absent, and no error.

use std::path::{Path, PathBuf};

use bulkhead_model::previous::MemoryFigures;

/// Where this process stands among the groups. Read once: processes are not moved as a rule.
#[derive(Debug, Clone)]
pub struct Kernel {
    root: PathBuf,
    group: Option<Group>,
}

/// The own group of the memory controller.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Group {
    V1(PathBuf),
    V2(PathBuf),
}

impl Kernel {
    /// Of this machine.
    pub fn here() -> Self {
        Self::at(Path::new("/"))
    }

    /// With `proc/` and `sys/` below `root`.
    fn at(root: &Path) -> Self {
        let v2 = group_dir(root, "cgroup2", "").filter(|dir| dir.join("memory.events").exists());
        let v1 = || group_dir(root, "cgroup", "memory").map(Group::V1);
        Self { root: root.to_owned(), group: v2.map(Group::V2).or_else(v1) }
    }

    /// Names the time since the machine booted.
    pub fn boot_id(&self) -> Option<String> {
        let text = read(&self.root.join("proc/sys/kernel/random/boot_id"))?;
        Some(text.trim().to_owned())
    }

    /// Only what counts upward, whoever asks.
    pub fn counters(&self) -> MemoryFigures {
        let (group_oom_kills, limit_hits) = match &self.group {
            Some(Group::V2(dir)) => {
                let events = read(&dir.join("memory.events")).unwrap_or_default();
                (word(&events, "oom_kill"), word(&events, "max"))
            }
            Some(Group::V1(dir)) => {
                let control = read(&dir.join("memory.oom_control")).unwrap_or_default();
                (word(&control, "oom_kill"), number(&dir.join("memory.failcnt")))
            }
            None => (None, None),
        };
        let vmstat = read(&self.root.join("proc/vmstat")).unwrap_or_default();
        MemoryFigures {
            oom_kills: word(&vmstat, "oom_kill"),
            group_oom_kills,
            limit_hits,
            ..MemoryFigures::default()
        }
    }

    /// Everything, with what this process uses.
    pub fn memory(&self) -> MemoryFigures {
        let (limit_bytes, anon_bytes) = self.limit_and_use();
        MemoryFigures {
            rss_bytes: self.rss_bytes(),
            limit_bytes,
            anon_bytes,
            psi_full_avg10: self.pressure(),
            ..self.counters()
        }
    }

    fn limit_and_use(&self) -> (Option<u64>, Option<u64>) {
        let meminfo = read(&self.root.join("proc/meminfo")).unwrap_or_default();
        let kib = |key| word(&meminfo, key).map(|kib| kib.saturating_mul(1024));
        let (total, available) = (kib("MemTotal:"), kib("MemAvailable:"));
        let stat = |dir: &Path, key| word(&read(&dir.join("memory.stat"))?, key);
        let (limit, anon) = match &self.group {
            Some(Group::V2(dir)) => (number(&dir.join("memory.max")), stat(dir, "anon")),
            Some(Group::V1(dir)) => {
                (number(&dir.join("memory.limit_in_bytes")), stat(dir, "total_rss"))
            }
            None => (None, None),
        };
        match (limit, total) {
            // "max", or the largest number that version 1 can say.
            (None, total) => (total, total.zip(available).map(|(all, free)| all - free.min(all))),
            (Some(limit), Some(total)) if limit >= total => {
                (Some(total), available.map(|free| total - free.min(total)))
            }
            (Some(limit), _) => (Some(limit), anon),
        }
    }

    fn pressure(&self) -> Option<f64> {
        let of_group = match &self.group {
            Some(Group::V2(dir)) => read(&dir.join("memory.pressure")),
            Some(Group::V1(_)) | None => None,
        };
        let text = of_group.or_else(|| read(&self.root.join("proc/pressure/memory")))?;
        let full = text.lines().find_map(|line| line.strip_prefix("full "))?;
        full.split(' ').find_map(|part| part.strip_prefix("avg10="))?.parse().ok()
    }

    fn rss_bytes(&self) -> Option<u64> {
        let statm = read(&self.root.join("proc/self/statm"))?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

/// The directory of the own group in the hierarchy with this file system, and for version 1 with this
/// controller. Where the own group is not to be seen from here, the root of what is.
fn group_dir(root: &Path, fs_type: &str, controller: &str) -> Option<PathBuf> {
    let groups = read(&root.join("proc/self/cgroup"))?;
    let own = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    let mounts = read(&root.join("proc/self/mountinfo"))?;
    let (shown, place) = mounts.lines().find_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        let mut fs = fs.split(' ');
        let is_it = fs.next() == Some(fs_type)
            && (controller.is_empty() || fs.nth(1)?.split(',').any(|name| name == controller));
        let mut fields = mount.split(' ').skip(3);
        is_it.then_some((fields.next()?, fields.next()?))
    })?;
    let place = root.join(place.trim_start_matches('/'));
    let below = Path::new(own).strip_prefix(shown).ok().map(|path| place.join(path));
    Some(below.filter(|dir| dir.is_dir()).unwrap_or(place))
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The number that is all of a file.
fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// The number after `key`, at the beginning of a line.
fn word(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some(key) {
            return None;
        }
        words.next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as machines wrote them.
    struct Recorded(tempfile::TempDir);

    impl Recorded {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let common = [
                ("proc/sys/kernel/random/boot_id", "2f3c6f0a-0d5e-4f0b-9d3c-5b1f6f0a0d5e\n"),
                (
                    "proc/vmstat",
                    "nr_free_pages 1\npgfault 5\noom_kill 7\nunevictable_pgs_culled 0\n",
                ),
                (
                    "proc/meminfo",
                    "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     400 kB\n",
                ),
                ("proc/self/statm", "5000 300 200 1 0 400 0\n"),
                (
                    "proc/pressure/memory",
                    "some avg10=1.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=3\n",
                ),
            ];
            for (path, text) in common.iter().chain(files) {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(dir)
        }

        fn memory(&self) -> MemoryFigures {
            Kernel::at(self.0.path()).memory()
        }
    }

    const V2: [(&str, &str); 2] = [
        ("proc/self/cgroup", "0::/kubepods/pod1/c1\n"),
        (
            "proc/self/mountinfo",
            "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        ),
    ];

    const GROUP: &str = "sys/fs/cgroup/kubepods/pod1/c1";

    fn v2(max: &str) -> Recorded {
        let group = |name: &str| format!("{GROUP}/{name}");
        let (events, stat) = (group("memory.events"), group("memory.stat"));
        let (limit, pressure) = (group("memory.max"), group("memory.pressure"));
        let own = [
            (events.as_str(), "low 0\nhigh 2\nmax 31\noom 4\noom_kill 2\noom_group_kill 0\n"),
            (stat.as_str(), "anon 90000\nfile 5000\nkernel 10\n"),
            (limit.as_str(), max),
            (
                pressure.as_str(),
                "some avg10=9.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=7.25 avg60=0.00 avg300=0.00 total=3\n",
            ),
        ];
        Recorded::new(&[V2.as_slice(), &own].concat())
    }

    #[test]
    fn version_2_is_read_from_the_own_group() {
        let expected = MemoryFigures {
            rss_bytes: Some(300 * rustix::param::page_size() as u64),
            limit_bytes: Some(100_000),
            anon_bytes: Some(90_000),
            psi_full_avg10: Some(7.25),
            oom_kills: Some(7),
            group_oom_kills: Some(2),
            limit_hits: Some(31),
        };
        assert_eq!(v2("100000\n").memory(), expected);
    }

    #[test]
    fn a_group_without_a_limit_has_that_of_the_machine() {
        for no_limit in ["max\n", "9223372036854771712\n"] {
            let memory = v2(no_limit).memory();
            assert_eq!(memory.limit_bytes, Some(1000 * 1024));
            assert_eq!(memory.anon_bytes, Some(600 * 1024));
            assert_eq!(memory.group_oom_kills, Some(2));
        }
    }

    #[test]
    fn version_1_is_read_where_version_2_has_no_memory_controller() {
        let recorded = Recorded::new(&[
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/c1\n0::/\n"),
            (
                "proc/self/mountinfo",
                "30 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                 31 23 0:28 /docker/c1 /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,cpu,memory\n",
            ),
            ("sys/fs/cgroup/unified/cgroup.procs", ""),
            (
                "sys/fs/cgroup/memory/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            ),
            ("sys/fs/cgroup/memory/memory.failcnt", "12\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "cache 1\nrss 4\ntotal_cache 1\ntotal_rss 480000\n",
            ),
        ]);
        let memory = recorded.memory();
        assert_eq!((memory.group_oom_kills, memory.limit_hits), (Some(3), Some(12)));
        assert_eq!((memory.limit_bytes, memory.anon_bytes), (Some(500_000), Some(480_000)));
        assert_eq!(memory.psi_full_avg10, Some(0.5));
    }

    #[test]
    fn without_groups_the_machine_speaks() {
        let recorded = Recorded::new(&[]);
        let memory = recorded.memory();
        assert_eq!((memory.oom_kills, memory.group_oom_kills), (Some(7), None));
        assert_eq!((memory.limit_bytes, memory.anon_bytes), (Some(1_024_000), Some(614_400)));
        let kernel = Kernel::at(recorded.0.path());
        assert_eq!(kernel.boot_id().unwrap(), "2f3c6f0a-0d5e-4f0b-9d3c-5b1f6f0a0d5e");
    }

    #[test]
    fn what_is_not_there_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Kernel::at(dir.path());
        assert_eq!(kernel.memory(), MemoryFigures::default());
        assert_eq!(kernel.boot_id(), None);
    }

    #[test]
    fn this_machine_says_something() {
        let kernel = Kernel::here();
        assert!(kernel.memory().rss_bytes > Some(0));
        assert!(kernel.boot_id().is_some());
    }
}
