//! A client of the town: it starts, stops and asks agents wherever the town is served, and remembers what it was told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Value, json};

use super::PATIENT;
use super::line::Line;

/// Agents at a time.
const AGENTS: usize = 5;

/// Soon enough for a machine that is well.
const SOON: Duration = Duration::from_millis(400);

/// Talks to one machine at a time. What it sends is answered before the next is sent, or never counts.
pub struct Client {
    addresses: Vec<SocketAddr>,
    /// The machine that served last.
    at: Arc<AtomicUsize>,
    dice: fastrand::Rng,
    agents: Vec<Agent>,
    made: usize,
    counts: BTreeMap<(String, u64), u64>,
    pub said: Said,
}

struct Agent {
    id: String,
    known: Known,
    /// A request may still be on its way to it: it is left alone from now on.
    is_retired: bool,
}

/// What was acknowledged last, unless something else was asked for since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Runs,
    Stopped,
}

/// What the machines said.
#[derive(Debug, Default)]
pub struct Said {
    pub claims: Vec<Claim>,
    pub stops: Vec<Stop>,
    pub starts: usize,
    pub counted: usize,
    pub problems: Vec<String>,
}

/// A machine that was ready listed its agents.
#[derive(Debug)]
pub struct Claim {
    pub machine: usize,
    pub sent: Instant,
    pub answered: Instant,
    /// Those that run, with their numbers.
    pub running: Vec<(String, u64)>,
}

/// An agent was stopped, and nobody asked for it until then.
#[derive(Debug)]
pub struct Stop {
    pub agent: String,
    pub acknowledged: Instant,
    pub until: Option<Instant>,
}

impl Client {
    pub fn new(addresses: Vec<SocketAddr>, dice: fastrand::Rng) -> Self {
        let (agents, counts) = (Vec::new(), BTreeMap::new());
        let at = Arc::default();
        Self { addresses, at, dice, agents, made: 0, counts, said: Said::default() }
    }

