//! The init process: `bulkhead run` as the first process of a container, or with `--supervise`.
//!
//! ```text
//!            signals ─▶ ┌──────┐ spawn, with a Handover ┌────────────┐
//!                       │ init │ ──────────────────────▶│ supervisor │  the same program with the
//!   dead orphans    ──▶ └──────┘ ◀── its end ────────── └────────────┘  same arguments
//!                           │
//!        ended as asked, or a restart cannot help ──▶ end with the same code
//!        died otherwise ──▶ wait for the backoff, spawn again
//!        died too often ──▶ log why, give up
//! ```
//!
//! It has no async runtime and no engine, and two threads beside its own: one waits for signals, one writes. It is
//! so small because it must not fail: what it sees of an end (exit code, signal, the kernel's counters before
//! and after) is gone for ever when nobody was there to see it.
//!
//! With a lease it runs a supervisor only while its keeper holds it ([`lease`], [`crate::keeper`]), and kills one whose time is
//! over.
//!
//! To a service manager it is the service ([`crate::notify`]). What it reports is what the supervisor says: one that hangs
//! says nothing, and loses the watchdog.
//!
//! The supervisor cannot outlive it ([`Handover::take`]), and is in a process group of its own, so that a
//! Ctrl-C reaches it once, from here.

mod child;
mod ends;
mod handover;
mod intensity;
mod lease;
mod obituary;
mod permit;
mod signals;
mod voice;

pub use handover::{Handover, InitMessage, ProcessEnd};
pub use intensity::Rules;
pub use permit::{KEEPER, KeeperMessage, KeeperOrder, LeasePermit};

use std::process::ExitCode;
use std::time::Instant;

use bulkhead_memory::Kernel;
use bulkhead_types::time::millis;
use rustix::process::{Signal, getpid, set_child_subreaper};

