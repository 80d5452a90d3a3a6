//! The keeper: the process that holds the lease of the town, under the init process.
//!
//! ```text
//!   init ── the same program with a variable ─▶ keeper ── acquire, renew, release ─▶ register
//!     ▲ │                                        │ ▲
//!     │ └── the end of stdin: give it back ──────┼─┘
//!     └── stdout: a line of JSON a change ───────┘
//! ```
//!
//! While it waits it answers probes where the host will ([`Standby`]), so that an orchestrator lets it wait. The ports are free
//! again before init hears of the lease, and starts the supervisor that wants them.
//!
//! It is a process of its own because init has neither an async runtime nor TLS, and because a supervisor that hangs must
//! not lose its town a lease that init could have let it keep for its drain. What it says is all that init believes: without a
//! word from it the lease ends by init's own clock.

use std::io::{self, Read, Write};
use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_control::{Standby, Waiting};
use bulkhead_lease::{Ended, Identity, Lease, Lost, Status};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::sync::Notify;

use crate::cli::RunArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::init::{KEEPER, KeeperMessage, KeeperOrder};
use crate::lease_floor::LeaseFloor;
use crate::run::settings;
use crate::state_dir::foreign;

/// What init hands to this process, if it is a keeper. Binds its lifetime to that of its init process.
pub fn order() -> Result<Option<KeeperOrder>, Failure> {
    let Some(value) = std::env::var_os(KEEPER) else { return Ok(None) };
    let Some(order) = KeeperOrder::parse(&value.to_string_lossy()) else {
        let message = format!("{KEEPER} is not what an init process sets; unset it");
        return Err(Failure::bad_input(message));
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| {
        Failure::cannot_run("cannot tie the keeper to its init process", &error)
    })?;
    // It may have ended before it was asked for its end.
    let init = order.init_pid;
    if parent_id() != init {
        let message = format!("the init process {init} is gone, or {KEEPER} is not for this one");
        return Err(Failure::new(Exit::CannotRun, message));
    }
    let _ = rustix::thread::set_name(c"bulkhead-keeper");
    Ok(Some(order))
}

/// Holds the lease until stdin is at its end.
pub fn run(args: &RunArgs, order: KeeperOrder) -> Result<ExitCode, Failure> {
    let refused = |why: String| {
        tell(&KeeperMessage::Refused { why });
        Ok(Exit::CannotRun.into())
    };
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(failure) => return refused(failure.to_string()),
    };
    let Some(lease) = settings.lease else {
        return refused("the configuration has no [lease] any more".into());
    };
    // Before the epoch is kept there, and before another copy waits for one that cannot run.
    if let Err(why) = foreign::refuse(&settings.state_dir) {
        return refused(why);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_run("cannot hold the lease", &error))?;
    let me = Identity { holder: own_name().into(), endpoint: lease.advertise.as_str().into() };
    let (ask, asked) = tokio::sync::oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("bulkhead-stdin".into())
        .spawn(move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            drop(ask);
        })
        .map_err(|error| Failure::cannot_run("cannot hold the lease", &error))?;
    let town = lease.settings.town.as_str().to_owned();
    let kept = LeaseFloor { dir: settings.state_dir.clone(), town };
    let standby = Standby::new(&settings.control, order.permit_until);
    let held = runtime.block_on(async {
        let mut it = Lease::open(&lease.settings, me, order.floor.max(kept.read()))?;
        it.yields(order.yields);
        let release = async move { drop(asked.await) };
        // An init process that hears nothing for a TTL has no supervisor any more, which ends itself at its fence. Another copy
        // may have one, when all that init was told and has not heard yet is over: so nothing is given back.
        let (deaf, patience) = (Notify::new(), lease.settings.ttl.get());
        let mut listener = Listener::default();
        let mut keeping = Keeping { floor: kept, newest: 0 };
        let notify = |status: &Status| {
            probed(&standby, status);
            keeping.hears(status);
            match listener.hears(patience) {
                true => tell(&message_of(status)),
                false => deaf.notify_one(),
            }
        };
        tokio::select! {
            held = it.hold(notify, release) => held,
            () = deaf.notified() => Ok(Ended::Abandoned),
            never = standby.serve(|why| tell(&KeeperMessage::Unheard { why })) => match never {},
        }
    });
    // A call that hangs on a disk keeps nobody here.
    runtime.shutdown_background();
    match held {
        Ok(Ended::Released | Ended::Abandoned | Ended::Lost(_)) => Ok(ExitCode::SUCCESS),
        Err(error) => refused(format!("{}: {error}", lease.settings.register)),
    }
}

/// Has the disk know of each epoch.
struct Keeping {
    floor: LeaseFloor,
    newest: u64,
}

