//! Tools that do nothing wrong.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_tools::{Bind, End, KillReason, Launcher, Layer, Settings, SpawnError};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::machine::{Machine, PROGRAM, children_of, text};

#[test]
fn a_tool_exits_with_its_code_or_by_its_signal() {
    let machine = Machine::new();
    let end = |script: &str| machine.run(&machine.shell(script)).ended.end;
    assert_eq!(end("exit 0"), End::Exited(0));
    assert_eq!(end("exit 7"), End::Exited(7));
    assert_eq!(end("kill -SEGV $$"), End::Signalled(11));
    assert_eq!(end("kill -KILL $$"), End::Signalled(9));
}

#[test]
fn input_and_output_arrive_whole() {
    let machine = Machine::new();
    let input: Vec<u8> = (0..900_000_u32).map(|it| it.to_le_bytes()[0]).collect();
    let command = machine.shell("cat; echo done >&2");
    let finished = machine.wait(machine.tools.run(&command, input.clone())).unwrap();
    assert_eq!((finished.ended.end, finished.cut), (End::Exited(0), false));
    assert!(finished.stdout == input);
    assert_eq!(finished.stderr, b"done\n");
    assert_eq!(finished.ended.usage.stdout_bytes, 900_000);
    assert_eq!(finished.ended.usage.stderr_bytes, 5);
}

#[test]
fn a_tool_that_does_not_read_its_input_ends() {
    let machine = Machine::new();
    let command = machine.shell("exit 3");
    let finished = machine.wait(machine.tools.run(&command, vec![0; 1 << 20])).unwrap();
    assert_eq!(finished.ended.end, End::Exited(3));
}

#[test]
fn it_starts_where_it_should_with_the_variables_it_should_have() {
    let machine = Machine::new();
    let mut command = machine.command("/usr/bin/env", &[]);
    assert_eq!(text(&machine.run(&command).stdout), "PATH=/usr/local/bin:/usr/bin:/bin\n");
    command.env = vec![("A".into(), "b c".into())];
    assert_eq!(text(&machine.run(&command).stdout), "A=b c\n");
    assert_eq!(machine.output("pwd; umask"), "/workspace\n0022\n");
}

#[test]
fn what_it_writes_belongs_to_the_owner_of_the_workspace() {
    let machine = Machine::new();
    // As a host with a private mask makes it.
    let out = machine.output(
        "mkdir dir && echo x > dir/file && mv dir/file . && stat -c %u:%a . && cat /dev/stdin < file > /dev/stdout",
    );
    assert!(out.ends_with("x\n"), "{out}");
    let file = fs::metadata(machine.workspace.path().join("file")).unwrap();
    let owner = fs::metadata(machine.workspace.path()).unwrap();
    assert_eq!((file.uid(), file.gid()), (owner.uid(), owner.gid()));
}

#[test]
fn a_read_only_bind_is_read_only() {
    let machine = Machine::new();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("file"), "x").unwrap();
    let mut command = machine.shell("cat /other/file; echo y > /other/file || echo refused");
    let bind = |host: PathBuf, inside: &str| Bind {
        host,
        inside: inside.into(),
        writable: false,
        limit: None,
    };
    command.sandbox.binds.push(bind(other.path().to_owned(), "/other"));
    assert_eq!(text(&machine.run(&command).stdout), "xrefused\n");
    assert_eq!(fs::read(other.path().join("file")).unwrap(), b"x");
    // One inside another one, where there is something.
    command.sandbox.binds.push(bind(other.path().join("file"), "/workspace/one/file"));
    let error = machine.wait(machine.tools.spawn(&command)).unwrap_err();
    assert!(matches!(error, SpawnError::Invalid(_)), "{error}");
    fs::create_dir(machine.workspace.path().join("one")).unwrap();
    fs::write(machine.workspace.path().join("one/file"), "covered").unwrap();
    command.args[1] = "cat one/file; echo y > one/file || echo refused".into();
    assert_eq!(text(&machine.run(&command).stdout), "xrefused\n");
}

#[test]
fn what_cannot_be_run_is_named() {
    let machine = Machine::new();
    let refusal = |program: &str| {
        let command = machine.command(program, &[]);
        machine.wait(machine.tools.spawn(&command)).unwrap_err()
    };
    machine.program("garbage", "\u{1}\u{2}");
    machine.program("orphan", "#!/no/such/interpreter\n");
    fs::write(machine.workspace.path().join("plain"), "#!/bin/sh\n").unwrap();
    let executable = |error| matches!(error, SpawnError::NotExecutable { .. });
    assert_eq!(refusal("/no/such"), SpawnError::NotFound("/no/such".into()));
    assert!(matches!(refusal("/workspace/orphan"), SpawnError::NotFound(_)));
    assert!(executable(refusal("/workspace/plain")));
    assert!(executable(refusal("/workspace/garbage")));
    assert!(executable(refusal("/usr")));
    assert!(matches!(refusal("true"), SpawnError::Invalid(_)));
    let mut nowhere = machine.shell("true");
    nowhere.dir = "/nowhere".into();
    let error = machine.wait(machine.tools.spawn(&nowhere)).unwrap_err();
    assert!(matches!(error, SpawnError::Invalid(_)), "{error}");
    nowhere.sandbox.binds[0].host = "/no/such/dir".into();
    let error = machine.wait(machine.tools.spawn(&nowhere)).unwrap_err().to_string();
    assert!(error.contains("/no/such/dir"), "{error}");
}

