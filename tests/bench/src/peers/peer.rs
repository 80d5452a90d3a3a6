//! Somebody who runs agents.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::connection::Connection;

/// How long an agent may take to start or restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two attempts to connect to one that is not there yet.
const PAUSE: Duration = Duration::from_micros(200);

pub const HELLO: &str = r#"{"prompt":"hello"}"#;

/// What an agent will be asked to do. Where every agent is the same program, that makes no difference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Echo,
    Crasher,
    Spinner,
    /// With a limit on its memory, of [`LIMIT_MIB`].
    Hoarder,
}

/// The limit on memory, where one can be set.
pub const LIMIT_MIB: usize = 64;

/// Where an agent is asked.
#[derive(Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub path: String,
}

/// The messages that make an agent misbehave.
pub struct Faults {
    pub panic: &'static str,
    pub spin: &'static str,
    pub hoard: &'static str,
}

pub trait Peer: Send {
    fn name(&self) -> &'static str;

    /// Asks for an agent. It may answer only later.
    fn start(&mut self, agent: usize, kind: Kind) -> Endpoint;

    /// Asks for many, in the way that users ask for many.
    fn start_many(&mut self, agents: std::ops::Range<usize>) -> Vec<Endpoint> {
        agents.map(|agent| self.start(agent, Kind::Echo)).collect()
    }

    /// Ends an agent and waits until it is gone.
    fn stop(&mut self, agent: usize);

    /// Starts an agent that crashed, for those who do not see to that themselves.
    fn revive(&mut self, _agent: usize, endpoint: Endpoint) -> Endpoint {
        endpoint
    }

    /// The processes of this peer and its agents.
    fn processes(&self) -> Vec<Pid>;

    fn faults(&self) -> Faults {
        Faults {
            panic: r#"{"prompt":"panic"}"#,
            spin: r#"{"prompt":"spin"}"#,
            hoard: r#"{"prompt":"hoard"}"#,
        }
    }
}

impl Endpoint {
    /// Connects as soon as somebody is there, and waits for the answer to a first message.
    pub fn first_answer(&self) -> io::Result<Connection> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answered = Connection::try_open(self.address)
                .and_then(|http| http.patience(PATIENCE))
                .and_then(|mut http| self.hello(&mut http).map(|_| http));
            match answered {
                Ok(http) => return Ok(http),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// One message and its answer.
    pub fn hello(&self, http: &mut Connection) -> io::Result<Duration> {
        let (status, took) = http.ask("POST", &self.path, HELLO)?;
        if status == 200 {
            return Ok(took);
        }
        Err(io::Error::other(format!("{}: {status} {}", self.path, http.body())))
    }

    /// The same on the connection that is there, or on a new one when that is gone.
    pub fn hello_again(&self, http: &mut Connection) -> io::Result<()> {
        if self.hello(http).is_err() {
            *http = self.first_answer()?;
        }
        Ok(())
    }
}

/// From asking for an agent to its first answer.
pub fn start_until_answer(
    peer: &mut dyn Peer,
    agent: usize,
    kind: Kind,
) -> io::Result<(Duration, Endpoint, Connection)> {
    let began = Instant::now();
    let endpoint = peer.start(agent, kind);
    let http = endpoint.first_answer()?;
    Ok((began.elapsed(), endpoint, http))
}

/// Makes an agent crash. Yields the time from the message that does it to the answer to the next one.
pub fn crash_until_answer(
    peer: &mut dyn Peer,
    agent: usize,
    endpoint: &mut Endpoint,
    http: &mut Connection,
) -> io::Result<Duration> {
    let fault = peer.faults().panic;
    let began = Instant::now();
    // An error answer where there is somebody left to give it, else the end of the connection.
    let crashed = http.ask("POST", &endpoint.path, fault);
    if let Ok((200, _)) = crashed {
        return Err(io::Error::other("it did not crash"));
    }
    let answered = crashed.is_ok();
    *endpoint = peer.revive(agent, endpoint.clone());
    if answered {
        endpoint.hello_again(http)?;
    } else {
        *http = endpoint.first_answer()?;
    }
    Ok(began.elapsed())
}
