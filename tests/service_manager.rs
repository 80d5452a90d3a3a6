//! The host as a service of systemd: what a socket in the place of systemd's hears, from whom, and when.

use std::ffi::OsString;
use std::io::{IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use harness::{Host, HostBuilder, json, wait_until};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What the unit would say, and a third of it: the time between two beats.
const WATCHDOG: Duration = Duration::from_secs(3);

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes what a service reports.
struct Manager {
    socket: UnixDatagram,
    name: OsString,
    _dir: TempDir,
}

impl Manager {
    fn with_path() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind the socket");
        Self::of(socket, path.into_os_string(), dir)
    }

    fn with_abstract_name() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let name = format!("bulkhead{}", dir.path().display());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("bind the socket");
        Self::of(socket, format!("@{name}").into(), dir)
    }

    fn of(socket: UnixDatagram, name: OsString, dir: TempDir) -> Self {
        set_socket_passcred(&socket, true).expect("ask for senders");
        Self { socket, name, _dir: dir }
    }

    /// A host that this one starts.
    fn runs(&self, builder: HostBuilder) -> Host {
        let name = self.name.to_str().expect("a name in UTF-8");
        let (socket, watchdog) =
            (format!("NOTIFY_SOCKET={name}"), format!("WATCHDOG_USEC={}", WATCHDOG.as_micros()));
        builder.run_by(&["env", &socket, &watchdog]).start()
    }

    /// The next report within `patience`, and its sender.
    fn hears(&self, patience: Duration) -> Result<(Option<Pid>, String)> {
        self.socket.set_read_timeout(Some(patience))?;
        let mut bytes = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut about = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(&self.socket, &mut slices, &mut about, RecvFlags::empty())?.bytes;
        let sender = about.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
            _ => None,
        });
        Ok((sender, String::from_utf8_lossy(&bytes[..length]).into_owned()))
    }

    /// Waits for a report that has this line, from the main process of the service. Returns all until then.
    #[track_caller]
    fn waits_for(&self, host: &Host, line: &str) -> Vec<String> {
        let main = Pid::from_raw(host.pid().cast_signed());
        let mut heard = Vec::new();
        loop {
            let (sender, report) = self.hears(PATIENCE).unwrap_or_else(|error| {
                panic!("no report had the line {line}: {error}; {heard:#?}")
            });
            assert_eq!(sender, main, "another process is not listened to: {report}");
            let is_it = report.lines().any(|said| said == line);
            heard.push(report);
            if is_it {
                return heard;
            }
        }
    }
}

/// The whole story of a service, whose main process is this one.
fn reports_each_stage(manager: &Manager, builder: HostBuilder) {
    let host = manager.runs(builder.guest("puppet"));
    let before = manager.waits_for(&host, "READY=1");
    assert!(before.iter().all(|report| !report.contains("STOPPING")), "{before:#?}");
    host.client().get("/readyz").expect(200);
    manager.waits_for(&host, "WATCHDOG=1");
    host.client().start("busy", "puppet");
    host.client().send("busy", "wait").expect(200);
    wait_until("it is at work", || host.client().status("busy").busy);
    host.signal(Signal::TERM);
    manager.waits_for(&host, "STOPPING=1");
    // A drain takes as long as it may.
    (0..3).for_each(|_| drop(manager.waits_for(&host, "EXTEND_TIMEOUT_USEC=40000000")));
    host.release("busy");
    host.ends_with(harness::host::CLEAN);
}

#[test]
fn a_host_without_an_init_process_reports_itself() {
    reports_each_stage(&Manager::with_path(), Host::builder());
    // Landlock keeps a host from such names that it does not have open.
    reports_each_stage(&Manager::with_abstract_name(), Host::builder());
}

#[test]
fn an_init_process_reports_for_its_supervisor() {
    reports_each_stage(&Manager::with_path(), Host::builder().supervise());
    reports_each_stage(&Manager::with_abstract_name(), Host::builder().supervise());
}

#[test]
fn it_is_not_ready_before_its_agents_are() {
    let manager = Manager::with_path();
    let builder = Host::builder()
        .guest("puppet")
        .agent("id = \"a\"\nrole = \"puppet\"\nprompt = \"\"")
        .supervise();
    let host = manager.runs(builder);
    let before = manager.waits_for(&host, "READY=1");
    assert!(before[0].contains("STATUS=booting"), "{before:#?}");
    assert_eq!(host.client().status("a").status, "running");
    host.finish();
}

#[test]
fn a_supervisor_that_hangs_loses_the_watchdog_and_one_that_goes_on_keeps_it() {
    let manager = Manager::with_path();
    let host = manager.runs(Host::builder().supervise());
    manager.waits_for(&host, "READY=1");
    (0..3).for_each(|_| drop(manager.waits_for(&host, "WATCHDOG=1")));
    kill_process(host.supervisor_pid(), Signal::STOP).expect("stop the supervisor");
    // What was on its way.
    let late = (0..3).find(|_| manager.hears(WATCHDOG).is_err());
    assert!(late.is_some(), "a process that is stopped says nothing");
    kill_process(host.supervisor_pid(), Signal::CONT).expect("let the supervisor go on");
    manager.waits_for(&host, "WATCHDOG=1");
    host.finish();
}

#[test]
fn a_supervisor_that_is_restarted_is_ready_again_and_the_service_stays_up() {
    let manager = Manager::with_path();
    let host = manager.runs(Host::builder().supervise());
    manager.waits_for(&host, "READY=1");
    let supervisor = host.supervisor_pid();
    kill_process(supervisor, Signal::KILL).expect("kill the supervisor");
    let between = manager.waits_for(&host, "READY=1");
    let said = between.join("\n");
    let died =
        format!("STATUS=the supervisor (process {supervisor}) died of signal 9; restart 1 of 5");
    assert!(said.contains(&died) && said.contains("STATUS=booting"), "{between:#?}");
    assert!(!said.contains("STOPPING"), "{between:#?}");
    wait_until("another one is there", || host.supervisor_pid() != supervisor);
    host.finish();
}

#[test]
fn a_socket_that_is_not_there_is_reported_and_keeps_no_host_from_running() {
    let manager = Manager::with_path();
    drop(std::fs::remove_file(&manager.name));
    let host = manager.runs(Host::builder().supervise()).ready();
    assert!(host.stderr().contains("NOTIFY_SOCKET is not used"), "{}", host.stderr());
    host.client().start_with("one", "echo", json!({})).expect(201);
    host.finish();
}