use crate::cli::{LogFormat, RunArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::notify::{Notifier, Stage};
use child::{Child, Program};
use ends::Ends;
use intensity::{Intensity, Verdict};
use lease::TownLease;
use signals::{SignalEvent, Signals};
use uuid::Uuid;
use voice::Voice;

/// Whether this is the first process of its container.
pub fn is_first_process() -> bool {
    getpid().is_init()
}

/// Runs the supervisor in a process of its own, again and again, until it ends as asked or dies too often; with a lease, only
/// while that is held.
pub fn supervise(args: &RunArgs, is_leased: bool) -> Result<ExitCode, Failure> {
    let cannot =
        |error: &(dyn std::error::Error + 'static)| Failure::cannot_run("cannot supervise", error);
    // Before the first child: a signal that comes from now on is passed on, and does not kill.
    let signals = Signals::listen().map_err(|error| cannot(&error))?;
    if !is_first_process() {
        set_child_subreaper(Some(getpid())).map_err(|error| cannot(&error))?;
    }
    let mut init = Init {
        program: Program::this(),
        kernel: Kernel::here(),
        voice: Voice::start(args.log_format).map_err(|error| cannot(&error))?,
        signals,
        intensity: Intensity::new(args.restart_rules()),
        restart_seq: 0,
        ends: Ends::default(),
        notifier: Notifier::from_environment(),
        lease: is_leased.then(TownLease::new),
        is_fenced: false,
        gives_up: false,
    };
    loop {
        let permit = match init.wait_for_lease() {
            Ok(permit) => permit,
            Err(exit) => return Ok(init.end(args, exit.into())),
        };
        let child = match init.spawn(permit) {
            Ok(child) => child,
            // No room for a process, for memory, for a descriptor: it may be better in a moment.
            Err(error) => match init.wait_for_restart(&format!("cannot be started: {error}")) {
                None => continue,
                Some(exit) => return Ok(init.end(args, exit.into())),
            },
        };
        let (end, asked) = init.watch(&child);
        let is_owed = init.ends.is_owed();
        init.ends.saw(end.clone());
        if init.gives_up
            && asked.is_none()
            && is_drained(&end)
            && let Some(lease) = &mut init.lease
        {
            if lease.hand_over(&init.signals, &init.voice) {
                return Ok(init.end(args, Exit::Clean.into()));
            }
            init.restart_seq += 1;
            continue;
        }
        if let Some(code) = final_code(&end, asked.is_some()) {
            if !is_final(&end) {
                init.voice.print(&last_words(&end, asked));
            }
            if is_owed || !is_final(&end) {
                return Ok(init.end(args, code));
            }
            init.let_go();
            return Ok(code);
        }
        // Its death says nothing of the supervisor.
        if !end.lease_lost
            && let Some(exit) = init.wait_for_restart(&end.to_string())
        {
            return Ok(init.end(args, exit.into()));
        }
        init.restart_seq += 1;
    }
}

struct Init {
    program: Program,
    kernel: Kernel,
    voice: Voice,
    signals: Signals,
    intensity: Intensity,
    restart_seq: u64,
    ends: Ends,
    notifier: Notifier,
    lease: Option<TownLease>,
    /// The supervisor said that it ends itself at its fence.
    is_fenced: bool,
    /// It said that it ends for another copy.
    gives_up: bool,
}

impl Init {
    fn spawn(&self, lease: Option<LeasePermit>) -> std::io::Result<Child> {
        let handover = Handover {
            init_pid: getpid().as_raw_nonzero().get(),
            run_id: Uuid::now_v7().to_string(),
            restart_seq: self.restart_seq,
            counters: self.kernel.counters(),
            ends: self.ends.kept(),
            forgotten: self.ends.forgotten(),
            lease,
            beat_ms: self.notifier.beat().map(millis),
        };
        self.notifier.reached(Stage::Booting);
        self.program.spawn(&handover)
    }

    /// Passes signals on until the child is gone. Returns its end, and the signal that asked it to end, if one
    /// did. One that asks for nothing is passed on only to a child that has a handler for it: it would kill
    /// any other.
    fn watch(&mut self, child: &Child) -> (ProcessEnd, Option<Signal>) {
        let (mut asked, mut lease_lost) = (None, false);
        (self.is_fenced, self.gives_up) = (false, false);
        loop {
            // What it says counts for the next supervisor.
            let keeper = self.lease.as_ref().and_then(TownLease::words).filter(|_| !lease_lost);
            let words: Vec<_> = child.words().into_iter().chain(keeper).collect();
            let most = self.lease.as_ref().map(TownLease::patience);
            let event = self.signals.wait_beside(&words, most);
            if !lease_lost && self.is_lease_over(child) {
                lease_lost = true;
                child.signal(Signal::KILL);
            }
            let Some(event) = event else {
                self.hear(child);
                continue;
            };
            match event {
                SignalEvent::Ended => {
                    if let Some(end) = child::reap(Some(child), &self.kernel) {
                        self.hear(child);
                        // It may have been quicker to see it itself. Another end is another matter.
                        let lease_lost =
                            (lease_lost || self.is_fenced || self.is_lease_over(child))
                                && end.signal == Some(Signal::KILL.as_raw());
                        return (ProcessEnd { lease_lost, ..end }, asked);
                    }
                }
                SignalEvent::Asked(signal) if signals::ends(signal) => {
                    asked = Some(signal);
                    child.signal(signal);
                }
                SignalEvent::Asked(signal) if child.catches(signal) => child.signal(signal),
                SignalEvent::Asked(signal) => {
                    self.hear(child);
                    let number = signal.as_raw();
                    self.voice.print(&format!(
                        "signal {number} is not forwarded: the supervisor does not handle it"
                    ));
                }
            }
        }
    }

    /// Takes what the child said since it was last heard.
    fn hear(&mut self, child: &Child) {
        for word in child.messages() {
            match word {
                InitMessage::Reported => self.ends.set_reported(),
                InitMessage::LogIsJson => self.voice.set_format(LogFormat::Json),
                InitMessage::LogIsPretty => self.voice.set_format(LogFormat::Pretty),
                InitMessage::Ready => self.notifier.reached(Stage::Ready),
                InitMessage::Draining => self.notifier.reached(Stage::Draining),
                InitMessage::Alive => self.notifier.alive(),
                InitMessage::Fenced => self.is_fenced = true,
                InitMessage::GivesUp => self.gives_up = true,
            }
        }
    }

    /// Passes renewals on. Says whether the time of the supervisor is over.
    fn is_lease_over(&mut self, child: &Child) -> bool {
        let Some(lease) = &mut self.lease else { return false };
        // A renewal that this process hears of too late helps nobody: the supervisor has ended itself.
        let was_over = lease.permit().is_none();
        lease.keep(&self.voice);
        if let Some(permit) = lease.hear(&self.voice) {
            child.renew(permit);
        }
        was_over || lease.permit().is_none()
    }

    /// Waits until a supervisor may run. `None`: it may without a lease.
    fn wait_for_lease(&mut self) -> Result<Option<LeasePermit>, Exit> {
        let Some(lease) = &mut self.lease else { return Ok(None) };
        // A service manager that waits for this one to be ready, or for a sign of life, has to hear of it.
        self.notifier.reached(Stage::Booting);
        let (beat, mut next_beat) = (self.notifier.beat(), Instant::now());
        let mut said = String::new();
        loop {
            lease.keep(&self.voice);
            lease.hear(&self.voice);
            if lease.said() != said {
                lease.said().clone_into(&mut said);
                self.notifier.say(&said);
            }
            if let Some(beat) = beat.filter(|_| Instant::now() >= next_beat) {
                self.notifier.alive();
                next_beat = Instant::now() + beat;
            }
            if let Some(permit) = lease.permit() {
                return Ok(Some(permit));
            }
            if let Some(why) = lease.refused() {
                self.voice.print(&format!("the lease of the town cannot be held: {why}"));
                return Err(Exit::CannotRun);
            }
            let words: Vec<_> = lease.words().into_iter().collect();
            match self.signals.wait_beside(&words, Some(lease.patience())) {
                Some(SignalEvent::Asked(signal)) if signals::ends(signal) => {
                    return Err(Exit::Clean);
                }
                Some(SignalEvent::Ended) => _ = child::reap(None, &self.kernel),
                Some(SignalEvent::Asked(_)) | None => {}
            }
        }
    }

    /// Logs what no supervisor will log, and ends with this code.
    fn end(&mut self, args: &RunArgs, code: ExitCode) -> ExitCode {
        obituary::log_last_end(args, &self.ends, &self.kernel, &self.voice);
        self.let_go();
        code
    }

    /// Nothing runs here any more.
    fn let_go(&mut self) {
        if let Some(lease) = &mut self.lease {
            let _ = lease.release(&self.signals);
        }
        self.voice.flush();
    }

    /// Waits until it is time for the next child, after what became of the one before. Returns how to end when there
    /// must be none.
    fn wait_for_restart(&mut self, end: &str) -> Option<Exit> {
        let rules = self.intensity.rules();
        let (max, window_ms) = (rules.max_restarts, rules.window.as_millis());
        let Verdict::Restart { number, backoff } = self.intensity.died(Instant::now()) else {
            self.voice.print(&format!(
                "the supervisor {end}; more than {max} restarts in {window_ms} ms, giving up"
            ));
            return Some(Exit::GaveUp);
        };
        let what = format!(
            "the supervisor {end}; restart {number} of {max} in {window_ms} ms, after {} ms",
            backoff.as_millis()
        );
        self.voice.print(&what);
        self.notifier.say(&what);
        let until = Instant::now() + backoff;
        while let Some(heard) = self.signals.wait_until(until) {
            match heard {
                SignalEvent::Asked(signal) if signals::ends(signal) => return Some(Exit::Unclean),
                SignalEvent::Asked(_) => {}
                SignalEvent::Ended => {
                    child::reap(None, &self.kernel);
                }
            }
        }
        None
    }
}

/// How to end after this end of the supervisor. `None` when it has to be restarted.
fn final_code(end: &ProcessEnd, asked: bool) -> Option<ExitCode> {
    // As shells say it: 128 and the signal's number.
    let code = match (end.code, end.signal) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        (None, None) => u8::MAX,
    };
    (asked || is_final(end)).then(|| ExitCode::from(code))
}

/// What to say of a supervisor that is not started again although it did not end as asked.
fn last_words(end: &ProcessEnd, asked: Option<Signal>) -> String {
    match asked {
        Some(signal) if end.signal == Some(signal.as_raw()) => format!(
            "the supervisor {end}, which was forwarded before it handled signals; it is not restarted"
        ),
        _ => format!("the supervisor {end} after it was asked to end; it is not restarted"),
    }
}

/// Whether it ended its agents in order, or what was left of them.
fn is_drained(end: &ProcessEnd) -> bool {
    [Exit::Clean, Exit::Unclean].iter().any(|exit| end.code == Some(i32::from(*exit as u8)))
}

/// Whether it ended as asked, or in a way that a restart cannot better.
fn is_final(end: &ProcessEnd) -> bool {
    const FINAL: [Exit; 4] = [Exit::Clean, Exit::CannotRun, Exit::BadInput, Exit::Unclean];
    FINAL.iter().any(|exit| end.code == Some(i32::from(*exit as u8)))
}

#[cfg(test)]
mod tests {
    use bulkhead_types::previous::MemoryFigures;

    use super::*;

    fn end(code: Option<i32>, signal: Option<i32>) -> ProcessEnd {
        let counters = MemoryFigures::default;
        let (counters_before, counters_after) = (counters(), counters());
        ProcessEnd {
            run_id: "run-1".into(),
            pid: 7,
            code,
            signal,
            counters_before,
            counters_after,
            lease_lost: false,
        }
    }

    fn exited(code: i32) -> ProcessEnd {
        end(Some(code), None)
    }

    fn killed(signal: i32) -> ProcessEnd {
        end(None, Some(signal))
    }

    #[test]
    fn an_end_that_a_restart_cannot_better_is_final() {
        for code in [Exit::Clean, Exit::CannotRun, Exit::BadInput, Exit::Unclean] {
            let code = code as u8;
            assert_eq!(final_code(&exited(code.into()), false), Some(ExitCode::from(code)));
        }
    }

    #[test]
    fn a_death_is_answered_by_a_restart() {
        for end in [exited(Exit::Panicked as i32), exited(101), killed(9), killed(11)] {
            assert_eq!(final_code(&end, false), None, "{end}");
        }
    }

    #[test]
    fn a_signal_that_killed_it_is_distinguished_from_one_that_it_was_asked_with() {
        let said = last_words(&killed(15), Some(Signal::TERM));
        assert!(said.contains("died of signal 15, which was forwarded"), "{said}");
        let said = last_words(&killed(9), Some(Signal::TERM));
        assert!(said.contains("died of signal 9 after it was asked to end"), "{said}");
    }

    #[test]
    fn nothing_is_restarted_that_was_asked_to_end() {
        assert_eq!(final_code(&killed(9), true), Some(ExitCode::from(137)));
        assert_eq!(final_code(&exited(4), true), Some(ExitCode::from(4)));
    }
}
