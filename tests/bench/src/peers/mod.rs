//! Others that do the same work, run as their users run them, beside Bulkhead in the same run.
//!
//! Turn and turn about wherever that is possible, so that all meet the same machine. Who is not installed is
//! named in the report and left out.

mod crashes;
mod density;
mod disturbed;
mod languages;
mod messages;
mod ours;
mod peer;
mod pm2;
mod processes;
mod starts;
mod supervisord;
mod throughput;
mod tools;

use crate::plot::{Bar, Plot};
use crate::report::Report;
use crate::samples::Samples;

pub use density::memory_of;
use ours::Ours;
use peer::Peer;
use pm2::Pm2;
use processes::Processes;
use supervisord::Supervisord;
use tools::Tools;

/// Rounds of each job.
#[derive(Clone, Copy)]
pub struct Rounds {
    /// Starts and crashes of processes.
    pub slow: usize,
    /// Messages.
    pub fast: usize,
    /// Agents for each process of a peer, at most, in the density measurement.
    pub most_processes: usize,
}

/// What is compared.
#[derive(Clone, Copy)]
pub enum Job {
    Starts,
    Messages,
    Rates,
    Density,
    Faults,
    Disturbed,
    Languages,
}

pub fn measure(job: Job, rounds: Rounds, report: &mut Report) {
    let tools = Tools::find();
    tools.describe().into_iter().for_each(|line| report.note_once(line));
    let measured = match job {
        Job::Starts => starts::measure(rounds, &tools, report),
        Job::Messages => messages::measure(rounds, &tools, report),
        Job::Rates => throughput::measure(&tools, report),
        Job::Density => density::measure(rounds, &tools, report),
        Job::Faults => crashes::measure(rounds, &tools, report),
        Job::Languages => languages::measure(rounds, &tools, report),
        Job::Disturbed => disturbed::measure(&tools, report),
    };
    if let Err(error) = measured {
        report.note(format!("cut short: {error}"));
    }
}

impl Tools {
    fn node_processes(&self) -> Option<Processes> {
        Some(Processes::node(self.node.as_ref()?, &self.agent))
    }

    fn python_processes(&self) -> Option<Processes> {
        let agent = self.agent.with_extension("py");
        Some(Processes::python(self.python.as_ref()?, &agent))
    }

    fn bun_processes(&self) -> Option<Processes> {
        Some(Processes::bun(self.bun.as_ref()?, &self.agent))
    }

    fn wasmtime_processes(&self) -> Option<Processes> {
        Some(Processes::wasmtime(self.wasmtime.as_ref()?, self.proxy.as_ref()?))
    }

    fn wasmtime_server(&self) -> Option<Processes> {
        self.wasmtime_processes().map(Processes::shared)
    }

    fn pm2(&self) -> Option<Pm2> {
        self.node.as_ref()?;
        Some(Pm2::begin(self.pm2.as_ref()?, &self.agent))
    }

    fn supervisord(&self) -> Option<Supervisord> {
        let (program, control) = (self.supervisord.as_ref()?, self.supervisorctl.as_ref()?);
        Some(Supervisord::begin(program, control, self.node.as_ref()?, &self.agent))
    }
}

/// Those that are there.
fn those(peers: Vec<Option<Box<dyn Peer>>>) -> Vec<Box<dyn Peer>> {
    peers.into_iter().flatten().collect()
}

fn boxed(peer: Option<impl Peer + 'static>) -> Option<Box<dyn Peer>> {
    peer.map(|peer| Box::new(peer) as Box<dyn Peer>)
}

fn bars(title: &str, all: &[(&str, &Samples)]) -> Plot {
    let bar = |(name, samples): &(&str, &Samples)| Bar {
        name: (*name).to_owned(),
        p50: samples.middle_us(),
        p99: samples.tail_us(),
    };
    Plot::Bars { title: title.to_owned(), unit: "µs", bars: all.iter().map(bar).collect() }
}
