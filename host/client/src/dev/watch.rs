//! Files that change.
//!
//! They are polled: it takes no descriptor for each of them, works on every file system, and an agent is a handful of
//! files. A change counts when two polls in a row have seen the same, because editors write in several steps.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::author::project::Project;

/// Between two polls.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// As many files as the host takes of a source.
const MAX_FILES: usize = 2000;

/// As deep as the host looks.
const MAX_DEPTH: usize = 16;

/// Directories that hold no source code of the agent's, as for the host.
const SKIPPED: [&str; 2] = ["node_modules", "__pycache__"];

/// What a changed file belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The configuration itself.
    Config,
    /// A role, by its name.
    Role(String),
}

/// A change, with one of the files, as the configuration leads to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) owner: Owner,
    pub(super) path: PathBuf,
}

/// Says apart what a file was and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    bytes: u64,
    inode: u64,
}

type Files = BTreeMap<(Owner, PathBuf), Stamp>;

/// Watches files.
pub(super) struct Watch {
    roots: Vec<(Owner, PathBuf)>,
    /// As they were when a change was last reported.
    reported: Files,
    /// As they were at the last poll.
    seen: Files,
}

impl Watch {
    /// The configuration alone.
    pub(super) fn of_config(config: &Path) -> Self {
        Self::new(vec![(Owner::Config, config.to_owned())])
    }

    /// The configuration, and the code of all roles.
    pub(super) fn of_project(config: &Path, project: &Project) -> Self {
        let of_roles = project.roles.iter();
        let of_roles = of_roles.map(|role| (Owner::Role(role.name.clone()), role.path.clone()));
        Self::new(of_roles.chain([(Owner::Config, config.to_owned())]).collect())
    }

    fn new(roots: Vec<(Owner, PathBuf)>) -> Self {
        let seen = files(&roots);
        Self { roots, reported: seen.clone(), seen }
    }

    /// What changed since it was last reported, once for each owner. A change that goes on is reported later.
    pub(super) fn poll(&mut self) -> Vec<Change> {
        let now = files(&self.roots);
        let is_settled = now == self.seen;
        self.seen = now;
        if !is_settled || self.seen == self.reported {
            return Vec::new();
        }
        let changes = changes(&self.reported, &self.seen);
        self.reported = self.seen.clone();
        changes
    }
}

fn changes(before: &Files, now: &Files) -> Vec<Change> {
    let all = before.keys().chain(now.keys());
    let mut changed: BTreeMap<&Owner, &PathBuf> = BTreeMap::new();
    for key in all.filter(|key| before.get(key) != now.get(key)) {
        changed.entry(&key.0).or_insert(&key.1);
    }
    let change =
        |(owner, path): (&Owner, &PathBuf)| Change { owner: owner.clone(), path: path.clone() };
    changed.into_iter().map(change).collect()
}

fn files(roots: &[(Owner, PathBuf)]) -> Files {
    let mut files = Files::new();
    for (owner, root) in roots {
        let mut left = MAX_FILES;
        collect(owner, root, MAX_DEPTH, &mut left, &mut files);
    }
    files
}

fn collect(owner: &Owner, path: &Path, depth: usize, left: &mut usize, files: &mut Files) {
    // One that is not there now may be there again at the next poll.
    let Ok(about) = fs::metadata(path) else { return };
    if *left == 0 {
        return;
    }
    if !about.is_dir() {
        *left -= 1;
        files.insert((owner.clone(), path.to_owned()), Stamp::of(&about));
        return;
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !SKIPPED.contains(&&*name) {
            collect(owner, &entry.path(), depth, left, files);
        }
    }
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            modified: (about.mtime(), about.mtime_nsec()),
            bytes: about.len(),
            inode: about.ino(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> Owner {
        Owner::Role(name.to_owned())
    }

    #[test]
    fn a_change_is_reported_once_and_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.js");
        fs::write(&path, "1").unwrap();
        let mut watch = Watch::new(vec![(role("toast"), path.clone())]);
        assert_eq!(watch.poll(), []);
        fs::write(&path, "").unwrap();
        assert_eq!(watch.poll(), [], "an editor has emptied it");
        fs::write(&path, "three").unwrap();
        assert_eq!(watch.poll(), [], "and written it");
        assert_eq!(watch.poll(), [Change { owner: role("toast"), path: path.clone() }]);
        assert_eq!(watch.poll(), []);
    }

    #[test]
    fn what_is_replaced_comes_or_goes_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("agent.js"), dir.path().join("agent.js.new"));
        fs::write(&path, "1").unwrap();
        let about = fs::metadata(&path).unwrap();
        let mut watch = Watch::new(vec![(role("toast"), path.clone())]);
        fs::write(&new, "2").unwrap();
        let file = fs::File::options().write(true).open(&new).unwrap();
        file.set_modified(about.modified().unwrap()).unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!((watch.poll().len(), watch.poll().len()), (0, 1), "of the same time and size");
        fs::remove_file(&path).unwrap();
        assert_eq!((watch.poll().len(), watch.poll().len()), (0, 1));
        fs::write(&path, "1").unwrap();
        assert_eq!((watch.poll().len(), watch.poll().len()), (0, 1));
    }

    #[test]
    fn a_directory_is_watched_as_the_host_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("lib/node_modules")).unwrap();
        let config = root.join("bulkhead.toml");
        let mut watch =
            Watch::new(vec![(role("toast"), root.join("lib")), (Owner::Config, config.clone())]);
        fs::write(root.join("lib/node_modules/a.js"), "").unwrap();
        fs::write(root.join("lib/.hidden.js"), "").unwrap();
        assert_eq!((watch.poll(), watch.poll()), (vec![], vec![]));
        fs::write(root.join("lib/b.js"), "").unwrap();
        fs::write(root.join("lib/a.js"), "").unwrap();
        fs::write(&config, "").unwrap();
        watch.poll();
        let role = Change { owner: role("toast"), path: root.join("lib/a.js") };
        assert_eq!(watch.poll(), [Change { owner: Owner::Config, path: config }, role]);
    }
}
