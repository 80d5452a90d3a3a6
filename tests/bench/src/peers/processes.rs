//! A process for each agent, started and watched by this program, as the original container does: the
//! supervisor starts a small HTTP server, reads where it listens, and sends it messages.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use super::peer::{Endpoint, Kind, LIMIT_MIB, Peer};

pub struct Processes {
    name: &'static str,
    command: Box<dyn Fn(Kind) -> Command + Send>,
    running: HashMap<usize, (Child, Endpoint)>,
    /// All agents are one process.
    shared: bool,
}

impl Processes {
    pub fn node(node: &Path, agent: &Path) -> Self {
        let (node, agent) = (node.to_owned(), agent.to_owned());
        Self::new("node", move |kind| {
            let mut command = Command::new(&node);
            if kind == Kind::Hoarder {
                command.arg(format!("--max-old-space-size={LIMIT_MIB}"));
            }
            command.arg(&agent);
            command
        })
    }

    pub fn python(python: &Path, agent: &Path) -> Self {
        let (python, agent) = (python.to_owned(), agent.to_owned());
        Self::new("python", move |_| {
            let mut command = Command::new(&python);
            command.arg(&agent);
            command
        })
    }

    pub fn bun(bun: &Path, agent: &Path) -> Self {
        let (bun, agent) = (bun.to_owned(), agent.to_owned());
        Self::new("bun", move |_| {
            let mut command = Command::new(&bun);
            command.arg(&agent);
            command
        })
    }

    /// A process for each agent.
    pub fn wasmtime(wasmtime: &Path, proxy: &Path) -> Self {
        let (wasmtime, proxy) = (wasmtime.to_owned(), proxy.to_owned());
        Self::new("wasmtime serve", move |_| {
            let mut command = Command::new(&wasmtime);
            command.args(["serve", "--addr", "127.0.0.1:0", "-Scli", "-W"]);
            command.arg(format!("max-memory-size={}", LIMIT_MIB << 20)).arg(&proxy);
            command
        })
    }

    /// One process, which makes a new instance for each request.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    fn new(name: &'static str, command: impl Fn(Kind) -> Command + Send + 'static) -> Self {
        Self { name, command: Box::new(command), running: HashMap::new(), shared: false }
    }

    fn endpoint(&self, agent: usize) -> usize {
        if self.shared { 0 } else { agent }
    }
}

impl Peer for Processes {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, agent: usize, kind: Kind) -> Endpoint {
        let agent = self.endpoint(agent);
        if let Some((_, endpoint)) = self.running.get(&agent) {
            return endpoint.clone();
        }
        let (child, endpoint) = launch((self.command)(kind)).expect("start an agent's process");
        self.running.insert(agent, (child, endpoint.clone()));
        endpoint
    }

    fn stop(&mut self, agent: usize) {
        let shared_by_others = self.shared && agent != 0;
        if let Some((mut child, _)) = self.running.remove(&agent).filter(|_| !shared_by_others) {
            end(&mut child);
        }
    }

    fn revive(&mut self, agent: usize, endpoint: Endpoint) -> Endpoint {
        if self.shared {
            return endpoint;
        }
        if let Some((mut child, _)) = self.running.remove(&agent) {
            let _ = child.wait();
        }
        self.start(agent, Kind::Crasher)
    }

    fn processes(&self) -> Vec<Pid> {
        self.running.values().map(|(child, _)| Pid::from_child(child)).collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.running.values_mut().for_each(|(child, _)| end(child));
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Starts a process and waits until it says where it listens.
fn launch(mut command: Command) -> io::Result<(Child, Endpoint)> {
    let (output, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The ends of the pipe that it was given are still open in it.
    drop(command);
    let mut output = BufReader::new(output);
    let mut said = String::new();
    let address = loop {
        let before = said.len();
        if output.read_line(&mut said)? == 0 {
            end(&mut child);
            return Err(io::Error::other(format!("it ended: {said}")));
        }
        if let Some((_, port)) = said[before..].rsplit_once("127.0.0.1:") {
            let port = port.trim_end().trim_end_matches('/');
            break format!("127.0.0.1:{port}").parse().map_err(io::Error::other)?;
        }
    };
    // What it says later is read and thrown away, until it ends.
    std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
    Ok((child, Endpoint { address, path: "/message".into() }))
}
