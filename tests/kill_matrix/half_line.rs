//! A supervisor is killed in the middle of a line, and what is written to the same stdout next.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::Found;
use harness::client::Client;
use harness::host::command;
use harness::{Host, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

/// Who writes after the half line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A supervisor that init starts.
    Restarted,
    /// A run that has no init, as one that a shell starts in a loop.
    Another,
    /// Init, because it gives up.
    Obituary,
}

/// A directory with a configuration, of a host that ended.
fn ended() -> Host {
    let mut host = Host::builder().guest("log-flood").start().ready();
    host.signal(Signal::TERM);
    host.wait();
    host
}

struct Run {
    child: Child,
    supervisor: Pid,
    client: Client,
}

/// Starts a run and reads its log up to the line that says where it listens.
fn start(dir: &Path, args: &[&str], output: &PipeWriter, log: &mut BufReader<PipeReader>) -> Run {
    let mut command = command(&dir.join("bulkhead.toml"), dir);
    let output = output.try_clone().expect("share the pipe");
    let child = command.args(args).stdout(output).stderr(Stdio::null()).spawn();
    let child = child.expect("start the host");
    let mut first = String::new();
    log.read_line(&mut first).expect("read a line");
    let first: Value = serde_json::from_str(&first).expect("a line is JSON");
    let pid = first["pid"].as_u64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let address = first["listen"].as_str().unwrap_or_default().trim_start_matches("http://");
    let address: SocketAddr = address.parse().expect("an address");
    let run = Run {
        child,
        supervisor: pid.expect("a pid"),
        client: Client::new(address, &dir.join("state")),
    };
    harness::wait_until("the host is ready", || {
        run.client.try_request(hyper::Method::GET, "/readyz", "").is_ok_and(|a| a.status == 200)
    });
    run
}

/// Lets an agent write long lines, and nobody read, until the log waits in the middle of one: the pipe has no
/// room, and the line is not through.
fn stop_in_a_line(
    run: &Run,
    dir: &Path,
    output: &PipeWriter,
    log: &mut BufReader<PipeReader>,
) -> Vec<u8> {
    let in_line = || match blackbox::read(&dir.join("state")) {
        Found::Run(previous) => previous.in_line,
        other => panic!("{other:?}"),
    };
    let mut read = Vec::new();
    run.client.start("talker", "log-flood");
    for _ in 0..1000 {
        if is_full(output) && in_line() {
            return read;
        }
        if is_full(output) {
            // It waits between two lines, or goes on right now: a few more bytes.
            read.extend_from_slice(log.fill_buf().expect("read"));
            let length = log.buffer().len();
            log.consume(length);
        }
        run.client.ask("talker", "long 8000");
    }
    panic!("the log never waited in the middle of a line");
}

fn is_full(output: &PipeWriter) -> bool {
    let mut writable = [PollFd::new(output, PollFlags::OUT)];
    poll(&mut writable, Some(&Timespec::default())).expect("ask the pipe") == 0
}

/// Cuts lines until one was cut in its middle.
///
/// A pipe takes a write of up to `PIPE_BUF` bytes as a whole or not at all, so the log may as well wait before the
/// first byte of its line. Then nothing of the line is there, and what comes next begins after an empty line.
#[track_caller]
fn check(next: Next) {
    assert!((0..20).any(|_| cut(next)), "{next:?}: never cut in the middle of a line");
}

/// Kills a supervisor that waits in a line, and looks at what is written next. Whether a part of the line was out.
#[track_caller]
fn cut(next: Next) -> bool {
    let host = ended();
    let dir = host.dir();
    let (reader, output) = std::io::pipe().expect("make a pipe");
    let mut log = BufReader::new(reader);
    let args: &[&str] = match next {
        Next::Restarted => &["--supervise"],
        Next::Another => &[],
        Next::Obituary => &["--supervise", "--max-restarts", "0"],
    };
    let mut run = start(dir, args, &output, &mut log);
    let mut bytes = stop_in_a_line(&run, dir, &output, &mut log);
    kill_process(run.supervisor, Signal::KILL).expect("send a signal");
    let rest = std::thread::scope(|scope| {
        let rest = scope.spawn(move || {
            let mut rest = Vec::new();
            log.read_to_end(&mut rest).expect("read to the end");
            rest
        });
        if next == Next::Another {
            run.child.wait().expect("wait for the first run");
            let mut command = command(&dir.join("bulkhead.toml"), dir);
            let stdout = output.try_clone().expect("share the pipe");
            run.child = command.stdout(stdout).spawn().expect("start the second run");
        }
        drop(output);
        if next != Next::Obituary {
            let black_box = || match blackbox::read(&dir.join("state")) {
                Found::Run(previous) => Some(previous.run.pid),
                _ => None,
            };
            let dead = u32::try_from(run.supervisor.as_raw_nonzero().get()).ok();
            harness::wait_until("the next run listens for signals", || {
                black_box().is_some_and(|pid| Some(pid) != dead)
            });
            kill_process(Pid::from_child(&run.child), Signal::TERM).expect("send a signal");
        }
        run.child.wait().expect("wait for the end");
        rest.join().expect("no panic")
    });
    bytes.extend(rest);
    let text = String::from_utf8(bytes).expect("text");
    assert!(text.ends_with('\n'));
    let lines: Vec<_> = text.lines().collect();
    let broken: Vec<_> = (0..lines.len())
        .filter(|index| serde_json::from_str::<Value>(lines[*index]).is_err())
        .collect();
    assert_eq!(
        broken.len(),
        1,
        "{next:?}: {:?}",
        broken.iter().map(|n| lines[*n]).collect::<Vec<_>>()
    );
    let half = lines[broken[0]];
    assert!(half.is_empty() || half.starts_with("{\"ts\":"), "{next:?}: {half}");
    let after: Value = serde_json::from_str(lines[broken[0] + 1]).expect("checked before");
    let expected = match next {
        Next::Restarted | Next::Another => "container.cold_start",
        Next::Obituary => "container.previous_run",
    };
    assert_eq!(after["event"], expected, "{next:?}: {after:#}");
    !half.is_empty()
}

#[test]
fn a_restarted_supervisor_begins_on_a_line_of_its_own() {
    check(Next::Restarted);
}

#[test]
fn another_run_on_the_same_stdout_begins_on_a_line_of_its_own() {
    check(Next::Another);
}

#[test]
fn the_last_word_of_init_is_a_line_of_its_own() {
    check(Next::Obituary);
}
