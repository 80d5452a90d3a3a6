//! The files that a tool sees: a root of its own, made of pieces of the host's.
//!
//! Pieces are taken first, as trees that lie nowhere. Then the new root takes the place of the old one, and only then
//! they are put where they belong: no link in a piece can lead to the host's files.
//!
//! What all tools of one user have in common is made once, if root makes it: see [`Templates`](super::Templates).

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::failure::{During, Failure};
use super::identity::Owner;
use crate::command::Bind;
use crate::system::{map_owners, set_mount_attributes};

/// Directories of programs and libraries, or links to them.
const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// Small files of `/etc` that are copied.
const COPIED: [&str; 9] = [
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    "/etc/ssl/openssl.cnf",
    "/etc/hosts",
];
const COPIED_BYTES: u64 = 64 * 1024;

/// Larger ones, and directories. No keys.
const BOUND: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/services",
];

const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// What root may write to below `/proc`, whatever capabilities it lacks.
const WRITABLE: [&str; 6] = ["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi"];

/// Any directory: the new root is mounted there for a moment.
const STAGES: [&str; 5] = ["/tmp", "/run", "/mnt", "/usr", "/proc"];

const PLAIN: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const READ_ONLY: MountAttrFlags = PLAIN.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Binds of a command.
#[derive(Clone, Copy)]
pub struct Binds<'a> {
    /// What every tool has. Those below `/tmp` are taken as well: each tool has its own there.
    pub read_only: &'a [PathBuf],
    pub binds: &'a [Bind],
    /// One for each bind: how to map its owners.
    pub maps: &'a [Option<OwnedFd>],
    /// With what is mounted below them, which a user namespace cannot take off.
    pub recursive: bool,
}

/// A tree that lies nowhere yet.
#[derive(Debug)]
pub struct Piece {
    tree: OwnedFd,
    at: PathBuf,
    is_dir: bool,
    /// In an earlier bind, where nothing is made.
    is_inner: bool,
}

/// Where something will be mounted in a root, and whether that is a directory.
pub type Point = (PathBuf, bool);

/// What a root has that all tools of one user share: everything but what [`furnish`] adds.
pub struct Base<'a> {
    pub read_only: &'a [PathBuf],
    pub points: &'a [Point],
    pub owner: Owner,
}

/// Takes all binds with their maps, or, where one cannot have its map, all without. Returns whether they have them.
pub fn take(plan: Binds<'_>) -> Result<(Vec<Piece>, bool), Failure> {
    let more = plan.read_only.iter().filter(|path| is_in_tmp(path) && path.exists());
    let mut pieces = more.map(|path| take_read_only(path)).collect::<Result<Vec<_>, _>>()?;
    let mapped = if plan.maps.len() == plan.binds.len() { take_binds(plan, true)? } else { None };
    let is_mapped = mapped.is_some();
    pieces.extend(match mapped {
        Some(pieces) => pieces,
        None => take_binds(plan, false)?.unwrap_or_default(),
    });
    Ok((pieces, is_mapped))
}

/// What has to be there before these can be put.
pub fn points(pieces: &[Piece]) -> Vec<Point> {
    let outer = pieces.iter().filter(|piece| !piece.is_inner && !is_in_tmp(&piece.at));
    outer.map(|piece| (piece.at.clone(), piece.is_dir)).collect()
}

/// Makes a new root, the current one of this process from then on, in a namespace that is this process's alone.
pub fn build(base: &Base<'_>) -> Result<(), Failure> {
    // Or what is mounted here would be mounted in the host's namespace as well, where that is shared.
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", all).during("make all mounts private")?;
    let pieces = take_system(base.read_only)?;
    let copies: Vec<_> = COPIED.iter().filter_map(|path| Some((path, read_small(path)?))).collect();
    let links: Vec<_> =
        SYSTEM.iter().filter_map(|path| Some((path, fs::read_link(path).ok()?))).collect();
    let devices = DEVICES.map(|name| (name, take_tree(Path::new(&format!("/dev/{name}")), false)));
    enter_root()?;
    for (path, target) in links {
        symlink(target, path).during(format!("link {path}"))?;
    }
    for (path, bytes) in copies {
        make_parent(Path::new(path))?;
        fs::write(path, bytes).during(format!("write {path}"))?;
    }
    make_devices(devices)?;
    for dir in ["/tmp", "/proc", "/etc", "/run", "/var"] {
        make_dir(Path::new(dir))?;
    }
    symlink("/tmp", "/var/tmp").during("link /var/tmp")?;
    pieces.iter().try_for_each(|piece| {
        make_point(&piece.at, piece.is_dir)?;
        piece.put()
    })?;
    base.points.iter().try_for_each(|(at, is_dir)| make_point(at, *is_dir))?;
    finish(base.owner)
}

