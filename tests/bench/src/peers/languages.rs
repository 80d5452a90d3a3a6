//! Agents that are text files: a thousand of each language on one host, beside the Rust echo on the same host, and beside
//! a process of the language for each agent.

use std::io;
use std::time::Duration;

use harness::{Host, files};
use rustix::process::Pid;

use super::density::{SETTLE, memory_of};
use super::peer::{HELLO, Kind, Peer, start_until_answer};
use super::{Processes, Rounds, Tools};
use crate::connection::Connection;
use crate::report::{Base, Report, Row};
use crate::samples::Samples;

/// Agents of each language.
const CROWD: usize = 1000;

/// How many times as much memory a process for each agent is to take.
const GOAL: f64 = 100.0;

/// A message, in those of the Rust echo.
const MESSAGE: f64 = 1.5;

/// From an exception to its record, beside what a message takes.
const RECORD: Duration = Duration::from_millis(1);

/// An unoptimized engine compiles CPython for a minute.
const COMPILING: usize = 60;

struct Language {
    name: &'static str,
    ending: &'static str,
    start: Duration,
    idle_bytes: u64,
    process: fn(&Tools) -> Option<Processes>,
}

const LANGUAGES: [Language; 2] = [
    Language {
        name: "js",
        ending: "js",
        start: Duration::from_millis(1),
        idle_bytes: 256 << 10,
        process: Tools::node_processes,
    },
    Language {
        name: "python",
        ending: "py",
        start: Duration::from_millis(5),
        idle_bytes: 1 << 20,
        process: Tools::python_processes,
    },
];

pub fn measure(rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
    LANGUAGES.iter().try_for_each(|language| language.measure(rounds, tools, report))
}

/// What processes of the language are held against.
struct Own {
    start: Duration,
    message: Duration,
    bytes: u64,
}

impl Language {
    fn measure(&self, rounds: Rounds, tools: &Tools, report: &mut Report) -> io::Result<()> {
        let Some(host) = self.host() else {
            report.note(format!("{}: no runner, not measured (run `just runners`)", self.name));
            return Ok(());
        };
        let mut http = Connection::open(host.address());
        self.compile(&mut http)?;
        let own = self.crowd(&host, &mut http, rounds, report);
        self.exceptions(&mut http, rounds, own.message, report);
        host.finish();
        match (self.process)(tools) {
            Some(mut process) => self.processes(&mut process, &own, rounds, report),
            None => Ok(()),
        }
    }

    fn host(&self) -> Option<Host> {
        let runner = files::target_dir().join(format!("runners/{}.wasm", self.name));
        let source = files::root().join(format!("tests/bench/agents/echo.{}", self.ending));
        let role = format!(
            "[roles.text]\nsource = {source:?}\nrunner = {:?}\nmemory_limit_mb = 64\nworkspace = false\n\
             restart = \"temporary\"",
            self.name
        );
        let limits = format!("[limits]\nmax_agents = {}\n[log]\nlevel = \"info\"", CROWD + 100);
        let host = runner.is_file().then(|| Host::builder().open())?;
        let host = host.component(&format!("runner-{}", self.name), &runner).toml(&limits);
        let echo = "memory_limit_mb = 16\nworkspace = false";
        Some(host.role("echo", "echo", echo).toml(&role).start().ready())
    }

    /// A start that waits for the compiler is answered at its deadline.
    fn compile(&self, http: &mut Connection) -> io::Result<()> {
        for _ in 0..COMPILING {
            let (status, _) = http.ask("POST", "/agents/start", &start("first", "text"))?;
            match status {
                201 => return http.ask("POST", "/agents/first/stop", "").map(drop),
                504 => {}
                other => return Err(io::Error::other(format!("{other}: {}", http.body()))),
            }
        }
        Err(io::Error::other(format!("the runner of {} was not compiled", self.name)))
    }