    pub fn work(&mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            match self.find() {
                None => thread::sleep(Duration::from_millis(20)),
                Some(line) => self.act(line),
            }
            thread::sleep(Duration::from_millis(self.dice.u64(0..15)));
        }
    }

    /// A connection to a machine that is ready.
    pub fn find(&mut self) -> Option<Line> {
        let machines = self.addresses.len();
        let order = (0..machines).map(|step| (self.machine() + step) % machines);
        for machine in order.collect::<Vec<_>>() {
            if let Some(line) = ready(self.addresses[machine]) {
                self.at.store(machine, Ordering::Relaxed);
                return Some(line);
            }
        }
        None
    }

    /// Which machine answered last.
    pub fn machine(&self) -> usize {
        self.at.load(Ordering::Relaxed)
    }

    /// The same for others, while it works.
    pub fn machine_seen(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.at)
    }

    fn act(&mut self, line: Line) {
        while self.agents.iter().filter(|agent| !agent.is_retired).count() < AGENTS {
            let id = format!("agent-{}", self.made);
            self.made += 1;
            self.agents.push(Agent { id, known: Known::Nothing, is_retired: false });
        }
        let chosen: Vec<usize> =
            (0..self.agents.len()).filter(|index| !self.agents[*index].is_retired).collect();
        let index = chosen[self.dice.usize(0..chosen.len())];
        let acted = match (self.dice.u8(0..10), self.agents[index].known) {
            (0..3, _) => self.look(line).map(drop),
            (3..5, Known::Runs) => self.count(line, index),
            (5..8, Known::Runs) | (8, Known::Nothing) => self.stop(line, index),
            _ => self.start(line, index),
        };
        if acted.is_err() {
            // Another machine may serve.
            self.at.store((self.machine() + 1) % self.addresses.len(), Ordering::Relaxed);
        }
    }

    /// Lists all agents, and compares them with what was acknowledged.
    pub fn look(&mut self, mut line: Line) -> io::Result<bool> {
        let sent = Instant::now();
        let (status, list) = line.ask("GET", "/agents", "")?;
        let answered = Instant::now();
        let Some(list) = list.as_array().filter(|_| status == 200) else { return Ok(false) };
        // What drains ends its agents.
        if line.ask("GET", "/readyz", "")?.0 != 200 {
            return Ok(false);
        }
        let status_of = |id: &str| {
            let found = list.iter().find(|agent| agent["agentId"] == id);
            found.map_or("absent", |agent| agent["status"].as_str().unwrap_or_default())
        };
        for Agent { id, known, .. } in &self.agents {
            let status = status_of(id);
            let is_up = matches!(status, "running" | "starting" | "backoff" | "stopping");
            let is_as_said = match known {
                Known::Nothing => true,
                // One that was at work when its host died twice.
                Known::Runs => is_up || status == "quarantined",
                Known::Stopped => !is_up,
            };
            if !is_as_said {
                let what = format!(
                    "{id} is {status} on machine {}, and {known:?} was acknowledged",
                    self.machine()
                );
                self.said.problems.push(what);
            }
        }
        if !matches!(status_of("one"), "running" | "starting" | "backoff" | "quarantined") {
            self.said.problems.push(format!("the configured agent is {}", status_of("one")));
        }
        let running =
            list.iter().filter(|agent| agent["status"] == "running").filter_map(|agent| {
                Some((agent["agentId"].as_str()?.to_owned(), agent["incarnation"].as_u64()?))
            });
        let running = running.collect();
        self.said.claims.push(Claim { machine: self.machine(), sent, answered, running });
        Ok(true)
    }

    fn start(&mut self, line: Line, index: usize) -> io::Result<()> {
        let is_afresh = self.dice.u8(0..3) == 0;
        let mut body = json!({"agentId": self.agents[index].id, "role": "fleet"});
        if is_afresh {
            body["ifRunning"] = "restart".into();
        }
        let (status, _) = self.change(line, index, "/agents/start", &body)?;
        if matches!(status, 200 | 201) {
            self.agents[index].known = Known::Runs;
            self.said.starts += 1;
        }
        Ok(())
    }

    fn stop(&mut self, line: Line, index: usize) -> io::Result<()> {
        let path = format!("/agents/{}/stop", self.agents[index].id);
        let (status, _) = self.change(line, index, &path, &json!({}))?;
        if status == 200 {
            self.agents[index].known = Known::Stopped;
            let agent = self.agents[index].id.clone();
            let stop = Stop { agent, acknowledged: Instant::now(), until: None };
            self.said.stops.push(stop);
        }
        Ok(())
    }

    fn change(
        &mut self,
        line: Line,
        index: usize,
        path: &str,
        body: &Value,
    ) -> io::Result<(u16, Value)> {
        let agent = &mut self.agents[index];
        agent.known = Known::Nothing;
        let of_it = |stop: &&mut Stop| stop.agent == agent.id && stop.until.is_none();
        if let Some(stop) = self.said.stops.iter_mut().find(of_it) {
            stop.until = Some(Instant::now());
        }
        let asked =
            line.patience(PATIENT).and_then(|mut line| line.ask("POST", path, &body.to_string()));
        agent.is_retired |= asked.is_err();
        asked
    }

    /// Has the agent count, which it does anew in each incarnation.
    fn count(&mut self, line: Line, index: usize) -> io::Result<()> {
        let id = self.agents[index].id.clone();
        let mut line = line.patience(PATIENT)?;
        let mut number = || -> io::Result<Option<u64>> {
            let (status, view) = line.ask("GET", &format!("/agents/{id}/status"), "")?;
            Ok(view["incarnation"].as_u64().filter(|_| status == 200))
        };
        let before = number()?;
        let path = format!("/agents/{id}/message?wait=1000");
        let (_, answer) = line.ask("POST", &path, r#"{"prompt":"count"}"#)?;
        let mut number = || -> io::Result<Option<u64>> {
            let (status, view) = line.ask("GET", &format!("/agents/{id}/status"), "")?;
            Ok(view["incarnation"].as_u64().filter(|_| status == 200))
        };
        let after = number()?;
        let counted = answer["reply"].as_str().and_then(|text| text.parse().ok());
        let (Some(number), true, Some(counted)) = (before, before == after, counted) else {
            return Ok(());
        };
        self.said.counted += 1;
        let last = self.counts.insert((id.clone(), number), counted).unwrap_or(0);
        if counted <= last {
            let what = format!("{id} counts {counted} after {last} in incarnation {number}");
            self.said.problems.push(what);
        }
        Ok(())
    }
}

/// A connection on which `/readyz` has said yes: what is answered next is of the same process.
pub fn ready(at: SocketAddr) -> Option<Line> {
    let mut line = Line::open(at, SOON).ok()?;
    matches!(line.ask("GET", "/readyz", ""), Ok((200, _))).then_some(line)
}

/// Asks for a move. Who is frozen, or serves no town, does not hear of it.
pub fn hand_over(at: SocketAddr) {
    let _ = Line::open(at, SOON).and_then(|mut line| line.ask("POST", "/move", ""));
}
