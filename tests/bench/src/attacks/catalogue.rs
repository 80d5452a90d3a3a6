//! The attacks.

use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread::{Scope, sleep};
use std::time::Duration;

use harness::Host;
use tempfile::TempDir;

use super::{again, bombs, endpoint};
use crate::connection::Connection;

/// One way to be a bad neighbour.
pub struct Attack {
    pub name: &'static str,
    means: Means,
}

enum Means {
    /// Threads outside of the host keep all cores busy: what a busy machine does to a host that nobody attacks.
    Load,
    /// A thread outside of the host writes to the disk: what the disk of this machine does to a host that nobody attacks.
    Writes,
    /// So many agents of a role get a message again and again, `{endpoint}` and `{n}` in it replaced.
    Agents(usize, &'static str, &'static str),
    /// Clients that hold so many connections and say nothing.
    Connections(usize),
    /// Starts of agents whose component has to be compiled.
    Compiles,
    /// So many clients start one agent, each with another prompt each time.
    Starts(usize),
    /// So many clients send this, one byte each 50 ms.
    Drips(usize, &'static str),
    /// So many clients ask for all of this again and again.
    Reads(usize, &'static str),
}

use Means::{Agents, Compiles, Connections, Drips, Load, Reads, Starts, Writes};

const fn attack(name: &'static str, means: Means) -> Attack {
    Attack { name, means }
}

pub const ATTACKS: [Attack; 41] = [
    attack("nobody: what the machine does by itself", Agents(0, "", "")),
    attack("nobody, and other programs keep all cores busy", Load),
    attack("nobody, and another program writes to the disk", Writes),
    attack("4 that spin", Agents(4, "spin", "spin 10000")),
    attack("20 that spin", Agents(20, "spin", "spin 10000")),
    attack("20 that spin for 2.5 ms and nap", Agents(20, "spin", "nap 10000 2500")),
    attack("20 that spin for 0.9 ms and nap", Agents(20, "spin", "nap 10000 900")),
    attack("20 that nap", Agents(20, "spin", "nap 10000 0")),
    attack("polls of 250,000 handles, 4 of them", Agents(4, "spin", "poll 250000")),
    attack("memory.fill of 800 MiB, 2 of them", Agents(2, "filler", "fill 800 20")),
    attack("megabytes of newlines, 4 of them", Agents(4, "spin", "blank 4000000")),
    attack("continue without end, 20 of them", Agents(20, "spin", "turns")),
    attack("mail to itself without end, 20 of them", Agents(20, "puppet", "forever x")),
    attack("mail to one, 10 of them", Agents(10, "hog", "mail sink 100000 1000")),
    attack("crashes of 20 that come back", Agents(20, "looper", "forever panic")),
    attack("100 Continue without end, 4 that ask", Agents(4, "hog", "peek 8 {endpoint} /interim")),
    attack("103 Early Hints without end, 4 that ask", Agents(4, "hog", "peek 8 {endpoint} /hints")),
    attack("a head without end, 4 that ask", Agents(4, "hog", "peek 8 {endpoint} /head")),
    attack(
        "responses that are broken, 4 that ask",
        Agents(4, "hog", "peek 100 {endpoint} /broken"),
    ),
    attack("a body without end, 4 that read", Agents(4, "hog", "fetch 8 {endpoint} /body")),
    attack(
        "a chunk extension without end, 4 that read",
        Agents(4, "hog", "fetch 8 {endpoint} /extension"),
    ),
    attack("trailers without end, 4 that read", Agents(4, "hog", "fetch 8 {endpoint} /trailers")),
    attack("names that are not there, 4 that ask", Agents(4, "hog", "requests 12 a{n}.invalid")),
    attack("open files, 4 that keep 200", Agents(4, "hog", "files 200")),
    attack("files written and read, 8 of them", Agents(8, "hog", "streams 64")),
    attack("a full disk, 4 that write on", Agents(4, "hog", "fill 1024 200")),
    attack("log lines, 4 that flood", Agents(4, "log-flood", "flood 20000")),
    attack("log lines as long as allowed, 4 that flood", Agents(4, "log-flood", "fat 1000")),
    attack("events, 4 that flood", Agents(4, "log-flood", "events 100000")),
    attack("names that explode, 4 that trap", Agents(4, "names", "")),
    attack("components that compile slowly", Compiles),
    attack("400 connections that say nothing", Connections(400)),
    attack("400 heads that come slowly", Drips(400, "GET /agents HTTP/1.1\r\nhost: localhost\r\n")),
    attack(
        "400 bodies that come slowly",
        Drips(
            400,
            "POST /agents/start HTTP/1.1\r\nhost: localhost\r\n\
        content-type: application/json\r\ncontent-length: 1000000\r\n\r\n",
        ),
    ),
    attack("16 clients that read all agents", Reads(16, "/agents")),
    attack("16 clients that start one agent", Starts(16)),
    attack("tools that fork without end, 4 of them", Agents(4, "toolbox", "sh -c f()(f|f&);f")),
    attack("tools that take memory, 4 of them", Agents(4, "toolbox", "tail /dev/zero")),
    attack("tools that spin, 4 of them", Agents(4, "toolbox", "sha256sum /dev/zero")),
    attack("tools that flood, 4 of them", Agents(4, "toolbox", "yes")),
    attack("tools one after the other, 4 of them", Agents(4, "toolbox", "true")),
];

/// A message that does not end is given up by its sender after so long.
const WAIT_MS: u32 = 500;

/// Written and synced at a time, about what agents write that fill their workspaces.
const WRITTEN_BYTES: usize = 16 * 1024 * 1024;

/// The host, and what attackers bring.
pub struct Ground {
    host: Host,
    dir: TempDir,
    endpoint: SocketAddr,
}

impl Ground {
    pub fn prepare() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let endpoint = endpoint::serve();
        bombs::slow_to_compile(&dir.path().join("bomb.wasm"), 0);
        bombs::name_that_explodes(&dir.path().join("names.wasm"));
        let crasher = "workspace = false\nrestart = \"transient\"\nrestart_backoff_ms = 1\n\
                       restart_backoff_max_ms = 1\nrestart_max = 100\nrestart_window_ms = 1\nmax_attempts = 1";
        let hog = format!(
            "memory_limit_mb = 128\non_memory_limit = \"deny\"\nhttp_allow = [\"*.invalid\", \"{endpoint}\"]"
        );
        let tools = "tools = [\"sh\", \"tail\", \"sha256sum\", \"yes\", \"true\"]\ntool_memory_mb = 128\n\
                     tool_wall_ms = 2000\ntool_pids = 64";
        let roles = [
            ("spin", "spin", "cpu_ms = 600000"),
            ("filler", "spin", "memory_limit_mb = 1024\ncpu_ms = 600000"),
            ("puppet", "puppet", "workspace = false"),
            ("looper", "puppet", crasher),
            ("hog", "hog", &hog),
            ("log-flood", "log-flood", ""),
            ("names", "names", ""),
            ("bomb", "bomb", ""),
            ("toolbox", "toolbox", tools),
        ];
        let guests = ["spin", "puppet", "hog", "log-flood", "toolbox"].iter();
        let builder = guests.fold(Host::builder(), |builder, guest| builder.guest(guest));
        // Nobody waits for an attacker to end.
        let host = roles
            .iter()
            .fold(builder, |builder, (role, component, settings)| {
                builder.role(role, component, &format!("shutdown_ms = 50\n{settings}"))
            })
            .open()
            .toml("[limits]\nmax_agents = 200\n[log]\nlevel = \"info\"")
            .component("bomb", &dir.path().join("bomb.wasm"))
            .component("names", &dir.path().join("names.wasm"))
            .terse()
            .start()
            .ready();
        let ground = Self { host, dir, endpoint };
        ground.well().for_each(|agent| _ = ground.host.client().start(&agent, "echo"));
        ground.host.client().start("sink", "puppet");
        ground
    }

    pub fn address(&self) -> SocketAddr {
        self.host.address()
    }

    /// Agents that are well: one for each fast thread.
    pub fn well(&self) -> impl Iterator<Item = String> {
        (0..cores()).map(|number| format!("well-{number}"))
    }

    fn start(&self, http: &mut Connection, agent: &str, role: &str, more: &str) {
        let body = format!(r#"{{"agentId":"{agent}","role":"{role}"{more}}}"#);
        // Attackers may be refused.
        let _ = http.ask("POST", "/agents/start", &body);
    }

    fn bomb(&self) -> PathBuf {
        self.dir.path().join("bomb.wasm")
    }
}

impl Attack {
    /// Attacks from other threads until it is `over`.
    pub fn begin<'scope>(
        &self,
        ground: &'scope Ground,
        scope: &'scope Scope<'scope, '_>,
        over: &'scope AtomicBool,
    ) {
        match self.means {
            Load => (0..cores()).for_each(|_| again(scope, over, compute)),
            Writes => {
                let mut file = tempfile::tempfile().expect("make a file");
                let block = vec![0; WRITTEN_BYTES];
                again(scope, over, move || {
                    let written =
                        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&block));
                    written.and_then(|()| file.sync_data()).expect("write to the disk");
                });
            }
            Agents(count, role, message) => {
                (0..count).for_each(|number| agent(ground, scope, over, number, role, message));
            }
            Connections(count) => {
                let open = |_| TcpStream::connect(ground.address());
                let held: Vec<_> = (0..count).map(open).collect();
                again(scope, over, move || {
                    sleep(Duration::from_millis(50));
                    let _ = &held;
                });
            }
            Drips(clients, request) => drip(ground, scope, over, clients, request),
            Reads(clients, path) => (0..clients).for_each(|_| {
                let mut http = Connection::open(ground.address());
                again(scope, over, move || _ = http.ask("GET", path, ""));
            }),
            Compiles => {
                let mut seed = 0;
                again(scope, over, move || {
                    seed += 1;
                    bombs::slow_to_compile(&ground.bomb(), seed);
                    let mut http = Connection::open(ground.address());
                    ground.start(&mut http, "attacker-0", "bomb", r#","deadlineMs":1000"#);
                });
            }
            Starts(clients) => {
                (0..clients).for_each(|client| starts(ground, scope, over, client));
            }
        }
    }

