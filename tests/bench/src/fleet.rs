//! What a lease and shipping cost, and how quickly a town is on another machine: two copies and a bucket on this one.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bucket_server::{Method, Server, Traffic};
use harness::processes::children;
use harness::{Value, files, json};
use rustix::process::{Pid, Signal, kill_process};

use crate::connection::Connection;
use crate::process::Process;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// Agents of a town that moves.
const AGENTS: usize = 100;

/// Moves, and losses of a machine, and restores.
const MOVES: usize = 10;
const LOSSES: usize = 5;
const RESTORES: usize = 3;

/// Agents of a town that is restored.
const MANY: usize = 1000;

/// Of a town whose machine is lost, and of one that is idle, which is the default.
const SHORT_TTL: Duration = Duration::from_secs(2);
pub const TTL: Duration = Duration::from_secs(10);

/// Between two looks at what is waited for, and for how long.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// A register and a place, and the disks of machines.
pub struct Fleet {
    dir: tempfile::TempDir,
    server: Server,
    ttl: Duration,
    machines: usize,
}

/// A copy of the town.
pub struct Copy {
    init: Child,
    pub address: SocketAddr,
    disk: PathBuf,
}

pub fn measure(rounds: usize, idle: Duration, report: &mut Report) {
    moves(report);
    losses(report);
    restores(report);
    starts(rounds, report);
    idle_town(idle, report);
}

fn moves(report: &mut Report) {
    let mut fleet = Fleet::new(TTL);
    let mut holder = fleet.copy();
    holder.serves();
    holder.fill(AGENTS, "node");
    let mut moves = Samples::new();
    for _ in 0..MOVES {
        let next = fleet.copy();
        next.waits();
        let began = Instant::now();
        holder.signal(Signal::TERM);
        next.has(AGENTS);
        moves.add(began.elapsed());
        holder = next;
    }
    let name = "a town with 100 agents moves: SIGTERM until all run elsewhere";
    report.add(Row::alone(name, &moves, Duration::from_millis(500)));
}

fn losses(report: &mut Report) {
    let mut fleet = Fleet::new(SHORT_TTL);
    let mut holder = fleet.copy();
    holder.serves();
    // Others may be lost with the machine.
    holder.fill(AGENTS, "fleet");
    let mut losses = Samples::new();
    for _ in 0..LOSSES {
        let next = fleet.copy();
        next.waits();
        let began = Instant::now();
        holder.lose();
        next.has(AGENTS);
        losses.add(began.elapsed());
        holder = next;
    }
    let name = "a machine is lost with its disk, TTL 2 s, until all 100 agents run elsewhere";
    report.add(Row::alone(name, &losses, SHORT_TTL + Duration::from_secs(1)));
}

/// Nobody holds the lease, and the disk is empty.
fn restores(report: &mut Report) {
    let mut fleet = Fleet::new(TTL);
    let mut holder = fleet.copy();
    holder.serves();
    holder.fill(MANY, "node");
    let mut restores = Samples::new();
    for _ in 0..RESTORES {
        holder.signal(Signal::TERM);
        holder.init.wait().expect("its end");
        let began = Instant::now();
        holder = fleet.copy();
        holder.has(MANY);
        restores.add(began.elapsed());
    }
    let name = "a machine takes over 1,000 agents: start of its process until all run";
    report.add(Row::alone(name, &restores, Duration::from_secs(2)));
}

/// Starts that the database has, those that are shipped, and the exchange with the bucket that is between them, in turn.
fn starts(rounds: usize, report: &mut Report) {
    let mut fleet = Fleet::new(TTL);
    let copy = fleet.copy();
    copy.serves();
    let mut http = Connection::open(copy.address);
    let at = fleet.server.url();
    let at = at.trim_start_matches("http://").parse().expect("its address");
    let mut bucket = Connection::open(at);
    let [mut node, mut shipped, mut exchange] = [Samples::new(), Samples::new(), Samples::new()];
    let body = "x".repeat(4096);
    for round in 0..rounds {
        for (role, samples) in [("node", &mut node), ("fleet", &mut shipped)] {
            let start = json!({ "agentId": role, "role": role }).to_string();
            samples.add(http.timed("POST", "/agents/start", &start, 201));
            http.timed("POST", &format!("/agents/{role}/stop"), "", 200);
        }
        let path = format!("/towns/exchange-{round}");
        exchange.add(bucket.timed("PUT", &path, &body, 200));
    }
    let base = node.percentile(50) + exchange.percentile(50);
    report.add(Row::plain("a start that this machine's database has", &node));
    report.add(Row::plain("one exchange with the bucket, 4 KiB", &exchange));
    let name = "a start that is shipped when answered, against both";
    report.add(Row::latency(name, &shipped, base, base + Duration::from_millis(1)));
}

