//! What a test needs and a machine may lack. A test probes for it and is skipped, unless the machine must have it.

use std::env;

/// The needs that must not be missing, by their names, with commas between: a test that is skipped for one of them
/// fails. CI names all.
pub const REQUIRE: &str = "BULKHEAD_TESTS_REQUIRE";

/// What a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To be root, and `setpriv`.
    Root,
    /// A control group that this process may divide.
    Cgroup,
    /// A network namespace with interfaces: `unshare` and `ip`.
    Netns,
    /// A process namespace: `unshare`.
    Pidns,
    /// A mount namespace, and the right to mount a disk in it.
    Mount,
    /// A C compiler, and a program loader that loads a library before others.
    Cc,
    /// `tmux`.
    Tmux,
    /// The runners: what `just runners` builds.
    Runners,
    /// Landlock and seccomp.
    Confinement,
    /// A control group whose controller shares processors.
    CpuShares,
    /// A kernel that reports which pages were written.
    PageMap,
    /// `/usr/bin/python3`.
    Python,
    /// `bash`.
    Bash,
    /// `groff`.
    Groff,
    /// `docker-registry`, `skopeo` and ORAS.
    Registry,
    /// `etcd`.
    Etcd,
    /// `nats-server`.
    Nats,
    /// Packages of Python: what `just python-packages` installs.
    Packages,
}

/// Needs of scripts, which have the same list.
const OF_SCRIPTS: [&str; 4] = ["deploy", "image", "systemd", "dist"];

impl Need {
    const ALL: [Self; 18] = [
        Self::Root,
        Self::Cgroup,
        Self::Netns,
        Self::Pidns,
        Self::Mount,
        Self::Cc,
        Self::Tmux,
        Self::Runners,
        Self::Confinement,
        Self::CpuShares,
        Self::PageMap,
        Self::Python,
        Self::Bash,
        Self::Groff,
        Self::Registry,
        Self::Etcd,
        Self::Nats,
        Self::Packages,
    ];

    /// As [`REQUIRE`] names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Cgroup => "cgroup",
            Self::Netns => "netns",
            Self::Pidns => "pidns",
            Self::Mount => "mount",
            Self::Cc => "cc",
            Self::Tmux => "tmux",
            Self::Runners => "runners",
            Self::Confinement => "confinement",
            Self::CpuShares => "cpu-shares",
            Self::PageMap => "page-map",
            Self::Python => "python",
            Self::Bash => "bash",
            Self::Groff => "groff",
            Self::Registry => "registry",
            Self::Etcd => "etcd",
            Self::Nats => "nats",
            Self::Packages => "packages",
        }
    }
}

/// Reports that the test that calls this cannot run here, which takes what `reason` says. The caller returns
/// right after.
///
/// # Panics
///
/// Where [`REQUIRE`] names the need.
#[track_caller]
pub fn skip(need: Need, reason: &str) {
    let required = env::var(REQUIRE).unwrap_or_default();
    let is_required = required_of(&required).unwrap_or_else(|name| {
        let known = Need::ALL.map(Need::name).join(", ");
        panic!("{REQUIRE} names {name:?}; known are {known}")
    });
    let name = need.name();
    assert!(
        !is_required.contains(&need),
        "this machine lacks {name}, which {REQUIRE} names: {reason}"
    );
    println!("skipped for want of {name}: {reason}");
}

/// The needs of a list, or the name that is none.
fn required_of(list: &str) -> Result<Vec<Need>, &str> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names = names.filter(|name| !OF_SCRIPTS.contains(name));
    names.map(|name| Need::ALL.into_iter().find(|need| need.name() == name).ok_or(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_needs_and_nothing_else() {
        assert_eq!(required_of(""), Ok(vec![]));
        assert_eq!(required_of("root, cgroup,"), Ok(vec![Need::Root, Need::Cgroup]));
        assert_eq!(required_of("tmux,image,deploy"), Ok(vec![Need::Tmux]));
        assert_eq!(required_of("root,all"), Err("all"));
        assert_eq!(required_of("image,tmux"), Ok(vec![Need::Tmux]), "a need of a script");
    }
}
