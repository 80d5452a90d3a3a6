//! What a tool can see and touch, which should be little.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use bulkhead_tools::{End, Launcher, Layer, Network, Settings};
use tokio::io::AsyncReadExt;

use crate::machine::{Machine, PROGRAM, eventually, text};

#[test]
fn files_of_the_host_are_not_there() {
    let machine = Machine::new();
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("secret"), "x").unwrap();
    let path = state.path().display();
    let look = format!("cat {path}/secret || ls {path} || ls /root || ls /home/* || echo nothing");
    assert_eq!(machine.output(&look), "nothing\n");
    // Nor through a link of the workspace.
    std::os::unix::fs::symlink(state.path(), machine.workspace.path().join("link")).unwrap();
    assert_eq!(machine.output("cat link/secret || echo nothing"), "nothing\n");
    if machine.has(&[Layer::MountNamespace]) {
        assert_eq!(machine.output("ls /tmp /root /home /work /mnt 2>/dev/null | wc -l"), "1\n");
        let etc = machine.output("ls /etc");
        assert!(!etc.contains("shadow") && etc.contains("passwd"), "{etc}");
    }
}

#[test]
fn nothing_of_the_system_can_be_written_to() {
    let machine = Machine::new();
    let script = "for f in /x /usr/x /etc/x /etc/passwd /usr/bin/env /dev/x /proc/sys/kernel/hostname /proc/sysrq-trigger /lib/x; do \
        (echo x > $f) 2>/dev/null && echo $f; done; true";
    assert_eq!(machine.output(script), "");
}

#[test]
fn a_host_whose_mounts_are_shared_gets_none_of_a_sandbox() {
    if !Machine::new().has(&[Layer::Identity, Layer::MountNamespace]) {
        return;
    }
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "shared", PROGRAM]);
    let machine = Machine::of(Launcher::start(command, &Settings::default()).unwrap());
    assert_eq!(machine.layers.problems, Machine::new().layers.problems);
    let mounts = || fs::read_to_string(format!("/proc/{}/mountinfo", machine.launcher)).unwrap();
    assert!(mounts().contains("shared:"));
    assert!(!mounts().contains(" /tmp "), "{}", mounts());
    let before = mounts();
    assert_eq!(machine.output("ls /tmp | wc -l"), "0\n");
    assert_eq!(mounts(), before);
}

#[test]
fn only_its_own_processes_are_there() {
    let machine = Machine::new();
    if !machine.has(&[Layer::PidNamespace]) {
        return;
    }
    let host = std::process::id();
    // The init, the shell, and what the shell makes for a pipe.
    let count: u32 = machine.output("ls -d /proc/[0-9]* | wc -l").trim().parse().unwrap();
    assert!((3..=4).contains(&count), "{count}");
    let kill = format!(
        "kill -9 {host} 2>/dev/null || echo refused; kill -9 1; kill -TERM 1; cat /proc/1/environ || echo hidden"
    );
    assert_eq!(machine.output(&kill), "refused\nhidden\n");
}

#[test]
fn its_init_hears_the_launcher_alone() {
    // Landlock refuses it as well, from version 6 on.
    let without = vec![Layer::Landlock];
    let machine = Machine::with(&Settings { without, ..Settings::default() });
    if !machine.has(&[Layer::PidNamespace]) {
        return;
    }
    // An orphan that is gone was reaped by the init, after what it heard before.
    let script = "kill -TERM 1; kill -USR1 1; orphan=$(perl -e 'exit unless my $pid = fork; print $pid'); \
        while kill -0 \"$orphan\" 2>/dev/null; do sleep 0.01; done; echo alive";
    assert_eq!(machine.output(script), "alive\n");
}

#[test]
fn it_has_no_rights() {
    let machine = Machine::new();
    let status = machine.output("cat /proc/self/status");
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    if machine.layers.has(Layer::Identity) {
        assert_ne!(machine.output("id -u"), "0\n");
        assert_eq!(machine.output("id -un"), "tool\n");
    }
    if machine.layers.has(Layer::Seccomp) {
        let script = "for c in 'mount -t tmpfs x /tmp' 'unshare -U true' 'unshare -m true'; do $c 2>/dev/null && echo $c; done; true";
        assert_eq!(machine.output(script), "");
    }
}

