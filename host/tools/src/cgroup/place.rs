//! Where the cgroups of this process are.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of version 1, by name; empty for version 2.
    pub controllers: Vec<String>,
    pub dir: PathBuf,
}

/// All that are mounted.
pub fn find() -> Result<Vec<Place>, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    Ok(parse(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?))
}

fn parse(memberships: &str, mounts: &str) -> Vec<Place> {
    memberships.lines().filter_map(|line| place(line, mounts)).collect()
}

/// `4:memory:/docker/1`, or `0::/docker/1` for version 2.
fn place(line: &str, mounts: &str) -> Option<Place> {
    let (_, rest) = line.split_once(':')?;
    let (names, path) = rest.split_once(':')?;
    let controllers: Vec<String> =
        names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let (root, point) = mounts.lines().find_map(|mount| mounted(mount, &controllers))?;
    // A container sees its own cgroup as the root of the mount, under its full name or under none.
    let below = Path::new(path).strip_prefix(&root).or_else(|_| Path::new(path).strip_prefix("/"));
    let dir = below.ok().filter(|it| !it.as_os_str().is_empty()).map(|it| point.join(it));
    let dir = dir.filter(|dir| dir.is_dir()).unwrap_or(point);
    Some(Place { controllers, dir })
}

/// The root of the mount within its hierarchy, and where it is mounted.
fn mounted(mount: &str, controllers: &[String]) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = mount.split_once(" - ")?;
    let mut words = mount.split(' ').skip(3);
    let (root, point) = (words.next()?, words.next()?);
    let mut kind = kind.split(' ');
    let is_it = match kind.next()? {
        "cgroup2" => controllers.is_empty(),
        "cgroup" => {
            let options: Vec<&str> = kind.nth(1)?.split(',').collect();
            !controllers.is_empty()
                && controllers.iter().all(|name| options.contains(&name.as_str()))
        }
        _ => false,
    };
    is_it.then(|| (root.into(), point.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro
31 30 0:27 /docker/1 /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
";

    #[test]
    fn each_cgroup_is_where_it_is_mounted() {
        let places = parse("4:memory:/docker/1\n3:cpu,cpuacct:/\n2:pids:/\n0::/\n", MOUNTS);
        let dirs: Vec<_> = places.iter().map(|it| it.dir.to_str().unwrap()).collect();
        let expected =
            ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"];
        assert_eq!(dirs, expected);
        assert_eq!(places[1].controllers, ["cpu", "cpuacct"]);
        assert!(places[2].controllers.is_empty());
    }
}
