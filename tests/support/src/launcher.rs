//! Processes that end with the one that started them, so that a test run that is killed leaves none behind.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// A command, and what waits for its process.
type Job = (Command, SyncSender<io::Result<Child>>);

/// The kernel takes the end of the *thread* that started a process for the end of its parent. This one ends with the
/// process.
static LAUNCHER: LazyLock<Mutex<SyncSender<Job>>> = LazyLock::new(|| {
    let (sender, jobs) = sync_channel(1);
    let thread = std::thread::Builder::new().name("test-launcher".to_owned());
    thread.spawn(move || serve(&jobs)).expect("start a thread");
    Mutex::new(sender)
});

/// Starts a process, from a thread that is there as long as this process is.
pub fn spawn(command: Command) -> io::Result<Child> {
    let (answer, child) = sync_channel(1);
    let launcher = LAUNCHER.lock();
    launcher.send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

/// Starts a process that is killed when this one ends.
pub fn spawn_bound(mut command: Command) -> io::Result<Child> {
    end_with_this_process(&mut command);
    spawn(command)
}

/// Has the process of this command killed when the thread that starts it ends, at the latest with this process. What
/// becomes another user on the way loses that: `setpriv --pdeathsig` asks for it again.
#[expect(
    unsafe_code,
    reason = "the signal belongs to the process that asks for it: after fork, before exec"
)]
pub fn end_with_this_process(command: &mut Command) {
    let parent = getpid();
    let ask = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent ended before it was asked for.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: two system calls, and nothing that allocates or locks.
    unsafe { command.pre_exec(ask) };
}

fn serve(jobs: &Receiver<Job>) {
    for (mut command, answer) in jobs {
        // Nobody waits any more when that thread panicked; then the process is of no use.
        if let Err(unwanted) = answer.send(command.spawn())
            && let Ok(mut child) = unwanted.0
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
