//! Reports to the service manager how far the service is: the protocol of systemd's `sd_notify`.
//!
//! A datagram of `NAME=VALUE` lines to the socket that `NOTIFY_SOCKET` names. With `NotifyAccess=main` systemd takes them
//! from the main process alone, so that no native program of an agent can speak for the host. That is the init process,
//! where there is one: its supervisor has no such variable, and reports to it ([`crate::init`]).
//!
//! ```text
//!  booting ── READY=1 ─▶ ready ── STOPPING=1 ─▶ draining
//!     │ a beat: the time for the boot   │ a beat: WATCHDOG=1   │ a beat: the time for the drain
//!     ▼ grows by EXTENSION              ▼                      ▼ grows by EXTENSION
//! ```
//!
//! A beat proves that the host's main thread and its control server work. So boot and drain may take as long as the
//! configuration lets them, and a host that hangs gets no more than the unit has.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What a process must not hand on to those that it starts.
pub const VARIABLES: [&str; 3] = [SOCKET, WATCHDOG_TIME, WATCHDOG_PROCESS];

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_TIME: &str = "WATCHDOG_USEC";
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// Between two beats, at most. A watchdog gets three in its time.
const BEAT: Duration = Duration::from_secs(10);
const BEATS: u32 = 3;

/// What a beat adds to the time for a boot or a drain: a few beats, and what comes after the last one.
const EXTENSION: Duration = Duration::from_secs(40);

/// A full queue of a service manager that hangs is not waited for longer.
const SENDING: Duration = Duration::from_secs(1);

/// How far the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It takes no starts yet.
    Booting,
    /// `GET /readyz` is 200.
    Ready,
    /// It ends its agents.
    Draining,
}

/// The way to the service manager, if there is one that listens. Otherwise all of this does nothing.
pub struct Notifier {
    manager: Option<ServiceManager>,
    stage: Cell<Stage>,
}

struct ServiceManager {
    socket: UnixDatagram,
    beat: Duration,
}

impl Notifier {
    /// The one that the environment names, if it does. To be called before the process confines itself.
    pub fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let watchdog = watchdog(text(WATCHDOG_TIME), text(WATCHDOG_PROCESS), std::process::id());
        let manager = std::env::var_os(SOCKET).map(|name| ServiceManager::at(&name, watchdog));
        let complain = |error: &io::Error| eprintln!("bulkhead: {SOCKET} is not used: {error}");
        Self::new(manager.and_then(|manager| manager.inspect_err(complain).ok()))
    }

    fn new(manager: Option<ServiceManager>) -> Self {
        Self { manager, stage: Cell::new(Stage::Booting) }
    }

    /// Between two beats.
    pub fn beat(&self) -> Option<Duration> {
        self.manager.as_ref().map(|manager| manager.beat)
    }

    /// The host came to a stage. A supervisor that is restarted boots once more, and the service stays up.
    pub fn reached(&self, stage: Stage) {
        self.stage.set(stage);
        match stage {
            Stage::Booting => self.send("WATCHDOG=1\nSTATUS=booting"),
            Stage::Ready => self.send("READY=1\nWATCHDOG=1\nSTATUS=ready"),
            Stage::Draining => {
                self.send(&format!("STOPPING=1\nSTATUS=draining\n{}", extended()));
            }
        }
    }

    /// The host works.
    pub fn alive(&self) {
        match self.stage.get() {
            Stage::Ready => self.send("WATCHDOG=1"),
            Stage::Booting | Stage::Draining => self.send(&extended()),
        }
    }

    /// One line for a person.
    pub fn say(&self, status: &str) {
        self.send(&format!("STATUS={}", status.replace('\n', " ")));
    }

    fn send(&self, state: &str) {
        if let Some(manager) = &self.manager {
            // One that is gone hears nothing.
            let _ = manager.socket.send(state.as_bytes());
        }
    }
}

