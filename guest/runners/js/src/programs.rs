//! Native programs that run.

use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::bindings::bulkhead::agent::tools::{self, Child, Command, ToolError};
use crate::bounds;
use crate::natives::Reply;
use crate::natives::handles::Handles;

/// Bytes that one read returns at most.
const READ_BYTES: u64 = 64 * 1024;

thread_local! {
    static CHILDREN: Handles<Running> = const { Handles::new() };
}

/// A program with its streams. Each is dropped when its end is seen.
struct Running {
    stdin: Option<OutputStream>,
    stdout: Option<InputStream>,
    stderr: Option<InputStream>,
    // Last: the host wants the streams of a program dropped before it.
    child: Child,
}

/// Runs one to its end.
pub fn run(command: &Command, stdin: &[u8]) -> Reply {
    match bounds::input(command, stdin).and_then(|()| tools::run(command, stdin)) {
        Ok(tools::Finished { end, usage, stdout, stderr }) => {
            Reply::new(Ok::<_, ToolError>(tools::Ended { end, usage }), [stdout, stderr])
        }
        Err(error) => Reply::new(Err::<tools::Ended, _>(error), [Vec::new(), Vec::new()]),
    }
}

/// Starts one and returns its number.
pub fn spawn(command: &Command) -> Result<u32, ToolError> {
    bounds::command(command)?;
    let child = tools::spawn(command)?;
    let running =
        Running { stdin: child.stdin(), stdout: child.stdout(), stderr: child.stderr(), child };
    Ok(CHILDREN.with(|children| children.add(running)))
}

/// Writes all of it.
pub fn write(id: u32, input: &[u8]) -> Reply {
    Reply::plain(with(id, |running| {
        let stdin = running.stdin.as_ref().ok_or_else(|| closed("stdin is closed"))?;
        let chunks = input.chunks(4096);
        chunks.into_iter().try_for_each(|chunk| stdin.blocking_write_and_flush(chunk)).map_err(
            |error| {
                running.stdin = None;
                closed(match error {
                    StreamError::Closed => "the program closed its stdin",
                    StreamError::LastOperationFailed(_) => "a write to the program failed",
                })
            },
        )
    }))
}

/// Tells the program that nothing more comes.
pub fn close_stdin(id: u32) -> Reply {
    Reply::plain(with(id, |running| {
        running.stdin = None;
        Ok(())
    }))
}

/// The next bytes of an output; `false` at its end.
pub fn read(id: u32, stderr: bool) -> Reply {
    let bytes = with(id, |running| {
        let output = if stderr { &mut running.stderr } else { &mut running.stdout };
        let Some(stream) = output else { return Ok(None) };
        let read = stream.blocking_read(READ_BYTES).ok();
        if read.is_none() {
            *output = None;
        }
        Ok(read)
    });
    match bytes {
        Ok(bytes) => Reply::new(Ok::<_, ToolError>(bytes.is_some()), [bytes.unwrap_or_default()]),
        Err(error) => Reply::new(Err::<bool, _>(error), [Vec::new()]),
    }
}

/// Waits for its end.
pub fn wait(id: u32) -> Result<tools::Ended, ToolError> {
    with(id, |running| Ok(running.child.wait()))
}

/// Kills it, with all that it started.
pub fn kill(id: u32) {
    CHILDREN.with(|children| children.with(id, |running| running.child.kill()));
}

/// Kills and forgets it.
pub fn close(id: u32) {
    CHILDREN.with(|children| children.close(id));
}

fn with<R>(
    id: u32,
    run: impl FnOnce(&mut Running) -> Result<R, ToolError>,
) -> Result<R, ToolError> {
    CHILDREN
        .with(|children| children.with(id, run))
        .unwrap_or_else(|| Err(closed("the program is gone")))
}

fn closed(text: &str) -> ToolError {
    ToolError::Unavailable(text.to_owned())
}