impl Keeping {
    /// A disk that hangs holds up nobody here.
    fn hears(&mut self, status: &Status) {
        let Status::Held(permit) = status else { return };
        if permit.epoch <= self.newest {
            return;
        }
        self.newest = permit.epoch;
        let (floor, epoch) = (self.floor.clone(), permit.epoch);
        let spawned = std::thread::Builder::new().name("bulkhead-floor".into()).spawn(move || {
            if let Err(error) = floor.raise(epoch) {
                let dir = floor.dir.display();
                eprintln!("bulkhead: the epoch {epoch} of the lease is not kept in {dir}: {error}");
            }
        });
        if let Err(error) = spawned {
            eprintln!("bulkhead: the epoch {epoch} of the lease is not kept: {error}");
        }
    }
}

/// What probes hear. Nothing where there is nothing to wait for: the first copy begins at once.
fn probed(standby: &Standby, status: &Status) {
    match status {
        Status::Waiting { holder, free_at, failing } => {
            if free_at.is_none() && failing.is_none() {
                return;
            }
            let epoch = holder.as_ref().map_or(0, |holder| holder.epoch);
            let holder = holder.as_ref().filter(|holder| !holder.released);
            standby.wait(Waiting {
                holder: holder.map(|holder| holder.name.to_string()),
                endpoint: holder.map(|holder| holder.endpoint.to_string()).unwrap_or_default(),
                epoch,
                takeover_at: free_at.map(|moment| moment.0),
                is_failing: failing.is_some(),
            });
        }
        Status::Held(_) | Status::Lost { .. } => standby.close(),
    }
}

fn message_of(status: &Status) -> KeeperMessage {
    match status {
        Status::Waiting { holder, failing, free_at: _ } => {
            let epoch = holder.as_ref().map_or(0, |holder| holder.epoch);
            let holder = holder.as_ref().filter(|holder| !holder.released).map(|holder| {
                let at = match &*holder.endpoint {
                    "" => String::new(),
                    endpoint => format!(" at {endpoint}"),
                };
                format!("{}{at} holds it (epoch {})", holder.name, holder.epoch)
            });
            KeeperMessage::Waiting { holder, epoch, failing: failing.clone() }
        }
        Status::Held(permit) => {
            KeeperMessage::Held { epoch: permit.epoch, fence_at: permit.fence_at.0 }
        }
        Status::Lost { why, failing } => KeeperMessage::Lost {
            why: match why {
                Lost::Expired => match failing {
                    Some(failing) => format!("it was not renewed in time: {failing}"),
                    None => "it was not renewed in time".into(),
                },
                Lost::Taken { holder, epoch } => format!("{holder} holds it (epoch {epoch})"),
                Lost::Forgotten => "the register has it no more".into(),
            },
        },
    }
}

/// An init process that is gone takes this one with it.
fn tell(message: &KeeperMessage) {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    let _ = io::stdout().write_all(&line);
}

/// Whether init still takes what it is told.
#[derive(Default)]
struct Listener {
    unread_since: Option<Instant>,
}

impl Listener {
    fn hears(&mut self, patience: Duration) -> bool {
        if rustix::io::ioctl_fionread(io::stdout()).is_ok_and(|unread| unread > 0) {
            return self.unread_since.get_or_insert_with(Instant::now).elapsed() < patience;
        }
        self.unread_since = None;
        true
    }
}

/// How people know this process: its machine, and which process there.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "unknown",
        host => host,
    };
    format!("{host}/{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bulkhead_lease::{Boottime, Holder, Permit};

    use super::*;

    #[test]
    fn a_status_is_one_line() {
        let holder = |released| Holder {
            name: Arc::from("host-a/7"),
            endpoint: Arc::from("https://a.example"),
            epoch: 3,
            released,
        };
        let permit = Permit { epoch: 4, fence_at: Boottime(70), until: Boottime(100) };
        let waiting = |holder| Status::Waiting { holder, free_at: None, failing: None };
        for (status, line) in [
            (
                waiting(Some(holder(false))),
                r#"{"waiting":{"holder":"host-a/7 at https://a.example holds it (epoch 3)","epoch":3,"failing":null}}"#,
            ),
            (
                waiting(Some(holder(true))),
                r#"{"waiting":{"holder":null,"epoch":3,"failing":null}}"#,
            ),
            (Status::Held(permit), r#"{"held":{"epoch":4,"fenceAt":70}}"#),
            (
                Status::Lost { why: Lost::Expired, failing: Some("disk full".into()) },
                r#"{"lost":{"why":"it was not renewed in time: disk full"}}"#,
            ),
        ] {
            let message = message_of(&status);
            assert_eq!(serde_json::to_string(&message).unwrap(), line);
            assert_eq!(serde_json::from_str::<KeeperMessage>(line).unwrap(), message);
        }
    }
}