impl ServiceManager {
    fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(name)?)?;
        socket.set_write_timeout(Some(SENDING))?;
        let beat = watchdog.map_or(BEAT, |time| BEAT.min(time / BEATS));
        Ok(Self { socket, beat })
    }
}

fn extended() -> String {
    format!("WATCHDOG=1\nEXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros())
}

/// The time in which a beat has to come, if that is asked of this process.
fn watchdog(time_us: Option<String>, process: Option<String>, own: u32) -> Option<Duration> {
    let is_meant = process.is_none_or(|process| process.parse() == Ok(own));
    let time_us = time_us?.parse().ok().filter(|time_us| *time_us > 0 && is_meant);
    time_us.map(Duration::from_micros)
}

/// A path, or behind `@` a name without a file.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
        [b'/', ..] => SocketAddr::from_pathname(OsString::from(name)),
        _ => {
            let text = format!("neither a path nor an abstract name: {}", name.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn to(name: &OsStr) -> Notifier {
        Notifier::new(Some(ServiceManager::at(name, None).unwrap()))
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = socket.recv(&mut bytes).expect("a datagram");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn speaks_to(name: &OsStr, manager: &UnixDatagram) {
        let notifier = to(name);
        notifier.alive();
        assert_eq!(heard(manager), "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=40000000");
        notifier.reached(Stage::Ready);
        assert_eq!(heard(manager), "READY=1\nWATCHDOG=1\nSTATUS=ready");
        notifier.alive();
        assert_eq!(heard(manager), "WATCHDOG=1");
        notifier.say("the supervisor died\nrestart 1");
        assert_eq!(heard(manager), "STATUS=the supervisor died restart 1");
        notifier.reached(Stage::Draining);
        let stopping = "STOPPING=1\nSTATUS=draining\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=40000000";
        assert_eq!(heard(manager), stopping);
        notifier.alive();
        assert_eq!(heard(manager), "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=40000000");
    }

    #[test]
    fn a_socket_with_a_path_hears_each_stage_and_beat() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        speaks_to(path.as_os_str(), &UnixDatagram::bind(&path).unwrap());
    }

    #[test]
    fn so_does_one_with_an_abstract_name() {
        let name = format!("bulkhead-notify-{}", std::process::id());
        let manager = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&manager).unwrap();
        speaks_to(format!("@{name}").as_ref(), &manager);
    }

    #[test]
    fn a_name_that_leads_nowhere_is_an_error_and_a_listener_that_goes_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        assert!(ServiceManager::at("relative".as_ref(), None).is_err());
        assert!(ServiceManager::at(path.as_os_str(), None).is_err());
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = to(path.as_os_str());
        drop(manager);
        notifier.reached(Stage::Ready);
    }

    #[test]
    fn a_service_manager_that_reads_nothing_is_not_waited_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notifier = to(path.as_os_str());
        let socket = &notifier.manager.as_ref().unwrap().socket;
        socket.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        (0..50).for_each(|_| notifier.alive());
    }

    #[test]
    fn a_watchdog_is_heeded_by_the_process_that_it_watches() {
        let watched = |time: &str, process: Option<&str>| {
            watchdog(Some(time.to_owned()), process.map(str::to_owned), 7)
        };
        assert_eq!(watched("3000000", Some("7")), Some(Duration::from_secs(3)));
        assert_eq!(watched("3000000", None), Some(Duration::from_secs(3)));
        for (time, process) in [("3000000", Some("8")), ("0", None), ("x", None), ("-1", None)] {
            assert_eq!(watched(time, process), None, "{time} {process:?}");
        }
        assert_eq!(watchdog(None, Some("7".to_owned()), 7), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        for (time, beat) in [(Some(3), 1), (Some(60), 10), (None, 10)] {
            let manager = ServiceManager::at(path.as_os_str(), time.map(Duration::from_secs));
            assert_eq!(manager.unwrap().beat, Duration::from_secs(beat));
        }
    }
}
