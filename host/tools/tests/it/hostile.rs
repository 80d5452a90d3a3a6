//! Tools that want too much. Each ends as its limit says, and nothing of it is left.

use std::time::{Duration, Instant};

use bulkhead_tools::{Command, End, Layer, Settings};
use tokio::io::AsyncReadExt;

use crate::machine::{Machine, eventually, patient, processes_with, text};

const PYTHON: &str = "/usr/bin/env";

fn python(machine: &Machine, script: &str) -> Command {
    machine.command(PYTHON, &["perl", "-e", script])
}

#[test]
fn a_memory_bomb_ends_with_its_limit_and_nobody_else() {
    let machine = Machine::new();
    if !machine.has(&[Layer::Cgroup]) {
        return;
    }
    let other =
        machine.wait(machine.tools.spawn(&machine.command("/bin/sleep", &["100"]))).unwrap();
    let bomb = "my @a; while (1) { push @a, 'x' x 1000000 }";
    let mut command = python(&machine, bomb);
    command.limits.memory_bytes = 64 << 20;
    let ended = machine.run(&command).ended;
    assert_eq!(ended.end, End::MemoryLimit);
    assert!(ended.usage.peak_memory_bytes > 60 << 20, "{ended:?}");
    // A part of it, while the whole would go on.
    let mut whole = machine.shell(&format!("perl -e \"{bomb}\"; sleep 100"));
    whole.limits.memory_bytes = 64 << 20;
    let begun = Instant::now();
    assert_eq!(machine.run(&whole).ended.end, End::MemoryLimit);
    assert!(begun.elapsed() < patient(Duration::from_secs(15)));
    assert_eq!(other.usage().stdout_bytes, 0);
    assert_eq!(machine.run(&machine.shell("exit 0")).ended.end, End::Exited(0));
}

#[test]
fn what_all_tools_have_together_is_bounded_and_one_of_them_ends() {
    let machine = Machine::new();
    if !machine.has(&[Layer::Cgroup]) {
        return;
    }
    // Until it is told to go on.
    let holds = |mib: u32| {
        let waits = "until [ -e go ]; do sleep 0.05; done; wc -c";
        machine.shell(&format!("head -c {mib}M /dev/zero | tail -c {mib}M | ({waits})"))
    };
    let go = machine.workspace.path().join("go");
    machine.tools.give_room(200 << 20);
    assert_eq!(machine.run(&machine.shell("exit 0")).ended.end, End::Exited(0));
    // Each step is next to nothing.
    for half_mib in (200..400).rev() {
        machine.tools.give_room(half_mib << 19);
    }
    machine.wait(async {
        let (one, two) = (holds(70), holds(80));
        let end = async |command: &Command| {
            let end = machine.tools.run(command, Vec::new()).await.unwrap().ended.end;
            // The other one holds its memory until here.
            std::fs::write(&go, "").unwrap();
            end
        };
        let (one, two) = tokio::join!(end(&one), end(&two));
        let ends = [one, two];
        // Far below its own limit.
        assert!(ends.contains(&End::Shed), "{ends:?}");
        assert!(ends.iter().all(|end| matches!(end, End::Shed | End::Exited(0))), "{ends:?}");
    });
    std::fs::remove_file(&go).unwrap();
    // One at its own limit is not taken for one of them.
    let mut bomb = holds(80);
    bomb.limits.memory_bytes = 32 << 20;
    assert_eq!(machine.run(&bomb).ended.end, End::MemoryLimit);
    // Where nothing is free programs start all the same, as long as they need next to nothing.
    machine.tools.give_room(0);
    assert_eq!(machine.run(&machine.shell("exit 3")).ended.end, End::Exited(3));
    machine.tools.give_room(u64::MAX);
    std::fs::write(&go, "").unwrap();
    let finished = machine.run(&holds(150));
    assert_eq!(finished.ended.end, End::Exited(0), "{}", text(&finished.stdout));
    std::fs::remove_file(&go).unwrap();
    // A worker that takes over hears of it.
    machine.tools.give_room(100 << 20);
    let worker = crate::machine::children_of(machine.launcher)[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(worker).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually("it is replaced", || {
        machine.wait(machine.tools.run(&machine.shell("exit 0"), Vec::new())).is_ok()
    });
    assert_eq!(machine.run(&holds(150)).ended.end, End::Shed);
}

#[test]
fn files_in_tmp_are_bounded() {
    let machine = Machine::new();
    if !machine.has(&[Layer::MountNamespace]) {
        return;
    }
    let mut command = machine.shell(
        "head -c 20000000 /dev/zero > /tmp/big; stat -c %s /tmp/big; \
         i=0; while [ $i -lt 100000 ]; do true > /tmp/$i || break; i=$((i+1)); done; echo $i",
    );
    command.limits.tmp_bytes = 8 << 20;
    let finished = machine.run(&command);
    let out = text(&finished.stdout);
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("8388608"), "{finished:?}");
    assert!(lines.next().unwrap().parse::<u32>().unwrap() < 3000);
}

#[test]
fn a_file_of_the_workspace_is_bounded() {
    let machine = Machine::new();
    let mut command = machine.shell("head -c 20000000 /dev/zero > big");
    command.limits.file_bytes = 1 << 20;
    machine.run(&command);
    let file = std::fs::metadata(machine.workspace.path().join("big")).unwrap();
    assert_eq!(file.len(), 1 << 20);
}

