//! Faults of the host itself on request, for its own tests: the only way to see how it takes them.

use bulkhead_events::task::Spawner;
use clap::ValueEnum;
use rustix::process::{Signal, getpid, kill_process};
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

/// Does what is to be done in the boot, when the control server answers.
pub fn strike_in_boot(fault: Option<Fault>) {
    if fault == Some(Fault::AbortInBoot) {
        std::process::abort();
    }
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
            Fault::Segv => {
                let _ = kill_process(getpid(), Signal::SEGV);
            }
        }
    }
}
