//! The parent's side of a compiler process.
//!
//! ```text
//!   component ─▶ stdin ┌─────────┐ stdout ─▶ an entry of the AOT cache, or why there is none
//!                      │  child  │ stderr ─▶ its last words, at most what a pipe holds
//!   Cancel ── SIGKILL ▶└─────────┘ status ─▶ how it died
//! ```

use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use super::cancel::Cancel;
use super::order::{Order, code};
use super::{CompileError, Room};
use crate::config::CompilerProgram;

/// The only variable of the host's environment that a child gets, so that it finds the libraries that the host
/// found: the others may be secrets, and it runs what others wrote through a compiler.
const KEPT: &str = "LD_LIBRARY_PATH";

/// Its heap: no thread of its own, and as much address space as it has use for. An arena of the C library would take
/// 64 MiB of that for each thread.
const HEAP: [(&str, &str); 2] = [
    ("_RJEM_MALLOC_CONF", "narenas:2,retain:false,background_thread:false"),
    ("MALLOC_ARENA_MAX", "1"),
];

/// Bytes of its last words that are read.
const LAST_WORDS: u64 = 4096;

/// Has a component compiled. Returns the entry unchecked.
pub(super) fn compile(
    program: &CompilerProgram,
    order: &Order,
    component: &[u8],
    cancel: &Cancel,
) -> Result<Vec<u8>, CompileError> {
    let (mut child, said) = spawn(program, order)
        .map_err(|error| CompileError::NoProcess(format!("{}: {error}", program.path.display())))?;
    let pipes = (child.stdin.take(), child.stdout.take());
    let pid = cancel.runs(child).map_err(CompileError::Stopped)?;
    let answer = converse(pipes, component, order.memory_bytes);
    let status = cancel.ended(pid).map_err(CompileError::Stopped)?;
    let status = status.map_err(|error| CompileError::Host(format!("wait for it: {error}")))?;
    let room = Room { memory_bytes: order.memory_bytes, cpu_seconds: order.cpu_seconds };
    judge(status, answer, &last_words(said), room)
}

fn spawn(program: &CompilerProgram, order: &Order) -> io::Result<(Child, PipeReader)> {
    let order = serde_json::to_string(order).map_err(io::Error::other)?;
    let (said, says) = io::pipe()?;
    // What does not fit is lost, and holds it up no longer than a full disk would.
    fcntl_setfl(&says, OFlags::NONBLOCK)?;
    let mut command = Command::new(&program.path);
    command
        .args(&program.args)
        .arg(order)
        .env_clear()
        .envs(HEAP)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(says)
        // A Ctrl-C is for the host.
        .process_group(0);
    if let Some(value) = std::env::var_os(KEPT) {
        command.env(KEPT, value);
    }
    Ok((command.spawn()?, said))
}

/// Gives it the component and takes its answer. What fails here is seen by how it ends.
fn converse(
    (stdin, stdout): (Option<ChildStdin>, Option<ChildStdout>),
    component: &[u8],
    max_bytes: u64,
) -> Vec<u8> {
    if let Some(mut stdin) = stdin {
        // It reads all before it answers.
        let _ = stdin.write_all(component);
    }
    let mut answer = Vec::new();
    if let Some(stdout) = stdout {
        let _ = stdout.take(max_bytes).read_to_end(&mut answer);
    }
    answer
}

/// What it wrote on stderr. It is gone, and so is every writer.
fn last_words(said: PipeReader) -> String {
    let mut text = Vec::new();
    let _ = said.take(LAST_WORDS).read_to_end(&mut text);
    String::from_utf8_lossy(&text).trim().replace('\n', "; ")
}

