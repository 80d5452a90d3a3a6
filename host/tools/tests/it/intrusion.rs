//! Tools that reach into other processes, or type at a terminal. Each layer by itself refuses it, and without all of them
//! the same attack works.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command as Process;

use bulkhead_tools::{End, Launcher, Layer, Settings};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::ioctl_fionread;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::machine::{Machine, PROGRAM, children_of, text};

const NO_PROCESS: &str = "No such process";
const NO_FILE: &str = "No such file or directory";
const REFUSED: &str = "Operation not permitted";
const DENIED: &str = "Permission denied";

fn without(layers: &[Layer]) -> Settings {
    Settings { without: layers.to_vec(), ..Settings::default() }
}

fn perl(machine: &Machine, script: &str) -> String {
    // It says "done", or why not.
    let said = "$| = 1; sub show { print $_[0] ? 'done' : \"$!\", \"\\n\" }";
    let script = format!("{said} {script}");
    let finished = machine.run(&machine.command("/usr/bin/env", &["perl", "-e", &script]));
    assert_eq!(finished.ended.end, End::Exited(0), "{}", text(&finished.stderr));
    text(&finished.stdout)
}

/// Opens its memory, reads it, takes a descriptor of it, traces it: what came of each.
fn invade(machine: &Machine, pid: i32) -> [String; 4] {
    let calls =
        [libc::SYS_process_vm_readv, libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_ptrace];
    let [read, open, take, trace] = calls;
    let attach = libc::PTRACE_ATTACH;
    // Nothing is mapped at its address 8: a process that may read gets a bad address.
    let script = format!(
        "show(open(my $memory, '<', '/proc/{pid}/mem')); \
         my $bytes = 'x' x 8; my $here = pack('pQ', $bytes, 8); my $there = pack('QQ', 8, 8); \
         show(syscall({read}, {pid}, $here, 1, $there, 1, 0) >= 0); \
         my $process = syscall({open}, {pid}, 0); \
         show($process >= 0 && syscall({take}, $process, 0, 0) >= 0); \
         show(syscall({trace}, {attach}, {pid}, 0, 0) >= 0);"
    );
    let said = perl(machine, &script);
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.try_into().unwrap_or_else(|lines| panic!("{lines:?}"))
}

/// The host, the launcher's monitor and worker, and another tool with its init: `attack` is given each.
fn each_victim(machine: &Machine, attack: impl Fn(&str, i32)) {
    let sleep = machine.command("/bin/sleep", &["1000"]);
    let _other = machine.wait(machine.tools.spawn(&sleep)).unwrap();
    let child_of = |parent| children_of(parent)[0];
    let worker = child_of(machine.launcher);
    let init = child_of(worker);
    attack("the host", std::process::id().cast_signed());
    attack("the monitor", machine.launcher);
    attack("the worker", worker);
    attack("another's init", init);
    attack("another tool", child_of(init));
}

#[test]
fn calls_that_no_filter_can_judge_seem_not_to_be_there() {
    let machine = Machine::new();
    if !machine.has(&[Layer::Seccomp]) {
        return;
    }
    // The second way to `getpid` is that of x32.
    let calls = if cfg!(target_arch = "x86_64") { "435, 0x40000027" } else { "435" };
    let script = format!("for ({calls}) {{ print 0 + $! if syscall($_, 0, 0) < 0; print ' ' }}");
    let finished = machine.run(&machine.command("/usr/bin/perl", &["-e", &script]));
    let seen = text(&finished.stdout);
    assert!(seen.split_whitespace().all(|it| it == "38"), "{seen}");
    assert_eq!(seen.split_whitespace().count(), calls.split(',').count());
}

#[test]
fn other_processes_are_not_there_and_its_init_is_closed() {
    let machine = Machine::new();
    if !machine.has(&[Layer::PidNamespace]) {
        return;
    }
    each_victim(&machine, |who, pid| {
        assert_eq!(invade(&machine, pid), [NO_FILE, NO_PROCESS, NO_PROCESS, NO_PROCESS], "{who}");
    });
    assert_eq!(invade(&machine, 1), [DENIED, REFUSED, REFUSED, REFUSED]);
}

#[test]
fn without_namespaces_the_filter_and_landlock_each_keep_it_out_of_processes() {
    let (all, alone) = ([DENIED, REFUSED, REFUSED, REFUSED], [REFUSED, REFUSED, REFUSED]);
    let both = Machine::with(&without(&[Layer::PidNamespace]));
    let filter = Machine::with(&without(&[Layer::PidNamespace, Layer::Landlock]));
    let landlock = Machine::with(&without(&[Layer::PidNamespace, Layer::Seccomp]));
    let neither = Machine::with(&without(&[Layer::PidNamespace, Layer::Landlock, Layer::Seccomp]));
    // Any version of it guards processes.
    let has_landlock = both.layers.landlock != "none" || both.has(&[Layer::Landlock]);
    if !has_landlock || !both.has(&[Layer::Seccomp]) {
        return;
    }
    each_victim(&both, |who, pid| assert_eq!(invade(&both, pid), all, "{who}"));
    each_victim(&landlock, |who, pid| assert_eq!(invade(&landlock, pid), all, "{who}"));
    // No filter sees which file is opened.
    each_victim(&filter, |who, pid| assert_eq!(invade(&filter, pid)[1..], alone, "{who}"));
    each_victim(&neither, |who, pid| match who {
        "another tool" => {
            assert_eq!(invade(&neither, pid), ["done", "Bad address", "done", "done"]);
        }
        // They are root's, and it is a root without capabilities.
        _ => assert_eq!(invade(&neither, pid), all, "{who}"),
    });
}

