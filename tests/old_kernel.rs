//! A host on an older kernel than this machine's: a filter answers as a kernel does that has never heard of a call.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;

use harness::host::Launch;
use harness::{Host, Need, skip};
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Linux 5.4 lacks these, and the host, its libraries or its tools ask for them.
const NEWER_CALLS: [i64; 7] = [
    libc::SYS_close_range,
    libc::SYS_openat2,
    libc::SYS_faccessat2,
    libc::SYS_epoll_pwait2,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
];
/// Linux 6.4 has it. Before, the vector is in a file of `/proc`, which belongs to root once a process hides its memory.
const PR_GET_AUXV: u64 = 0x4155_5856;

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: Errno) -> BpfProgram {
    let (allow, arch) = (SeccompAction::Allow, std::env::consts::ARCH.try_into().expect("known"));
    let refuse = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, allow, refuse, arch);
    filter.expect("a filter").try_into().expect("a program")
}

/// For this thread of a test, and what it starts.
fn grow_old() {
    let newer = NEWER_CALLS.map(|call| (call, Vec::new()));
    apply_filter(&filter(newer.into(), Errno::NOSYS)).expect("refuse newer calls");
    let auxv = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PR_GET_AUXV);
    let rule = SeccompRule::new(vec![auxv.expect("a condition")]).expect("a rule");
    let rules = BTreeMap::from([(libc::SYS_prctl, vec![rule])]);
    apply_filter(&filter(rules, Errno::INVAL)).expect("refuse the vector");
}

#[test]
fn an_ordinary_user_runs_a_host_on_linux_5_4() {
    let Some(launch) = Launch::default().by_user(65_532) else {
        return skip(Need::Root, "it takes root, setpriv, and a binary that everybody may run");
    };
    grow_old();
    let host = Host::start_with(launch, |state| {
        let dir = state.parent().expect("a directory");
        chown(dir, Some(65_532), None).expect("give it away");
        Host::builder().open().render(state)
    })
    .ready();
    let begun = host.wait_for_line("how it began", |line| line["event"] == "container.cold_start");
    assert_eq!(begun["security"]["landlock"], "none", "{begun}");
    host.client().start("one", "echo");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    host.finish();
}
