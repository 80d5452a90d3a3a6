//! Faults of the host itself on request, for its own tests: the only way to see how it takes them.

use bulkhead_tasks::Spawner;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

/// What SIGUSR2 does to a host that was started with `--inject-fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// The main thread panics.
    PanicMain,
    /// A thread without a boundary panics.
    PanicThread,
    /// A background task panics.
    PanicTask,
    /// A background task returns an error.
    FailTask,
    /// The process aborts in its boot, without being asked.
    AbortInBoot,
    /// The process aborts.
    Abort,
    /// The process dies of SIGSEGV.
    Segv,
}

/// Does what has to be done in the boot, when the control server answers.
pub fn strike_in_boot(fault: Option<Fault>) {
    if fault == Some(Fault::AbortInBoot) {
        std::process::abort();
    }
}

/// A real fault. A SIGSEGV that is only sent would be taken by the engine's handler, which waits for the
/// instruction to fault once more.
#[expect(unsafe_code, reason = "the fault is what was asked for")]
fn write_to_nowhere() {
    let nowhere = std::ptr::without_provenance_mut::<u8>(1);
    // SAFETY: the first page is never mapped, so nothing is written; the fault that ends the process is
    // what was asked for.
    unsafe { nowhere.write_volatile(1) };
}

/// Waits for SIGUSR2, and does it. Some faults are survived, and can be asked for again.
pub async fn strike(fault: Option<Fault>, spawner: &Spawner) -> std::convert::Infallible {
    let Some(fault) = fault else { return std::future::pending().await };
    let mut asked = match signal(SignalKind::user_defined2()) {
        Ok(asked) => asked,
        Err(error) => {
            tracing::error!(%error, "cannot listen for SIGUSR2");
            return std::future::pending().await;
        }
    };
    loop {
        asked.recv().await;
        match fault {
            Fault::PanicMain => panic!("a fault was injected into the main thread"),
            Fault::PanicThread => {
                std::thread::spawn(|| panic!("a fault was injected into a thread"));
            }
            Fault::PanicTask => {
                spawner.spawn("faulty task", async {
                    if true {
                        panic!("a fault was injected into a task")
                    }
                    Ok::<(), String>(())
                });
            }
            Fault::FailTask => {
                let error = "a fault was injected into a task".to_owned();
                spawner.spawn("failing task", async { Err::<(), _>(error) });
            }
            Fault::Abort | Fault::AbortInBoot => std::process::abort(),
            Fault::Segv => write_to_nowhere(),
        }
    }
}