/// A terminal, of which nobody reads.
struct Terminal {
    path: String,
    /// Without it the other end has hung up.
    _other: OwnedFd,
    end: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let other = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&other).unwrap();
        unlockpt(&other).unwrap();
        let path = ptsname(&other, Vec::new()).unwrap().into_string().unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end = open(path.as_str(), flags, Mode::empty()).unwrap();
        Self { path, _other: other, end }
    }

    /// A launcher whose session has this as its terminal, open as descriptor 3 and as its stderr.
    fn machine(&self, settings: &Settings) -> Machine {
        let mut command = Process::new("setsid");
        // The first terminal that the leader of a session opens becomes the session's.
        let script = "exec 3<>\"$1\" 2>&3 && exec \"$2\"";
        command.args(["--wait", "sh", "-c", script, "sh", &self.path, PROGRAM]);
        Machine::of(Launcher::start(command, settings).unwrap())
    }

    /// Bytes that wait for their reader.
    fn typed(&self) -> u64 {
        ioctl_fionread(&self.end).unwrap()
    }
}

/// Whether this kernel lets anybody type for others.
fn can_type() -> bool {
    let switch = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    switch.map_or(true, |switch| switch.trim() == "1")
}

/// Types a line, also with bits that the kernel ignores, and asks for the console's ways: what came of each.
fn type_at(machine: &Machine, path: &str) -> Vec<String> {
    let (ioctl, input) = (libc::SYS_ioctl, libc::TIOCSTI);
    let disguised = input | 1 << 32;
    let script = format!(
        "if (open(my $terminal, '+<', '{path}')) {{ my $end = fileno $terminal; my ($x, $line) = ('x', \"\\n\"); \
         show(syscall({ioctl}, $end, {input}, $x) >= 0); \
         show(syscall({ioctl}, $end, {disguised}, $line) >= 0); \
         show(syscall({ioctl}, $end, 0x541C, $x) >= 0); }} else {{ show(0) }}"
    );
    perl(machine, &script).lines().map(str::to_owned).collect()
}

#[test]
fn it_types_at_no_terminal_of_its_launcher() {
    let terminal = Terminal::new();
    let machine = terminal.machine(&Settings::default());
    // It was really stolen from: the launcher has it.
    let launcher = children_of(machine.launcher)[0];
    assert_eq!(
        fs::read_link(format!("/proc/{launcher}/fd/3")).unwrap().to_str(),
        Some(&*terminal.path)
    );
    if !machine.has(&[Layer::MountNamespace, Layer::Seccomp]) {
        return;
    }
    for path in ["/dev/tty", "/dev/console", "/dev/ptmx", "/dev/pts/ptmx", &terminal.path] {
        assert_eq!(type_at(&machine, path), [NO_FILE], "{path}");
    }
    // What it inherited: pipes, of which no request for a terminal comes to the kernel.
    for descriptor in 0..3 {
        let refused = [REFUSED; 3];
        let path = format!("/proc/self/fd/{descriptor}");
        assert_eq!(type_at(&machine, &path), refused, "{path}");
    }
    assert_eq!(type_at(&machine, "/proc/self/fd/9"), [NO_FILE]);
    // A bind of it has no devices.
    let mut command = machine.shell("cat < /terminal || exit 3");
    command.sandbox.binds[0].host = terminal.path.clone().into();
    command.sandbox.binds[0].inside = "/terminal".into();
    command.dir = "/".into();
    let finished = machine.run(&command);
    assert_eq!(finished.ended.end, End::Exited(3), "{}", text(&finished.stdout));
    assert_eq!(terminal.typed(), 0);
}

#[test]
fn without_namespaces_landlock_and_the_filter_each_keep_it_from_terminals() {
    let terminal = Terminal::new();
    let landlock = terminal.machine(&without(&[Layer::PidNamespace, Layer::Seccomp]));
    if landlock.layers.landlock == "none" && !landlock.has(&[Layer::Landlock]) {
        return;
    }
    for path in ["/dev/tty", "/dev/ptmx", &terminal.path] {
        assert_eq!(type_at(&landlock, path), [DENIED], "{path}");
    }
    drop(landlock);
    // One that is nobody's: who opens it has it.
    let free = Terminal::new();
    let filter = Machine::with(&without(&[Layer::PidNamespace, Layer::Landlock]));
    if !filter.has(&[Layer::Seccomp]) {
        return;
    }
    assert_eq!(type_at(&filter, &free.path), [REFUSED; 3]);
    assert_eq!((terminal.typed(), free.typed()), (0, 0));
    let neither = Machine::with(&without(&[Layer::PidNamespace, Layer::Landlock, Layer::Seccomp]));
    let said = type_at(&neither, &free.path);
    if can_type() {
        assert_eq!(said[..2], ["done", "done"]);
        assert_eq!(free.typed(), 2);
    }
}