/// Puts the tool's own into such a root: its `/tmp`, `/proc`, and binds.
pub fn furnish(
    tmp_bytes: u64,
    proc: Option<OwnedFd>,
    pieces: &[Piece],
    owner: Owner,
) -> Result<(), Failure> {
    mount_tmp(tmp_bytes)?;
    if let Some(proc) = proc {
        mount_proc(&proc, owner.uid == 0)?;
    }
    for piece in pieces {
        if is_in_tmp(&piece.at) && !piece.is_inner {
            make_point(&piece.at, piece.is_dir)?;
        }
        piece.put()?;
    }
    Ok(())
}

/// Which is the tool's own, and not in the root that is shared.
fn is_in_tmp(path: &Path) -> bool {
    path.starts_with("/tmp")
}

/// Writes who there is, and makes the root read-only.
fn finish(Owner { uid, gid }: Owner) -> Result<(), Failure> {
    let home = "/tmp";
    let users = format!(
        "tool:x:{uid}:{gid}:tool:{home}:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    );
    fs::write("/etc/passwd", users).during("write /etc/passwd")?;
    let groups = format!("tool:x:{gid}:\nnogroup:x:65534:\n");
    fs::write("/etc/group", groups).during("write /etc/group")?;
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC).during("open the root")?;
    set(&root, READ_ONLY, false).during("make the root read-only")
}

/// What changes of the host a root does not see, because it was made before: it is stale when this differs.
pub fn stamp(read_only: &[PathBuf]) -> Vec<Option<(u64, u64, i64, i64)>> {
    let paths = SYSTEM.iter().chain(&COPIED).chain(&BOUND).map(Path::new);
    let stamp_of = |path: &Path| {
        let it = fs::metadata(path).ok()?;
        Some((it.dev(), it.ino(), it.ctime(), it.ctime_nsec())).map(|stamp| {
            // What changes in a directory is seen.
            if it.is_dir() { (stamp.0, stamp.1, 0, 0) } else { stamp }
        })
    };
    paths.chain(read_only.iter().map(PathBuf::as_path)).map(stamp_of).collect()
}

fn take_system(read_only: &[PathBuf]) -> Result<Vec<Piece>, Failure> {
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
    let system = SYSTEM.iter().map(Path::new).filter(|path| is_dir(path));
    let more = BOUND.iter().map(Path::new).chain(read_only.iter().map(PathBuf::as_path));
    // What lies in a directory of the system is there with it, and may be named by a link of the system.
    let is_there = |path: &Path| SYSTEM.iter().any(|dir| path.starts_with(dir));
    let more = more.filter(|path| path.exists() && !is_there(path) && !is_in_tmp(path));
    system.chain(more).map(take_read_only).collect()
}

fn take_read_only(path: &Path) -> Result<Piece, Failure> {
    let piece = Piece::take(path, path, true)?;
    set(&piece.tree, READ_ONLY, true).during(format!("restrict {}", path.display()))?;
    Ok(piece)
}

/// `None` if a map does not apply: not all file systems have them.
fn take_binds(plan: Binds<'_>, map: bool) -> Result<Option<Vec<Piece>>, Failure> {
    let mut pieces = Vec::with_capacity(plan.binds.len());
    for (number, bind) in plan.binds.iter().enumerate() {
        let mut piece = Piece::take(&bind.host, &bind.inside, plan.recursive)?;
        let earlier = &plan.binds[..number];
        piece.is_inner = earlier.iter().any(|it| bind.inside.starts_with(&it.inside));
        let attributes = if bind.writable { PLAIN } else { READ_ONLY };
        set(&piece.tree, attributes, true).during(format!("restrict {}", bind.host.display()))?;
        let apply = |it: &OwnedFd| map_owners(&piece.tree, it.as_fd()).is_ok();
        if map && !plan.maps[number].as_ref().is_some_and(apply) {
            return Ok(None);
        }
        pieces.push(piece);
    }
    Ok(Some(pieces))
}

impl Piece {
    fn take(from: &Path, at: &Path, recursive: bool) -> Result<Self, Failure> {
        let step = || format!("bind {}", from.display());
        let is_dir = fs::metadata(from).during(step())?.is_dir();
        let tree = take_tree(from, recursive).during(step())?;
        Ok(Self { tree, at: at.to_owned(), is_dir, is_inner: false })
    }

    /// The tree.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    fn put(&self) -> Result<(), Failure> {
        let at = self.at.as_path();
        attach(self.tree.as_fd(), at).during(format!("bind {}", at.display()))
    }
}