/// What an end means.
fn judge(
    status: ExitStatus,
    answer: Vec<u8>,
    said: &str,
    room: Room,
) -> Result<Vec<u8>, CompileError> {
    let text = |answer: Vec<u8>| String::from_utf8_lossy(&answer).into_owned();
    let has_no_memory = |text: &str| {
        ["memory allocation of", "Cannot allocate memory", "os error 12"]
            .iter()
            .any(|words| text.contains(words))
    };
    let signal = status.signal();
    match status.code() {
        Some(code::COMPILED) => Ok(answer),
        Some(code::REFUSED) => match text(answer) {
            reason if has_no_memory(&reason) => Err(CompileError::Memory(room)),
            reason => Err(CompileError::Refused(reason)),
        },
        Some(code::UNSUPPORTED) => Err(CompileError::Unsupported(text(answer))),
        Some(code::CANNOT) => Err(CompileError::Host(text(answer))),
        _ if signal == Some(Signal::XCPU.as_raw()) => Err(CompileError::Time(room)),
        _ if has_no_memory(said) => Err(CompileError::Memory(room)),
        // Nobody in this host did it, and nothing in the child can.
        None if signal == Some(Signal::KILL.as_raw()) => Err(CompileError::Killed),
        Some(code) => Err(CompileError::Crashed(with(format!("exit code {code}"), said))),
        None => Err(CompileError::Crashed(with(name_of(signal), said))),
    }
}

fn with(how: String, said: &str) -> String {
    if said.is_empty() { how } else { format!("{how}: {said}") }
}

/// The name of a signal of which a compiler dies.
fn name_of(signal: Option<i32>) -> String {
    const NAMES: [(Signal, &str); 6] = [
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::TRAP, "SIGTRAP"),
    ];
    let known = NAMES.iter().find(|(known, _)| Some(known.as_raw()) == signal);
    match (known, signal) {
        (Some((_, name)), _) => (*name).to_owned(),
        (None, Some(number)) => format!("signal {number}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { memory_bytes: 7 << 20, cpu_seconds: 9 };

    fn exit(code: i32, answer: &str) -> Result<Vec<u8>, CompileError> {
        judge(ExitStatus::from_raw(code << 8), answer.into(), "", ROOM)
    }

    fn death(signal: Signal, said: &str) -> CompileError {
        judge(ExitStatus::from_raw(signal.as_raw()), Vec::new(), said, ROOM).unwrap_err()
    }

    #[test]
    fn an_answer_is_taken_by_its_code() {
        assert_eq!(exit(code::COMPILED, "x").unwrap(), b"x");
        assert_eq!(exit(code::REFUSED, "bad").unwrap_err(), CompileError::Refused("bad".into()));
        let full = "mmap failed: Cannot allocate memory (os error 12)";
        assert_eq!(exit(code::REFUSED, full).unwrap_err(), CompileError::Memory(ROOM));
        assert_eq!(
            exit(code::UNSUPPORTED, "gc").unwrap_err(),
            CompileError::Unsupported("gc".into())
        );
        assert_eq!(exit(code::CANNOT, "no").unwrap_err(), CompileError::Host("no".into()));
        assert_eq!(exit(101, "").unwrap_err(), CompileError::Crashed("exit code 101".into()));
    }

    #[test]
    fn a_death_has_a_cause() {
        assert_eq!(death(Signal::XCPU, ""), CompileError::Time(ROOM));
        let said = "memory allocation of 1024 bytes failed";
        assert_eq!(death(Signal::ABORT, said), CompileError::Memory(ROOM));
        let overflow = "thread 'x' has overflowed its stack";
        let expected = CompileError::Crashed(format!("SIGABRT: {overflow}"));
        assert_eq!(death(Signal::ABORT, overflow), expected);
        assert_eq!(death(Signal::SEGV, ""), CompileError::Crashed("SIGSEGV".into()));
        assert_eq!(death(Signal::KILL, ""), CompileError::Killed, "somebody else did it");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let program = CompilerProgram { path: "/no/such/program".into(), args: Vec::new() };
        let order = r#"{"parent":1,"settings":{"reserved_memory_bytes":null,"concurrency":false,"cpu":"native"},"engineHash":1,
            "threads":1,"memoryBytes":1,"cpuSeconds":1,"maxComponentBytes":1}"#;
        let order: Order = serde_json::from_str(order).unwrap();
        let error = compile(&program, &order, b"", &Cancel::default()).unwrap_err();
        let CompileError::NoProcess(error) = error else { panic!("{error:?}") };
        assert!(error.contains("No such file"), "{error}");
    }
}
