//! What the machines share: a register of leases and a place for their states, as real servers.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bucket_server::{Faults, Server};
use harness::{json, launcher, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use super::network::ENGINE;

/// Which one has the leases. The state is in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    Bucket,
    Etcd,
    Nats,
}

/// The servers.
pub struct Engine {
    pub register: Register,
    bucket: Bucket,
    /// A directory, and the process while there is one.
    server: Option<(PathBuf, Option<Child>)>,
}

enum Bucket {
    Own(Server),
    /// Its objects are in its memory, so it is only stopped for a while.
    Moto(Child),
}

const BUCKET_PORT: u16 = 9000;
const ETCD_PORT: u16 = 2379;
const NATS_PORT: u16 = 4222;

impl Engine {
    /// Starts them in this namespace. `moto`: where Python finds it, instead of the bucket of the tests.
    pub fn start(register: Register, moto: Option<&str>, dir: &Path) -> Self {
        let at = format!("{ENGINE}:{BUCKET_PORT}").parse().expect("an address");
        let bucket = match moto {
            None => Bucket::Own(Server::start_at(at, true).expect("start the bucket")),
            Some(moto) => Bucket::Moto(start_moto(moto, at)),
        };
        let server = (register != Register::Bucket).then(|| (dir.join("register"), None));
        let mut engine = Self { register, bucket, server };
        engine.start_server();
        engine
    }

    /// The tables `[lease]` and `[ship]` of a machine, without what is its own.
    pub fn tables(&self) -> (String, String) {
        let bucket = format!(
            "endpoint = \"http://{ENGINE}:{BUCKET_PORT}\"\naccess_key_id = \"key\"\nsecret_access_key = \"hunter2\"\n"
        );
        let register = match self.register {
            Register::Bucket => format!("register = \"s3://towns/leases\"\n{bucket}"),
            Register::Etcd => format!("register = \"etcd://{ENGINE}:{ETCD_PORT}/leases\"\n"),
            Register::Nats => format!("register = \"nats://{ENGINE}:{NATS_PORT}/leases\"\n"),
        };
        (register, format!("to = \"s3://towns/state\"\n{bucket}"))
    }

    /// The place does not answer: its connections are closed, or it hangs.
    pub fn pause_bucket(&mut self) {
        match &mut self.bucket {
            Bucket::Own(server) => server.pause(),
            Bucket::Moto(child) => signal(child, Signal::STOP),
        }
    }

    pub fn resume_bucket(&mut self) {
        match &mut self.bucket {
            Bucket::Own(server) => server.resume().expect("serve again"),
            Bucket::Moto(child) => signal(child, Signal::CONT),
        }
    }

    /// One of so many of its requests and answers is lost from now on.
    pub fn lose(&self, one_of: u32, seed: u64) {
        if let Bucket::Own(server) = &self.bucket {
            server.set_faults(Faults { lost_requests: one_of, lost_answers: one_of }, seed);
        }
    }

    /// Freezes the register, or closes the bucket if that is it.
    pub fn freeze(&mut self) {
        match &self.server {
            Some((_, Some(child))) => signal(child, Signal::STOP),
            Some((_, None)) => {}
            None => self.pause_bucket(),
        }
    }

    pub fn thaw(&mut self) {
        match &self.server {
            Some((_, Some(child))) => signal(child, Signal::CONT),
            Some((_, None)) => {}
            None => self.resume_bucket(),
        }
    }

    /// Kills the register.
    pub fn kill(&mut self) {
        match &mut self.server {
            Some((_, child)) => {
                if let Some(mut child) = child.take() {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            None => self.pause_bucket(),
        }
    }

    pub fn revive(&mut self) {
        match &self.server {
            Some(_) => self.start_server(),
            None => self.resume_bucket(),
        }
    }

    fn start_server(&mut self) {
        let Some((dir, child @ None)) = &mut self.server else { return };
        let mut command = match self.register {
            Register::Nats => nats(dir),
            _ => etcd(dir),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *child = Some(launcher::spawn_bound(command).expect("start the register"));
    }

    fn port(&self) -> Option<u16> {
        match self.register {
            Register::Bucket => None,
            Register::Etcd => Some(ETCD_PORT),
            Register::Nats => Some(NATS_PORT),
        }
    }

    /// Waits until both take connections.
    pub fn wait_until_up(&self) {
        for port in [Some(BUCKET_PORT), self.port()].into_iter().flatten() {
            let at = format!("{ENGINE}:{port}").parse().expect("an address");
            wait_until("the engine is up", || takes_connections(at));
        }
        if self.register == Register::Nats {
            let at = format!("{ENGINE}:{NATS_PORT}");
            let made = || jetstream::make_bucket(&at, &json!({}), "leases", &json!({})).is_ok();
            wait_until("there is a bucket", made);
        }
    }
}

fn nats(dir: &Path) -> Command {
    let mut command = Command::new("nats-server");
    command.args(["--addr", ENGINE, "--port", &NATS_PORT.to_string()]);
    command.args(["--jetstream", "--store_dir"]).arg(dir);
    command
}

fn etcd(dir: &Path) -> Command {
    let (client, peer) = (format!("http://{ENGINE}:{ETCD_PORT}"), format!("http://{ENGINE}:2380"));
    let mut command = Command::new("etcd");
    command
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--data-dir"])
        .arg(dir)
        .env("ETCD_UNSUPPORTED_ARCH", "arm64");
    command
}

fn takes_connections(at: SocketAddr) -> bool {
    TcpStream::connect_timeout(&at, Duration::from_millis(200)).is_ok()
}

fn start_moto(moto: &str, at: SocketAddr) -> Child {
    let program =
        "import sys; from moto.server import main; main(['-H', sys.argv[1], '-p', sys.argv[2]])";
    let mut command = Command::new("python3");
    command.args(["-c", program, &at.ip().to_string(), &at.port().to_string()]);
    command.env("PYTHONPATH", moto).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = launcher::spawn_bound(command).expect("start moto");
    wait_until("moto is up", || takes_connections(at));
    let mut line = super::line::Line::open(at, super::PATIENT).expect("connect");
    let (status, _) = line.ask("PUT", "/towns", "").expect("make the bucket");
    assert_eq!(status, 200);
    child
}

fn signal(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
        if let Bucket::Moto(child) = &mut self.bucket {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
