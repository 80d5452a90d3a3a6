//! supervisord, as its users run it: programs in its configuration, started by `supervisorctl`. An agent is a
//! process of node.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::wait_until;
use rustix::process::Pid;
use tempfile::TempDir;

use super::peer::{Endpoint, Kind, Peer};
use super::pm2::free_address;
use crate::warden;

/// Programs in the configuration.
pub const PROGRAMS: usize = 100;

pub struct Supervisord {
    control: PathBuf,
    dir: TempDir,
    daemon: Child,
    addresses: Vec<SocketAddr>,
    /// Commands that may still run after their agent answered.
    commands: Vec<Child>,
}

impl Supervisord {
    pub fn begin(program: &Path, control: &Path, node: &Path, agent: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let addresses: Vec<_> = (0..PROGRAMS).map(|_| free_address()).collect();
        let file = dir.path().join("supervisord.conf");
        fs::write(&file, configuration(dir.path(), node, agent, &addresses)).expect("write it");
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = command.spawn().expect("start supervisord");
        let socket = dir.path().join("control");
        let control = control.to_owned();
        let supervisord = Self { control, dir, daemon, addresses, commands: Vec::new() };
        wait_until("supervisord listens", || socket.exists());
        supervisord
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.control);
        command.arg("-c").arg(self.dir.path().join("supervisord.conf")).arg(verb);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn await_commands(&mut self) {
        for mut command in self.commands.drain(..) {
            let _ = command.wait();
        }
    }

    fn endpoint(&self, agent: usize) -> Endpoint {
        Endpoint { address: self.addresses[agent], path: "/message".into() }
    }
}

/// `startsecs = 0`: whatever ends is started again at once. By default it would wait for seconds.
fn configuration(dir: &Path, node: &Path, agent: &Path, addresses: &[SocketAddr]) -> String {
    let (dir, node, agent) = (dir.display(), node.display(), agent.display());
    let mut text = format!(
        "[supervisord]\nnodaemon=true\nlogfile={dir}/log\npidfile={dir}/pid\nchildlogdir={dir}\n\
         [unix_http_server]\nfile={dir}/control\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
         [supervisorctl]\nserverurl=unix://{dir}/control\n"
    );
    for (agent_number, address) in addresses.iter().enumerate() {
        let port = address.port();
        let _ = write!(
            text,
            "[program:a-{agent_number}]\ncommand=\"{node}\" \"{agent}\"\n\
             environment=PORT=\"{port}\"\nautostart=false\nautorestart=true\nstartsecs=0\n"
        );
    }
    text
}

impl Peer for Supervisord {
    fn name(&self) -> &'static str {
        "supervisord"
    }

    fn start(&mut self, agent: usize, _kind: Kind) -> Endpoint {
        let child = self.command("start").arg(format!("a-{agent}")).spawn();
        self.commands.push(child.expect("run supervisorctl"));
        self.endpoint(agent)
    }

    fn start_many(&mut self, agents: Range<usize>) -> Vec<Endpoint> {
        let names = agents.clone().map(|agent| format!("a-{agent}"));
        let status = self.command("start").args(names).status().expect("run supervisorctl");
        assert!(status.success(), "supervisord did not start the agents");
        agents.map(|agent| self.endpoint(agent)).collect()
    }

    fn stop(&mut self, agent: usize) {
        self.await_commands();
        let _ = self.command("stop").arg(format!("a-{agent}")).status();
    }

    fn processes(&self) -> Vec<Pid> {
        warden::tree(Pid::from_child(&self.daemon))
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        self.await_commands();
        warden::kill_tree(Pid::from_child(&self.daemon));
        let _ = self.daemon.wait();
    }
}