/// What tools read where Landlock alone guards files.
pub fn system_paths() -> impl Iterator<Item = PathBuf> {
    let alone = ["/etc/passwd", "/etc/group", "/proc"];
    SYSTEM.into_iter().chain(COPIED).chain(BOUND).chain(alone).map(PathBuf::from)
}

/// What they write to there.
pub fn device_paths() -> impl Iterator<Item = PathBuf> {
    DEVICES.into_iter().map(|name| Path::new("/dev").join(name))
}

fn take_tree(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let below = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | below)
}

fn attach(tree: BorrowedFd<'_>, at: &Path) -> rustix::io::Result<()> {
    move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn set(tree: impl AsFd, attributes: MountAttrFlags, recursive: bool) -> std::io::Result<()> {
    set_mount_attributes(tree, attributes.bits().into(), recursive)
}

fn tmpfs(bytes: u64, files: u64, mode: &str) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", bytes.to_string())?;
    fsconfig_set_string(&context, "nr_inodes", files.to_string())?;
    fsconfig_set_string(&context, "mode", mode)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, PLAIN)
}

/// An empty root takes the place of the old one, which nothing can reach any more.
fn enter_root() -> Result<(), Failure> {
    let root = tmpfs(4 << 20, 4096, "755").during("make a root")?;
    let is_dir = |path: &&&str| fs::metadata(path).is_ok_and(|it| it.is_dir());
    let stage = STAGES.iter().find(is_dir).copied().unwrap_or("/tmp");
    attach(root.as_fd(), Path::new(stage)).during(format!("mount a root at {stage}"))?;
    fchdir(&root).during("enter the root")?;
    pivot_root(".", ".").during("exchange the root")?;
    unmount(".", UnmountFlags::DETACH).during("unmount the old root")?;
    chdir("/").during("enter the root")
}

fn make_devices(devices: [(&str, rustix::io::Result<OwnedFd>); 5]) -> Result<(), Failure> {
    make_dir(Path::new("/dev"))?;
    for (name, tree) in devices {
        let path = format!("/dev/{name}");
        let tree = tree.during(format!("bind {path}"))?;
        make_file(Path::new(&path))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        set(&tree, attributes, false).during(format!("restrict {path}"))?;
        attach(tree.as_fd(), Path::new(&path)).during(format!("mount {path}"))?;
    }
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("/tmp", "/dev/shm"),
    ];
    links.into_iter().try_for_each(|(to, at)| symlink(to, at).during(format!("link {at}")))
}

fn mount_tmp(bytes: u64) -> Result<(), Failure> {
    let files = (bytes / 4096).clamp(256, 65536);
    let tree = tmpfs(bytes, files, "1777").during("make /tmp")?;
    attach(tree.as_fd(), Path::new("/tmp")).during("mount /tmp")
}

/// While there is one to be seen: the kernel makes none for a user namespace that sees none.
pub fn new_proc() -> Result<OwnedFd, Failure> {
    let mount = || {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, PLAIN | MountAttrFlags::MOUNT_ATTR_NOEXEC)
    };
    mount().during("make /proc")
}

/// `guarded`: the tool may own what the host's root owns.
fn mount_proc(tree: &OwnedFd, guarded: bool) -> Result<(), Failure> {
    attach(tree.as_fd(), Path::new("/proc")).during("mount /proc")?;
    for name in WRITABLE.into_iter().filter(|_| guarded) {
        let path = Path::new("/proc").join(name);
        if !path.exists() {
            continue;
        }
        let tree = take_tree(&path, false).during(format!("bind {}", path.display()))?;
        set(&tree, READ_ONLY, true).during(format!("restrict {}", path.display()))?;
        attach(tree.as_fd(), &path).during(format!("mount {}", path.display()))?;
    }
    Ok(())
}

fn make_point(path: &Path, is_dir: bool) -> Result<(), Failure> {
    if is_dir { make_dir(path) } else { make_file(path) }
}

fn make_parent(path: &Path) -> Result<(), Failure> {
    path.parent().map_or(Ok(()), make_dir)
}

/// Whatever the mask of the host's files: everybody may pass.
fn make_dir(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.during(format!("make {}", path.display()))
}

fn make_file(path: &Path) -> Result<(), Failure> {
    make_parent(path)?;
    match File::create_new(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
    .during(format!("make {}", path.display()))
}

fn read_small(path: &str) -> Option<Vec<u8>> {
    let is_small = |it: fs::Metadata| it.is_file() && it.len() <= COPIED_BYTES;
    fs::metadata(path).is_ok_and(is_small).then(|| fs::read(path).ok())?
}