/// A town in which nothing happens.
fn idle_town(idle: Duration, report: &mut Report) {
    let mut fleet = Fleet::new(TTL);
    let copy = fleet.copy();
    copy.serves();
    copy.fill(10, "node");
    sleep(Duration::from_secs(2));
    let (cpu, bytes) = (copy.cpu(), loopback_bytes());
    sleep(idle);
    let (cpu, bytes) = (copy.cpu() - cpu, loopback_bytes() - bytes);
    let percent = cpu.as_secs_f64() / idle.as_secs_f64() * 100.0;
    report.add(Row::percent("an idle town with a lease, shipped: CPU of one core", percent, 1.0));
    let each = bytes / idle.as_secs().max(1);
    let name = "the same: bytes a second on the loopback interface, with all headers";
    report.add(Row::bytes(name, each, 1024));
}

impl Fleet {
    pub fn new(ttl: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(true).expect("start the bucket");
        Self { dir, server, ttl, machines: 0 }
    }

    /// A copy with a disk of its own.
    pub fn copy(&mut self) -> Copy {
        self.machines += 1;
        let disk = self.dir.path().join(format!("machine-{}", self.machines));
        fs::create_dir(&disk).expect("make its directory");
        let config = disk.join("bulkhead.toml");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        fs::write(&config, self.config(address, &disk)).expect("write its configuration");
        let mut command = harness::host::command(&config, &disk);
        let init = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Copy { init: init.expect("start a copy"), address, disk }
    }

    /// Of the bucket.
    pub fn traffic(&self, method: &Method, below: &str) -> Traffic {
        self.server.traffic(method, below)
    }

    fn config(&self, address: SocketAddr, disk: &Path) -> String {
        let bucket = format!(
            "endpoint = \"{}\"\naccess_key_id = \"key\"\nsecret_access_key = \"hunter2\"",
            self.server.url()
        );
        let (state, echo) = (disk.join("state"), files::component("echo"));
        let role = |name: &str| {
            format!(
                "[roles.{name}]\ncomponent = \"echo\"\nworkspace = false\ndurable = \"{name}\"\n"
            )
        };
        format!(
            "[server]\nlisten = \"{address}\"\nallow_unauthenticated = true\n[log]\nlevel = \"error\"\n[state]\ndir = {state:?}\n\
             [limits]\nmax_agents = {}\n[lease]\nregister = \"s3://towns/leases\"\nname = \"town\"\nttl_ms = {}\n{bucket}\n\
             [ship]\nto = \"s3://towns/state\"\n{bucket}\n[components.echo]\npath = {echo:?}\n{}{}",
            2 * MANY,
            self.ttl.as_millis(),
            role("node"),
            role("fleet"),
        )
    }
}

impl Copy {
    fn ask(&self, path: &str) -> Option<(u16, Value)> {
        let mut http = Connection::try_open(self.address).ok()?;
        let (status, _) = http.ask("GET", path, "").ok()?;
        Some((status, serde_json::from_str(http.body()).unwrap_or_default()))
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "{what}: {}", self.disk.display());
            sleep(PAUSE);
        }
    }

    pub fn serves(&self) {
        self.until("it serves", || self.ask("/readyz").is_some_and(|(status, _)| status == 200));
    }

    fn waits(&self) {
        self.until("it waits", || {
            self.ask("/readyz").is_some_and(|(_, body)| body["error_type"] == "standby")
        });
    }

    /// All of them run.
    fn has(&self, agents: usize) {
        self.serves();
        self.until("all agents run", || {
            let listed = self.ask("/agents");
            let number = |body: &Value| {
                body.as_array().map_or(0, |agents| {
                    agents.iter().filter(|agent| agent["status"] == "running").count()
                })
            };
            listed.is_some_and(|(_, body)| number(&body) == agents)
        });
    }

    pub fn fill(&self, agents: usize, role: &str) {
        let mut http = Connection::open(self.address);
        for n in 0..agents {
            let start = json!({ "agentId": format!("a-{n}"), "role": role }).to_string();
            http.timed("POST", "/agents/start", &start, 201);
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.init)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signal a copy");
    }

    /// All of its processes and its disk are gone at once.
    fn lose(&self) {
        // Init first: it starts what is gone again.
        let mut all = vec![self.pid()];
        all.extend(children(self.pid()));
        for process in all {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.disk);
    }

    /// Of init and its children: the keeper, the supervisor.
    fn cpu(&self) -> Duration {
        let mut all = children(self.pid());
        all.push(self.pid());
        let pid = |pid: Pid| u32::try_from(pid.as_raw_nonzero().get()).expect("a process");
        all.into_iter().map(|one| Process::of(pid(one)).cpu()).sum()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

fn loopback_bytes() -> u64 {
    let table = fs::read_to_string("/proc/net/dev").expect("the interfaces");
    let lo = table.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    lo.and_then(|lo| lo.split_whitespace().next()?.parse().ok()).expect("bytes of lo")
}
