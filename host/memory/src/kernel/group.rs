//! This process's cgroup of the memory controller, and the groups above it.

use std::path::{Path, PathBuf};

use super::file::Faults;
use super::{Ceiling, Counted, v1, v2};
use crate::reading::LimitSource;

/// Groups above this process's that are read. Kubernetes has five.
const MAX_LEVELS: usize = 16;

/// This process's cgroup and those above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    version: Version,
    /// This process's first, then upward as far as it can be seen. Never empty.
    levels: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Group {
    /// Version 2 where it has the memory controller, else version 1.
    pub(super) fn find(root: &Path) -> Option<Self> {
        let has_controller = |levels: &Vec<PathBuf>| levels[0].join("memory.stat").exists();
        let v2 = levels(root, "cgroup2", "").filter(has_controller);
        let v2 = v2.map(|levels| Self { version: Version::V2, levels });
        let v1 = || levels(root, "cgroup", "memory");
        v2.or_else(|| v1().map(|levels| Self { version: Version::V1, levels }))
    }

    fn own(&self) -> &Path {
        &self.levels[0]
    }

    pub(super) fn count(&self, faults: &mut Faults) -> Counted {
        match self.version {
            Version::V1 => v1::count(self.own(), faults),
            Version::V2 => v2::count(self.own(), faults),
        }
    }

    /// The limits of this process's cgroup and of those above it that are below `total`, with their use.
    pub(super) fn ceilings(&self, total: u64, faults: &mut Faults) -> Vec<Ceiling> {
        let mut ceilings = Vec::new();
        for (above, dir) in self.levels.iter().enumerate() {
            ceilings.extend(match (self.version, above) {
                (Version::V1, 0) => v1::ceiling(dir, LimitSource::Cgroup1, total, faults),
                (Version::V1, _) => v1::ceiling(dir, LimitSource::Cgroup1Above, total, faults),
                (Version::V2, 0) => v2::ceiling(dir, LimitSource::Cgroup2, total, faults),
                (Version::V2, _) => v2::ceiling(dir, LimitSource::Cgroup2Above, total, faults),
            });
        }
        if self.version == Version::V1 {
            let seen = ceilings.iter().map(|ceiling| ceiling.limit.bytes).min();
            ceilings.extend(v1::smallest(self.own(), seen.unwrap_or(total), faults));
        }
        ceilings
    }
}

/// Where the pressure of this process's cgroup is reported, if there is such a file: by version 2, also where it does
/// not have the memory controller.
pub(super) fn pressure_file(root: &Path) -> Option<PathBuf> {
    let own = levels(root, "cgroup2", "")?.into_iter().next()?;
    Some(own.join("memory.pressure")).filter(|path| path.exists())
}

/// The directories of this process's cgroup, and of those above it, in the hierarchy with this file system, and for
/// version 1 with this controller. Where this process's cgroup cannot be seen from here, the root of what is.
fn levels(root: &Path, fs_type: &str, controller: &str) -> Option<Vec<PathBuf>> {
    let mut files = Faults::ignored();
    let groups = files.text(&root.join("proc/self/cgroup"))?;
    let own = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    let mounts = files.text(&root.join("proc/self/mountinfo"))?;
    let (shown, place) = mounts.lines().find_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        let mut fs = fs.split(' ');
        let is_it = fs.next() == Some(fs_type)
            && (controller.is_empty() || fs.nth(1)?.split(',').any(|name| name == controller));
        let mut fields = mount.split(' ').skip(3);
        is_it.then_some((unescaped(fields.next()?), unescaped(fields.next()?)))
    })?;
    let place = root.join(place.trim_start_matches('/'));
    let below = Path::new(own).strip_prefix(&shown).ok().map(|path| place.join(path));
    let own = below.filter(|dir| dir.is_dir()).unwrap_or_else(|| place.clone());
    let up = own.ancestors().take_while(|dir| dir.starts_with(&place));
    Some(up.take(MAX_LEVELS).map(Path::to_owned).collect())
}

/// A path of the list of mounts, where blanks stand as `\040`.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, sign)| text.replace(code, sign))
}
