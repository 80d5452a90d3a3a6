//! What the init process hands to the supervisor that it starts, in one environment variable.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;

use bulkhead_types::previous::MemoryFigures;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::permit::LeasePermit;
use crate::exit::Exit;
use crate::failure::Failure;

/// The variable. A process that has it set is a supervisor with an init process above it.
const VARIABLE: &str = "BULKHEAD_INIT";

/// What the init process knows and its child does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handover {
    /// The init process.
    pub init_pid: i32,
    /// The run id of the child: what it leaves names it so.
    pub run_id: String,
    /// How often it restarted the supervisor.
    pub restart_seq: u64,
    /// The kernel's counters before this one was started.
    pub counters: MemoryFigures,
    /// How those before ended, as far as none of them said that it is reported: oldest first, at most
    /// [`MAX_ENDS`](super::ends::MAX_ENDS).
    pub ends: Vec<ProcessEnd>,
    /// How many there were before those.
    pub forgotten: u64,
    /// The lease that it runs under, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeasePermit>,
    /// Between two [`InitMessage::Alive`], in milliseconds. Absent when nobody wants any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat_ms: Option<u64>,
}

/// What a supervisor says to its init process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum InitMessage {
    /// All ends that were handed over are reported, and need not be handed over again.
    Reported = b't',
    /// The log is JSON.
    LogIsJson = b'j',
    /// The log is for a person.
    LogIsPretty = b'p',
    /// Starts are taken.
    Ready = b'r',
    /// The agents are being ended.
    Draining = b'd',
    /// The supervisor works: see [`crate::notify`].
    Alive = b'a',
    /// The supervisor ends itself at its fence.
    Fenced = b'f',
    /// It ends so that another copy of the town takes over.
    GivesUp = b'g',
}

impl InitMessage {
    /// The word that a byte is.
    pub fn of(byte: u8) -> Option<Self> {
        const ALL: [InitMessage; 8] = [
            InitMessage::Reported,
            InitMessage::LogIsJson,
            InitMessage::LogIsPretty,
            InitMessage::Ready,
            InitMessage::Draining,
            InitMessage::Alive,
            InitMessage::Fenced,
            InitMessage::GivesUp,
        ];
        ALL.into_iter().find(|it| *it as u8 == byte)
    }
}

/// How a process ended, as its parent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessEnd {
    /// The run id that it was given.
    pub run_id: String,
    /// Its id.
    pub pid: i32,
    /// The code that it exited with.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel's counters before it was started.
    pub counters_before: MemoryFigures,
    /// The same when its end was seen.
    pub counters_after: MemoryFigures,
    /// It ended because the lease was not renewed.
    #[serde(default)]
    pub lease_lost: bool,
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, code, signal, .. } = self;
        match (code, signal) {
            (Some(code), _) => write!(f, "(process {pid}) exited with code {code}"),
            (None, Some(signal)) => write!(f, "(process {pid}) died of signal {signal}"),
            (None, None) => write!(f, "(process {pid}) is gone"),
        }
    }
}

impl Handover {
    /// Name and value of the variable.
    pub fn to_variable(&self) -> (&'static str, String) {
        // Numbers and words: there is nothing in it that JSON could not say.
        (VARIABLE, serde_json::to_string(self).unwrap_or_default())
    }

    /// Says something to the init process, through stdin, which is a socket of both.
    pub fn send(&self, word: InitMessage) {
        Self::say(word);
    }

    /// The same of a process that has an init process above it.
    pub fn say(word: InitMessage) {
        // An init process that is gone takes this one with it.
        let _ = rustix::io::write(io::stdin().as_fd(), &[word as u8]);
    }

    /// What was handed to this process, if there is an init process above it, and binds its lifetime to that one's:
    /// whatever ends it ends this process as well. To be called before anything else is done.
    pub fn take() -> Result<Option<Self>, Failure> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let value = value.to_string_lossy();
        let handover: Self = serde_json::from_str(&value).map_err(|_| {
            Failure::bad_input(format!("{VARIABLE} is not what an init process sets; unset it"))
        })?;
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| {
            Failure::cannot_run("cannot tie this process to its init process", &error)
        })?;
        // It may have ended before it was asked for its end.
        if i64::from(parent_id()) != i64::from(handover.init_pid) {
            let init = handover.init_pid;
            let message =
                format!("the init process {init} is gone, or {VARIABLE} is not for this one");
            return Err(Failure::new(Exit::CannotRun, message));
        }
        // It was started by another name, and has to be found by its own.
        let _ = rustix::thread::set_name(c"bulkhead");
        Ok(Some(handover))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handover_reads_back_what_it_wrote() {
        let counters = MemoryFigures { oom_kills: Some(3), ..MemoryFigures::default() };
        let handover = Handover {
            init_pid: 1,
            run_id: "run-3".into(),
            restart_seq: 2,
            counters: counters.clone(),
            ends: vec![ProcessEnd {
                run_id: "run-2".into(),
                pid: 9,
                code: None,
                signal: Some(11),
                counters_before: MemoryFigures::default(),
                counters_after: counters,
                lease_lost: true,
            }],
            forgotten: 1,
            lease: Some(LeasePermit { epoch: 3, fence_at: 7 }),
            beat_ms: Some(1000),
        };
        let (_, value) = handover.to_variable();
        assert_eq!(serde_json::from_str::<Handover>(&value).unwrap(), handover);
    }
}