    /// Ends what is left of it.
    pub fn clear(&self, ground: &Ground) {
        let mut http = Connection::open(ground.address());
        let count = if let Agents(count, ..) = self.means { count } else { 1 };
        for number in 0..count {
            let _ = http.ask("POST", &format!("/agents/attacker-{number}/stop"), "");
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// For a moment.
fn compute() {
    (0..100_000).for_each(|round| _ = black_box(round));
}

fn agent<'scope>(
    ground: &'scope Ground,
    scope: &'scope Scope<'scope, '_>,
    over: &'scope AtomicBool,
    number: usize,
    role: &'static str,
    message: &'static str,
) {
    let mut http = Connection::open(ground.address());
    let agent = format!("attacker-{number}");
    ground.start(&mut http, &agent, role, "");
    let path = format!("/agents/{agent}/message?wait={WAIT_MS}");
    let endpoint = ground.endpoint.to_string();
    let mut round = 0;
    again(scope, over, move || {
        round += 1;
        let message = message.replace("{endpoint}", &endpoint).replace("{n}", &round.to_string());
        let body = format!(r#"{{"prompt":"{message}"}}"#);
        let status = http.ask("POST", &path, &body).map_or(0, |(status, _)| status);
        if !matches!(status, 200 | 202) {
            // It ended, or takes no more.
            sleep(Duration::from_millis(5));
            http = Connection::open(ground.address());
            ground.start(&mut http, &agent, role, "");
        }
    });
}

/// Sends the request to each of them byte by byte, its last byte again and again, and opens anew what the host closes.
fn drip<'scope>(
    ground: &'scope Ground,
    scope: &'scope Scope<'scope, '_>,
    over: &'scope AtomicBool,
    clients: usize,
    request: &'static str,
) {
    let open = move || (TcpStream::connect(ground.address()), request.bytes());
    let mut held: Vec<_> = (0..clients).map(|_| open()).collect();
    again(scope, over, move || {
        sleep(Duration::from_millis(50));
        for (stream, left) in &mut held {
            let byte = left.next().unwrap_or(b'x');
            let sent = stream.as_mut().is_ok_and(|stream| stream.write_all(&[byte]).is_ok());
            if !sent {
                (*stream, *left) = open();
            }
        }
    });
}

fn starts<'scope>(
    ground: &'scope Ground,
    scope: &'scope Scope<'scope, '_>,
    over: &'scope AtomicBool,
    client: usize,
) {
    let mut http = Connection::open(ground.address());
    let mut round = 0;
    again(scope, over, move || {
        round += 1;
        let prompt = format!(r#","prompt":"{client} {round}""#);
        ground.start(&mut http, "attacker-0", "echo", &prompt);
    });
}