#[test]
fn a_flood_of_output_ends_at_its_limit() {
    let machine = Machine::new();
    let mut command = machine.shell("yes & yes >&2");
    command.limits.output_bytes = 100_000;
    let finished = machine.run(&command);
    assert_eq!((finished.ended.end, finished.cut), (End::OutputLimit, true));
    assert_eq!(finished.stdout.len() + finished.stderr.len(), 100_000);
    // Exactly the limit is within it.
    let mut command = machine.shell("head -c 100000 /dev/zero");
    command.limits.output_bytes = 100_000;
    let finished = machine.run(&command);
    assert_eq!((finished.ended.end, finished.cut), (End::Exited(0), false));
    assert_eq!(finished.stdout.len(), 100_000);
}

#[test]
fn a_fork_bomb_ends_within_its_limit() {
    let machine = Machine::new();
    let mut command = python(&machine, "while (1) { fork }");
    command.limits.pids = 40;
    command.limits.wall = Duration::from_secs(3);
    assert_eq!(machine.run(&command).ended.end, End::WallDeadline);
    // One that gives up.
    let script = "for (1..100) { my $p = fork; exit 9 unless defined $p; sleep 100 unless $p }";
    let mut command = python(&machine, script);
    command.limits.pids = 40;
    let end = machine.run(&command).ended.end;
    let is_counted = machine.layers.has(Layer::Cgroup);
    assert_eq!(end, if is_counted { End::PidsLimit } else { End::Exited(9) });
}

#[test]
fn a_deadline_ends_a_tool_that_ignores_signals() {
    let machine = Machine::new();
    let mut command = machine.shell("trap '' TERM INT HUP; while :; do sleep 0.1; done");
    // The shell is deaf by then.
    command.limits.wall = patient(Duration::from_millis(300));
    let begun = Instant::now();
    assert_eq!(machine.run(&command).ended.end, End::WallDeadline);
    let grace = Settings::default().grace;
    assert!(begun.elapsed() >= command.limits.wall + grace, "SIGTERM comes first");
}

#[test]
fn a_busy_loop_ends_at_its_cpu_deadline() {
    let machine = Machine::new();
    // In a process and in its children.
    let mut command = machine.shell("(while :; do :; done) & while :; do :; done");
    command.limits.cpu = Duration::from_millis(500);
    let ended = machine.run(&command).ended;
    assert_eq!(ended.end, End::CpuDeadline);
    assert!(ended.usage.cpu >= Duration::from_millis(500), "{ended:?}");
    if machine.layers.has(Layer::Cgroup) {
        assert!(ended.usage.cpu < Duration::from_secs(6), "{ended:?}");
    }
}

#[test]
fn daemons_end_with_their_tool() {
    let machine = Machine::new();
    let mark = "bulkhead-daemon-61";
    // Each says when it is there, in both of its processes.
    let daemon = format!(
        "setsid perl -e '$0 = \"{mark}\"; fork; open(my $f, \">\", $$); close $f; sleep 1000'"
    );
    let script = format!(
        "{daemon} & ({daemon} &) ; until [ $(ls | wc -l) = 4 ]; do sleep 0.01; done; exit 4"
    );
    // They hold the output open, which the end does not wait for.
    assert_eq!(machine.run(&machine.shell(&script)).ended.end, End::Exited(4));
    assert_eq!(processes_with(mark), 0);
}

#[test]
fn nothing_is_left_when_an_end_is_reported() {
    let machine = Machine::new();
    let mark = format!("bulkhead-left-{}", std::process::id());
    let script = format!("for (1..20) {{ if (!fork) {{ $0 = '{mark}'; sleep 1000 }} }} exit 4");
    for _ in 0..20 {
        let mut child = machine.wait(machine.tools.spawn(&python(&machine, &script))).unwrap();
        assert_eq!(machine.wait(child.wait()).end, End::Exited(4));
        assert_eq!(processes_with(&mark), 0);
    }
}

#[test]
fn a_dropped_child_is_killed() {
    let machine = Machine::new();
    let mark = "bulkhead-dropped-62";
    let script = format!(
        "trap '' TERM; $0 = '{mark}'; $SIG{{TERM}} = 'IGNORE'; print 'x'; $| = 1; sleep 1000"
    );
    let script = script.replace("trap '' TERM; ", "$| = 1; ");
    let mut child = machine.wait(machine.tools.spawn(&python(&machine, &script))).unwrap();
    machine.wait(child.stdout.take().unwrap().read_exact(&mut [0; 1])).unwrap();
    assert_eq!(processes_with(mark), 1);
    drop(child);
    eventually("it is killed", || processes_with(mark) == 0);
}

#[test]
fn ten_thousand_descriptors_are_not_to_be_had() {
    let machine = Machine::new();
    let script = "my @a; for (1..10000) { open(my $f, '<', '/dev/null') or last; push @a, $f } print scalar @a";
    let opened: u32 = text(&machine.run(&python(&machine, script)).stdout).parse().unwrap();
    assert!((900..1024).contains(&opened), "{opened}");
}
