//! Bulkhead itself, over HTTP like the others.

use harness::Host;
use rustix::process::{Pid, Signal};

use super::peer::{Endpoint, Faults, Kind, LIMIT_MIB, Peer};
use crate::connection::Connection;

pub struct Ours {
    host: Host,
    http: Connection,
    /// A client that makes an agent crash starts it again, so that no backoff is in the time that takes.
    by_caller: bool,
}

impl Ours {
    pub fn begin() -> Self {
        let hoarder = format!("memory_limit_mb = {LIMIT_MIB}\nworkspace = false");
        // As soon as it can be: a backoff of 1 ms is the shortest, and it is drawn from 0 to 1 ms.
        let crasher = "workspace = false\nrestart = \"transient\"\nrestart_backoff_ms = 1\n\
                       restart_backoff_max_ms = 1\nrestart_max = 100\nrestart_window_ms = 1";
        let host = Host::builder()
            .open()
            .toml("[limits]\nmax_agents = 1200\n[log]\nlevel = \"info\"")
            .guest("puppet")
            .guest("oom")
            .guest("spin")
            .role("echo", "echo", "memory_limit_mb = 16\nworkspace = false")
            .role("crasher", "puppet", crasher)
            .role("faller", "puppet", "workspace = false")
            .role("spinner", "spin", "workspace = false\ncpu_ms = 600000\nwall_ms = 600000")
            .role("hoarder", "oom", &hoarder)
            .terse()
            .start()
            .ready();
        let http = Connection::open(host.address());
        let mut ours = Self { host, http, by_caller: false };
        // Compiles each component: that is done once for all agents of it.
        for kind in [Kind::Echo, Kind::Crasher, Kind::Spinner, Kind::Hoarder] {
            ours.start(0, kind);
            ours.stop(0);
        }
        ours
    }

    /// Its agents are not restarted automatically.
    pub fn started_again(mut self) -> Self {
        self.by_caller = true;
        self
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Ends it as a user would.
    pub fn end(self) {
        self.host.signal(Signal::TERM);
    }

    fn role(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Echo => "echo",
            Kind::Crasher if self.by_caller => "faller",
            Kind::Crasher => "crasher",
            Kind::Spinner => "spinner",
            Kind::Hoarder => "hoarder",
        }
    }
}

impl Peer for Ours {
    fn name(&self) -> &'static str {
        if self.by_caller { "bulkhead, started again by its caller" } else { "bulkhead" }
    }

    fn start(&mut self, agent: usize, kind: Kind) -> Endpoint {
        let role = self.role(kind);
        let body = format!("{{\"agentId\":\"a-{agent}\",\"role\":\"{role}\"}}");
        self.http.timed("POST", "/agents/start", &body, 201);
        let path = format!("/agents/a-{agent}/message?wait=60000");
        Endpoint { address: self.host.address(), path }
    }

    fn stop(&mut self, agent: usize) {
        // One that spins is stopped when its grace is over; one that ended is not there any more.
        let path = format!("/agents/a-{agent}/stop");
        let _ = self.http.ask("POST", &path, "").expect("an answer");
    }

    fn revive(&mut self, agent: usize, endpoint: Endpoint) -> Endpoint {
        if self.by_caller { self.start(agent, Kind::Crasher) } else { endpoint }
    }

    fn processes(&self) -> Vec<Pid> {
        Pid::from_raw(self.host.pid() as i32).into_iter().collect()
    }

    fn faults(&self) -> Faults {
        Faults {
            panic: r#"{"prompt":"panic"}"#,
            spin: r#"{"prompt":"spin"}"#,
            hoard: r#"{"prompt":"oom"}"#,
        }
    }
}
