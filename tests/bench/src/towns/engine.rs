//! The servers that have the leases, and what they say of themselves.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bucket_server::{Method, Server};
use bulkhead_lease::Address;
use bulkhead_types::Secret;
use harness::{Value, json, launcher};

use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(20);

/// One of the servers.
pub enum Engine {
    Etcd(Etcd),
    Nats(Nats),
    Bucket(Server),
}

pub struct Etcd {
    dir: tempfile::TempDir,
    at: SocketAddr,
    child: Child,
}

pub struct Nats {
    dir: tempfile::TempDir,
    server: jetstream::Real,
    monitor: SocketAddr,
    sync: Sync,
}

/// When a server has what it acknowledged on its disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// As it is by default: within two minutes.
    Later,
    /// Before it acknowledges. Version 2.10 and later.
    Always,
}

/// Requests since it began, as the server counts them, and what it keeps.
#[derive(Clone, Copy, Default)]
pub struct Served {
    pub writes: u64,
    pub reads: u64,
    /// In its files, or in memory where that is all there is.
    pub kept_bytes: u64,
}

impl Engine {
    /// `None`: the program is not installed.
    pub fn etcd() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let (at, peer) = (free(), free());
        let (client, peer) = (format!("http://{at}"), format!("http://{peer}"));
        let mut command = Command::new("etcd");
        command
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--data-dir"])
            .arg(dir.path())
            .env("ETCD_UNSUPPORTED_ARCH", "arm64")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn(command)?;
        until("etcd is up", || get(at, "/health").is_ok_and(|health| health.contains("\"true\"")));
        Some(Self::Etcd(Etcd { dir, at, child }))
    }

    /// The same, and `None` if it does not know that setting. Its bucket is as `nats kv add` makes it, with one replica.
    pub fn nats(sync: Sync) -> Option<Self> {
        let program = nats_server()?;
        let dir = tempfile::tempdir().expect("a directory");
        let monitor = free();
        let mut config = format!("http: \"{monitor}\"");
        if sync == Sync::Always {
            // The last block counts.
            let store = dir.path().join("data");
            config += &format!("\njetstream {{ store_dir: {store:?}, sync_interval: always }}");
            let tried = dir.path().join("tried.conf");
            fs::write(&tried, &config).expect("write a configuration");
            let mut command = Command::new(&program);
            let ended = command.arg("-t").arg("-c").arg(&tried).stderr(Stdio::null()).status();
            ended.ok().filter(std::process::ExitStatus::success)?;
        }
        let server = jetstream::Real::start(&program, dir.path(), &config).expect("start NATS");
        let made = || jetstream::make_bucket(&server.at(), &json!({}), "towns", &json!({}));
        until("there is a bucket", || made().is_ok());
        Some(Self::Nats(Nats { dir, server, monitor, sync }))
    }

    /// The bucket of the tests, in this process.
    pub fn bucket() -> Self {
        Self::Bucket(Server::start(true).expect("start the bucket"))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Nats(Nats { sync: Sync::Later, .. }) => "NATS",
            Self::Nats(Nats { sync: Sync::Always, .. }) => "NATS, each write synced",
            Self::Bucket(_) => "S3",
        }
    }

    pub fn at(&self) -> SocketAddr {
        match self {
            Self::Etcd(etcd) => etcd.at,
            Self::Nats(nats) => nats.server.at().parse().expect("its address"),
            Self::Bucket(server) => {
                server.url().trim_start_matches("http://").parse().expect("its address")
            }
        }
    }

    /// The register, which is reached at another address.
    pub fn register(&self, at: SocketAddr) -> Address {
        let text = match self {
            Self::Etcd(_) => format!("etcd://{at}/towns"),
            Self::Nats(_) => format!("nats://{at}/towns"),
            Self::Bucket(_) => "s3://towns/leases".to_owned(),
        };
        let mut address = Address::parse(&text).expect("an address");
        if let Address::S3(s3) = &mut address {
            s3.options = [
                ("AWS_ENDPOINT_URL", format!("http://{at}")),
                ("AWS_REGION", "us-east-1".into()),
                ("AWS_ACCESS_KEY_ID", "key".into()),
                ("AWS_SECRET_ACCESS_KEY", "hunter2".into()),
            ]
            .map(|(name, value)| (name, Secret::from(value)))
            .into();
        }
        address
    }

    /// The process, where it is one that people run.
    pub fn process(&self) -> Option<Process> {
        match self {
            Self::Etcd(etcd) => Some(Process::of(etcd.child.id())),
            Self::Nats(nats) => nats.server.pid().map(Process::of),
            Self::Bucket(_) => None,
        }
    }

    pub fn served(&self) -> Served {
        match self {
            Self::Etcd(etcd) => etcd.served(),
            Self::Nats(nats) => nats.served(),
            Self::Bucket(server) => {
                let requests = |method| server.traffic(&method, "/towns/leases").requests;
                let kept_bytes = 0;
                Served { writes: requests(Method::PUT), reads: requests(Method::GET), kept_bytes }
            }
        }
    }
}

impl Etcd {
    fn served(&self) -> Served {
        let metrics = get(self.at, "/metrics").expect("the metrics of etcd");
        let sum = |name: &str, of: &str| {
            let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(of));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum::<f64>() as u64
        };
        Served {
            writes: sum("grpc_server_handled_total", "grpc_method=\"Txn\""),
            reads: sum("grpc_server_handled_total", "grpc_method=\"Range\""),
            kept_bytes: sum("etcd_mvcc_db_total_size_in_bytes", ""),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(self.dir.path());
    }
}

impl Nats {
    fn served(&self) -> Served {
        let ask = |path| -> Value {
            let body = get(self.monitor, path).expect("what the monitor of NATS says");
            serde_json::from_str(&body).expect("JSON")
        };
        let jetstream = ask("/jsz?streams=true&acc=$G");
        let stream = &jetstream["account_details"][0]["stream_detail"][0]["state"];
        let number = |value: &Value| value.as_u64().expect("a number");
        let writes = number(&stream["last_seq"]);
        // Every other message of a client is a question of what a key has, once all of them have begun.
        let reads = number(&ask("/varz")["in_msgs"]).saturating_sub(writes);
        Served { writes, reads, kept_bytes: directory_bytes(self.dir.path()) }
    }
}

fn directory_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// `NATS_SERVER`, as for the tests, or where packages put it.
fn nats_server() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return Some(named.into());
    }
    let known = ["/usr/sbin/nats-server", "/usr/local/bin/nats-server", "/usr/bin/nats-server"];
    known.map(PathBuf::from).into_iter().find(|path| path.exists())
}

/// `None`: there is no such program.
fn spawn(command: Command) -> Option<Child> {
    match launcher::spawn_bound(command) {
        Ok(child) => Some(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("start an engine: {error}"),
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(20));
    }
}

/// HTTP/1.0, which has no chunks.
fn get(at: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