    /// Starts and messages, each in turn with one of the Rust echo, and what the agents add to the memory of the host.
    fn crowd(
        &self,
        host: &Host,
        http: &mut Connection,
        rounds: Rounds,
        report: &mut Report,
    ) -> Own {
        let process = Pid::from_raw(host.pid().cast_signed()).into_iter().collect::<Vec<_>>();
        let (mut health, mut echo, mut text) = (Samples::new(), Samples::new(), Samples::new());
        let before = memory_of(&process);
        for n in 0..CROWD {
            let base = http.timed("GET", "/health", "", 200);
            let one = http.timed("POST", "/agents/start", &start("echo", "echo"), 201);
            http.timed("POST", "/agents/echo/stop", "", 200);
            let two = http.timed("POST", "/agents/start", &start(&format!("t-{n}"), "text"), 201);
            if n >= CROWD / 10 {
                health.add(base);
                echo.add(one);
                text.add(two);
            }
        }
        std::thread::sleep(SETTLE);
        let each = memory_of(&process).beyond(before, CROWD);
        let name = self.name;
        report.add(Row::plain(format!("{name}: GET /health"), &health));
        report.add(Row::plain(format!("{name}: start of a Rust echo"), &echo));
        report.add(Row::alone(format!("{name}: start of an agent"), &text, self.start));
        let of = format!("{name}: own part for each of 1,000 that wait for a first message");
        report.add(Row { n: CROWD, ..Row::bytes(of, each.own_part, self.idle_bytes) });

        let start_of_one = text.percentile(50);
        let (mut echo, mut text) = (Samples::new(), Samples::new());
        http.timed("POST", "/agents/start", &start("echo", "echo"), 201);
        // Each of them once, to warm up.
        for n in 0..CROWD + rounds.fast {
            let one = http.timed("POST", "/agents/echo/message?wait=10000", HELLO, 200);
            let path = format!("/agents/t-{}/message?wait=10000", n % CROWD);
            let two = http.timed("POST", &path, HELLO, 200);
            if n >= CROWD {
                echo.add(one);
                text.add(two);
            }
        }
        std::thread::sleep(SETTLE);
        let each = memory_of(&process).beyond(before, CROWD);
        let base = Base { name: "echo", value: echo.percentile(50) };
        report.add(Row::times(format!("{name}: message round trip"), &text, base, MESSAGE));
        let of = format!("{name}: own part for each of 1,000 idle agents, after messages");
        report.add(Row { n: CROWD, ..Row::bytes(of, each.own_part, self.idle_bytes) });
        Own { start: start_of_one, message: text.percentile(50), bytes: each.own_part }
    }

    /// The answer to a message that throws comes when the crash record is written.
    fn exceptions(
        &self,
        http: &mut Connection,
        rounds: Rounds,
        message: Duration,
        report: &mut Report,
    ) {
        let mut thrown = Samples::new();
        for _ in 0..rounds.slow * 10 {
            http.timed("POST", "/agents/start", &start("thrower", "text"), 201);
            let path = "/agents/thrower/message?wait=10000";
            thrown.add(http.timed("POST", path, r#"{"prompt":"crash"}"#, 502));
        }
        let name = format!("{}: exception until its record is written", self.name);
        report.add(Row::latency(name, &thrown, message, message + RECORD));
    }

    /// A process of the language for each agent.
    fn processes(
        &self,
        processes: &mut Processes,
        own: &Own,
        rounds: Rounds,
        report: &mut Report,
    ) -> io::Result<()> {
        let (mut starts, mut messages) = (Samples::new(), Samples::new());
        let mut connections = Vec::new();
        for agent in 0..rounds.most_processes {
            let (took, endpoint, http) = start_until_answer(processes, agent, Kind::Echo)?;
            starts.add(took);
            connections.push((endpoint, http));
        }
        for n in 0..rounds.fast {
            let (endpoint, http) = &mut connections[n % rounds.most_processes];
            messages.add(endpoint.hello(http)?);
        }
        std::thread::sleep(SETTLE);
        let each = memory_of(&processes.processes()).own_part / rounds.most_processes as u64;
        let who = processes.name();
        report.add(Row::peer(
            format!("{who}: start until its first answer"),
            &starts,
            own.start,
            None,
        ));
        report.add(Row::peer(format!("{who}: message round trip"), &messages, own.message, None));
        let of = format!("{who}: own part for each of {} idle processes", rounds.most_processes);
        let row = Row::peer_bytes(of, rounds.most_processes, each, own.bytes, Some(GOAL));
        report.add(row);
        Ok(())
    }
}

fn start(agent: &str, role: &str) -> String {
    format!("{{\"agentId\":\"{agent}\",\"role\":\"{role}\"}}")
}
