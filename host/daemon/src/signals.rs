//! Signals that end the process.
//!
//! | signal | means |
//! | --- | --- |
//! | SIGTERM | drain: turns and mail are worked off first |
//! | SIGINT | what `signals.sigint` says: `stop`, agents are asked to end at once, or `drain` |
//! | SIGHUP, SIGQUIT | stop |
//!
//! One that was ignored when the process was started stays ignored: `nohup`, and shells that start a program in
//! the background, ask for that.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::dispositions::Dispositions;

/// Signals that come within this time of the first one are the same request. A service manager signals every process of
/// a group, so one request comes directly and through init; some send SIGHUP right after SIGTERM.
pub const SIGNAL_DEBOUNCE: Duration = Duration::from_secs(1);

/// The signals that end the process. `None`: it is ignored.
pub struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
    quit: Option<Signal>,
}

impl Signals {
    /// From now on the signals are waited for, and do not kill.
    pub fn listen() -> std::io::Result<Self> {
        let before = Dispositions::of_this_process();
        let take = |kind: SignalKind| match before.ignores(kind.as_raw_value()) {
            true => Ok(None),
            false => signal(kind).map(Some),
        };
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hangup: take(SignalKind::hangup())?,
            quit: take(SignalKind::quit())?,
        })
    }

    /// Those that were ignored when the process was started, by name.
    pub fn ignored(&self) -> Vec<&'static str> {
        let Self { terminate, interrupt, hangup, quit } = self;
        let all =
            [(terminate, "SIGTERM"), (interrupt, "SIGINT"), (hangup, "SIGHUP"), (quit, "SIGQUIT")];
        all.into_iter().filter_map(|(signal, name)| signal.is_none().then_some(name)).collect()
    }

    /// The next one, by name. Of several that came at once the one with the most grace counts: SIGTERM comes first
    /// here also where the kernel delivered another one before it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            () = heard(&mut self.terminate) => "SIGTERM",
            () = heard(&mut self.interrupt) => "SIGINT",
            () = heard(&mut self.hangup) => "SIGHUP",
            () = heard(&mut self.quit) => "SIGQUIT",
        }
    }
}

/// Resolves when the signal comes.
async fn heard(signal: &mut Option<Signal>) {
    match signal {
        // The registry of signals exists as long as the process.
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
