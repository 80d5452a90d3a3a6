//! pm2 with its daemon, as its users run it: by its command. An agent is a process of node.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;
use serde_json::json;
use tempfile::TempDir;

use super::peer::{Endpoint, Kind, LIMIT_MIB, Peer};
use crate::warden;

pub struct Pm2 {
    program: PathBuf,
    agent: PathBuf,
    home: TempDir,
    /// Commands that may still run after their agent answered.
    commands: Vec<Child>,
}

impl Pm2 {
    pub fn begin(program: &Path, agent: &Path) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let pm2 = Self {
            program: program.to_owned(),
            agent: agent.to_owned(),
            home,
            commands: Vec::new(),
        };
        // Starts the daemon, which is there before the first agent is asked for.
        let status = pm2.command().arg("ping").status();
        assert!(status.expect("run pm2").success(), "pm2 has no daemon");
        pm2
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PM2_HOME", self.home.path()).env("PM2_DISABLE_VERSION_CHECK", "true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn daemon(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.home.path().join("pm2.pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    fn await_commands(&mut self) {
        for mut command in self.commands.drain(..) {
            let _ = command.wait();
        }
    }
}

impl Peer for Pm2 {
    fn name(&self) -> &'static str {
        "pm2"
    }

    fn start(&mut self, agent: usize, kind: Kind) -> Endpoint {
        let address = free_address();
        let mut command = self.command();
        command.arg("start").arg(&self.agent).args(["--name", &format!("a-{agent}")]);
        // Else it gives an agent up that crashes too often.
        command.args(["--max-restarts", "1000000"]);
        if kind == Kind::Hoarder {
            command.args(["--max-memory-restart", &format!("{LIMIT_MIB}M")]);
        }
        let child = command.env("PORT", address.port().to_string()).spawn().expect("run pm2");
        self.commands.push(child);
        Endpoint { address, path: "/message".into() }
    }

    /// By a file that lists them all.
    fn start_many(&mut self, agents: Range<usize>) -> Vec<Endpoint> {
        let addresses: Vec<_> = agents.clone().map(|_| free_address()).collect();
        let apps = agents.zip(&addresses).map(|(agent, address)| {
            json!({
                "name": format!("a-{agent}"),
                "script": self.agent,
                "env": { "PORT": address.port().to_string() },
            })
        });
        let file = self.home.path().join("agents.config.json");
        let apps = json!({ "apps": apps.collect::<Vec<_>>() });
        fs::write(&file, apps.to_string()).expect("write the list of agents");
        let status = self.command().arg("start").arg(&file).status().expect("run pm2");
        assert!(status.success(), "pm2 did not start the agents");
        let addresses = addresses.into_iter();
        addresses.map(|address| Endpoint { address, path: "/message".into() }).collect()
    }

    fn stop(&mut self, agent: usize) {
        self.await_commands();
        let _ = self.command().args(["delete", &format!("a-{agent}")]).status();
    }

    fn processes(&self) -> Vec<Pid> {
        self.daemon().map(warden::tree).unwrap_or_default()
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        self.await_commands();
        if let Some(daemon) = self.daemon() {
            warden::kill_tree(daemon);
        }
    }
}

/// A port that nobody has now. Somebody else could take it before the agent does; then the run fails.
pub fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a free port")
}