#[test]
fn many_arguments_arrive_and_too_many_are_refused() {
    let machine = Machine::new();
    let mut command = machine.command("/bin/sh", &["-c", "echo $#", "sh"]);
    command.args.extend((0..20_000).map(|it| it.to_string().into()));
    assert_eq!(text(&machine.run(&command).stdout), "20000\n");
    command.args = vec!["-c".into(), "x".repeat(200_000).into()];
    // More than the kernel takes in one argument.
    let error = machine.wait(machine.tools.spawn(&command)).unwrap_err();
    assert!(matches!(error, SpawnError::Invalid(_)), "{error}");
}

#[test]
fn a_child_talks_while_it_runs() {
    let machine = Machine::new();
    let mut child = machine.wait(machine.tools.spawn(&machine.command("/bin/cat", &[]))).unwrap();
    machine.wait(async {
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        for word in ["one", "two"] {
            input.write_all(word.as_bytes()).await.unwrap();
            let mut answer = [0; 3];
            output.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, word.as_bytes());
        }
        drop(input);
        assert_eq!(child.wait().await.end, End::Exited(0));
        // It ends once.
        assert_eq!(child.wait().await.end, End::Exited(0));
    });
}

#[test]
fn a_killed_tool_may_clean_up_and_says_why_it_ended() {
    let machine = Machine::new();
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    for (why, end) in [
        (KillReason::Cancelled, End::Cancelled),
        (KillReason::Shed, End::Shed),
        (KillReason::OutputLimit, End::OutputLimit),
    ] {
        let mut child = machine.wait(machine.tools.spawn(&machine.shell(script))).unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut rest = String::new();
        let ended = machine.wait(async {
            output.read_exact(&mut [0; 6]).await.unwrap();
            child.kill(why);
            // The first reason counts.
            child.kill(KillReason::Shed);
            output.read_to_string(&mut rest).await.unwrap();
            child.wait().await
        });
        assert_eq!(ended.end, end);
        assert_eq!(rest, if why == KillReason::Cancelled { "bye\n" } else { "" });
    }
}

#[test]
fn figures_come_while_it_runs() {
    let machine = Machine::new();
    if !machine.has(&[Layer::Cgroup]) {
        return;
    }
    let script = "while :; do :; done";
    let child = machine.wait(machine.tools.spawn(&machine.shell(script))).unwrap();
    crate::machine::eventually("figures", || {
        let usage = child.usage();
        usage.cpu > Duration::from_millis(100) && usage.peak_memory_bytes > 0
    });
}

#[test]
fn more_than_allowed_are_refused_at_once_and_there_is_room_after_an_end() {
    let machine = Machine::with(&Settings { tools: 2, ..Settings::default() });
    let sleep = machine.command("/bin/sleep", &["100"]);
    let spawn = || machine.wait(machine.tools.spawn(&sleep));
    let (first, _second) = (spawn().unwrap(), spawn().unwrap());
    assert_eq!(spawn().unwrap_err(), SpawnError::TooMany(2));
    drop(first);
    crate::machine::eventually("room", || spawn().is_ok());
}

#[test]
fn a_missing_layer_that_is_required_is_named() {
    let require = vec![Layer::Landlock];
    let settings = Settings { without: require.clone(), require, ..Settings::default() };
    let error =
        Launcher::start(std::process::Command::new(PROGRAM), &settings).unwrap_err().to_string();
    assert!(error.contains("landlock is required") && error.contains("switched off"), "{error}");
}

#[test]
fn directories_of_the_system_may_be_named_once_more() {
    let read_only = ["/bin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from).into();
    let machine = Machine::with(&Settings { read_only, ..Settings::default() });
    assert_eq!(machine.layers.problems, Machine::new().layers.problems);
    assert_eq!(machine.run(&machine.shell("exit 0")).ended.end, End::Exited(0));
}

#[test]
fn what_ends_a_service_ends_the_launcher_only_with_its_host() {
    let machine = Machine::new();
    let launcher = rustix::process::Pid::from_raw(machine.launcher).unwrap();
    let group = rustix::process::getpgid(Some(launcher)).unwrap();
    assert_eq!(group, launcher, "a Ctrl-C reaches all processes of a group");
    let mut child = machine.wait(machine.tools.spawn(&machine.shell("read line; exit 7"))).unwrap();
    let worker = rustix::process::Pid::from_raw(children_of(machine.launcher)[0]).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        rustix::process::kill_process(launcher, signal).unwrap();
        rustix::process::kill_process(worker, signal).unwrap();
    }
    machine.wait(child.stdin.take().unwrap().write_all(b"go\n")).unwrap();
    assert_eq!(machine.wait(child.wait()).end, End::Exited(7));
    // The tool holds none of them.
    let held = machine.run(&machine.shell("grep '^SigBlk' /proc/self/status"));
    let held = text(&held.stdout);
    assert!(held.contains("0000000000000000"), "{held}");
}
