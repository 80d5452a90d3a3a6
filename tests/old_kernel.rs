//! A host on an older kernel than this machine's: a filter answers as a kernel does that has never heard of a call.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::process::Command;

use harness::host::Launch;
use harness::{Host, Need, files, skip};
use rustix::process::geteuid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Linux 5.4 lacks these and the host, its libraries or its tools ask for them: `close_range`, `openat2`, `faccessat2`,
/// `epoll_pwait2`, and Landlock's three.
const NEWER_CALLS: [i64; 7] = [436, 437, 439, 441, 444, 445, 446];
const PRCTL: i64 = 157;
/// Linux 6.4 has it. Before, the vector is in a file of `/proc`, which belongs to root once a process hides its memory.
const PR_GET_AUXV: u64 = 0x4155_5856;

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) -> BpfProgram {
    let (allow, arch) = (SeccompAction::Allow, std::env::consts::ARCH.try_into().expect("known"));
    let filter = SeccompFilter::new(rules, allow, SeccompAction::Errno(errno), arch);
    filter.expect("a filter").try_into().expect("a program")
}

/// For this thread of a test, and what it starts.
fn grow_old() {
    let newer = NEWER_CALLS.map(|call| (call, Vec::new()));
    apply_filter(&filter(newer.into(), 38)).expect("refuse newer calls: ENOSYS");
    let auxv = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PR_GET_AUXV);
    let rule = SeccompRule::new(vec![auxv.expect("a condition")]).expect("a rule");
    let rules = BTreeMap::from([(PRCTL, vec![rule])]);
    apply_filter(&filter(rules, 22)).expect("refuse the vector: EINVAL");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_ordinary_user_runs_a_host_on_linux_5_4() {
    const AS: [&str; 6] =
        ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--pdeathsig=KILL", "--"];
    let probe = Command::new(AS[0]).args(&AS[1..]).arg(files::binary()).arg("--version").output();
    if !geteuid().is_root() || !probe.is_ok_and(|output| output.status.success()) {
        return skip(Need::Root, "it takes root, setpriv, and a binary that everybody may run");
    }
    grow_old();
    let host = Host::start_with(Launch::default().run_by(&AS), |state| {
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