#[test]
fn threads_and_children_work_under_the_filter() {
    let machine = Machine::new();
    let script = "import threading,subprocess\nt=threading.Thread(target=lambda: print('thread'));t.start();t.join()\nprint(subprocess.check_output(['echo','child']).decode(),end='')";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        support::skip(support::Need::Python, "no /usr/bin/python3");
        return;
    }
    let finished = machine.run(&machine.command("/usr/bin/python3", &["-c", script]));
    assert_eq!(text(&finished.stdout), "thread\nchild\n", "{}", text(&finished.stderr));
}

#[test]
fn a_setuid_program_gives_it_nothing() {
    let machine = Machine::new();
    if !machine.has(&[Layer::Identity]) {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let copy = machine.workspace.path().join("id");
    fs::copy("/usr/bin/id", &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(machine.output("[ $(./id -u) = $(id -u) ] && echo same"), "same\n");
}

#[test]
fn no_two_tools_have_one_network() {
    let machine = Machine::new();
    if !machine.has(&[Layer::NetworkNamespace]) {
        return;
    }
    let command = machine.shell("readlink /proc/self/ns/net; cat");
    let begin = || {
        let mut child = machine.wait(machine.tools.spawn(&command)).unwrap();
        let mut line = [0; 64];
        let read = machine.wait(child.stdout.as_mut().unwrap().read(&mut line)).unwrap();
        (text(&line[..read]).trim().to_owned(), child)
    };
    let host = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    // One that was made ahead, one that was not, for there was no time, and again.
    let (mut seen, _children): (Vec<_>, Vec<_>) = (0..6).map(|_| begin()).unzip();
    seen.push(host);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[test]
fn a_tool_gets_the_network_of_another_one_only_if_no_socket_is_left() {
    let machine = Machine::new();
    if !machine.has(&[Layer::NetworkNamespace, Layer::Identity]) {
        return;
    }
    let perl = |script: &str| {
        let finished = machine.run(&machine.command("/usr/bin/env", &["perl", "-e", script]));
        assert_eq!(finished.ended.end, End::Exited(0), "{}", text(&finished.stderr));
    };
    let number = |file: &str, column: u32| {
        let script = format!("awk '/^(Udp|TCP): .*[0-9]/ {{ print ${column} }}' /proc/net/{file}");
        machine.output(&script).trim().parse::<u64>().unwrap()
    };
    // The kernel's counters show who was there before.
    eventually("a tool gets it", || {
        perl(
            "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0) or die; \
              send(S, 'x', 0, pack_sockaddr_in(9, INADDR_LOOPBACK)) or die",
        );
        number("snmp", 5) > 0
    });
    for _ in 0..5 {
        // Of two ends of a connection, TCP keeps the one that closes first for a minute.
        perl(
            "use IO::Socket::INET; \
              my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die; \
              my $c = IO::Socket::INET->new('127.0.0.1:' . $l->sockport) or die; \
              my $a = $l->accept; close $c; close $a",
        );
        assert_eq!(number("sockstat", 7), 0);
    }
}

#[test]
fn the_network_is_not_there_unless_it_should_be() {
    let machine = Machine::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("bulkhead-tools-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let tcp = format!(
        "use IO::Socket::INET; print IO::Socket::INET->new('127.0.0.1:{port}') ? 'yes' : 'no'"
    );
    let local = format!(
        "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); print connect(S, pack_sockaddr_un(\"\\0{name}\")) ? 'yes' : 'no'"
    );
    let answer = |script: &str, network| {
        let mut command = machine.command("/usr/bin/env", &["perl", "-e", script]);
        command.sandbox.network = network;
        let finished = machine.run(&command);
        assert_eq!(finished.ended.end, End::Exited(0), "{}", text(&finished.stderr));
        text(&finished.stdout)
    };
    assert_eq!(answer(&tcp, Network::None), "no");
    assert_eq!(answer(&tcp, Network::Open), "yes");
    assert_eq!(answer(&local, Network::None), "no");
    if machine.layers.landlock == "full" {
        assert_eq!(answer(&local, Network::Open), "no");
    }
    // Its own loopback interface works.
    if machine.layers.has(Layer::NetworkNamespace) {
        let own = "use IO::Socket::INET; my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die; print IO::Socket::INET->new('127.0.0.1:' . $l->sockport) ? 'yes' : 'no'";
        assert_eq!(answer(own, Network::None), "yes");
    }
}
