//! Which files may be opened, and what may be run: Landlock.

use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::geteuid;

use super::AllowedPaths;

/// The newest version whose rights are handled; an older kernel handles those that it knows.
const ABI_HANDLED: ABI = ABI::V6;

/// What programs read: names and certificates, libraries, figures of the kernel.
const READ: [&str; 15] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/sys/kernel/mm",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/var/run/nscd",
    "/dev/urandom",
    "/dev/random",
];

/// Devices that are written to as well.
const WRITE: [&str; 2] = ["/dev/null", "/dev/zero"];

/// This program, whatever became of its file.
const THIS: &str = "/proc/self/exe";

/// What the kernel runs with a program that is linked against shared libraries.
const LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// Confines this thread to `paths`. `full`, `partial` on an older kernel, `none` on one without Landlock.
pub fn confine(paths: &AllowedPaths) -> Result<&'static str, String> {
    restrict(paths).map_err(|error| error.to_string())
}

/// Whether this process can do no harm by writing below `/proc`: a compiler says there of itself that it has to be
/// killed first, and Landlock cannot name the files of processes to come. Root may set the whole system up there, unless
/// that part is read-only, as it is in containers.
fn is_harmless() -> bool {
    let is_read_only =
        || statvfs("/proc/sys").is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY));
    !geteuid().is_root() || is_read_only()
}

fn restrict(paths: &AllowedPaths) -> Result<&'static str, RulesetError> {
    let all = AccessFs::from_all(ABI_HANDLED);
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read | AccessFs::WriteFile | AccessFs::Truncate;
    // Nothing that it has written may be run, and no device is made.
    let own = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let run = read | AccessFs::Execute;
    let process = if is_harmless() { &["/proc"][..] } else { &[] };
    let status = Ruleset::default()
        .handle_access(all)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(READ, read))?
        .add_rules(path_beneath_rules(&paths.read, read))?
        .add_rules(path_beneath_rules(WRITE, write))?
        .add_rules(path_beneath_rules(&paths.write, write))?
        .add_rules(path_beneath_rules(process, AccessFs::WriteFile))?
        .add_rules(path_beneath_rules([&paths.state], own))?
        .add_rules(path_beneath_rules(&paths.others, own))?
        .add_rules(path_beneath_rules([THIS], run))?
        .add_rules(path_beneath_rules(LOADERS, run))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial",
        RulesetStatus::NotEnforced => "none",
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_confined_thread_has_its_paths_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["state", "components", "evidence", "other"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), "x").unwrap();
        }
        // A link in a place leads nowhere else.
        std::os::unix::fs::symlink(path("other/file"), path("state/link")).unwrap();
        fs::copy("/bin/true", path("state/true")).unwrap();
        let paths = AllowedPaths {
            state: path("state"),
            others: vec![path("evidence")],
            read: vec![path("components"), path("gone")],
            write: Vec::new(),
        };
        // The others of this process, the test's own among them, stay as they are.
        let how = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let how = confine(&paths).unwrap();
                if how == "none" {
                    return how;
                }
                let denied = |result: std::io::Result<()>| {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
                };
                fs::write(path("state/new"), "x").unwrap();
                fs::create_dir(path("state/sub")).unwrap();
                fs::rename(path("state/new"), path("state/sub/new")).unwrap();
                fs::remove_dir_all(path("state/sub")).unwrap();
                fs::write(path("evidence/new"), "x").unwrap();
                fs::rename(path("evidence/new"), path("evidence/file")).unwrap();
                fs::read(path("components/file")).unwrap();
                fs::read("/proc/self/status").unwrap();
                denied(fs::write(path("components/file"), "y"));
                denied(fs::read(path("other/file")).map(drop));
                denied(fs::read(path("state/link")).map(drop));
                denied(fs::read_dir("/").map(drop));
                denied(fs::write("/tmp/bulkhead-confined", "x"));
                denied(Command::new("/bin/true").status().map(drop));
                denied(Command::new(path("state/true")).status().map(drop));
                let itself = Command::new(THIS).arg("--help").output().unwrap();
                assert!(itself.status.success(), "{itself:?}");
                how
            });
            confined.join().unwrap()
        });
        if how == "none" {
            support::skip(support::Need::Confinement, "this kernel has no Landlock");
        }
        fs::read(path("other/file")).unwrap();
    }
}
