//! Measures the real host over HTTP, what needs no host in this process, and others that do the same work.
//!
//! Latencies are taken interleaved with `GET /health` on the same connection, because machines are
//! shared: the ratio means something where the microseconds do not. Every sample is kept; the first
//! tenth warms up and is thrown away.

mod account;
mod attacks;
mod blackbox;
mod churn;
mod connection;
mod crash;
mod curves;
mod durable;
mod evidence;
mod fleet;
mod floors;
mod followers;
mod freezes;
mod inside;
mod lines;
mod machine;
mod memory;
mod models;
mod page;
mod peers;
mod plot;
mod process;
mod report;
mod row;
mod samples;
mod slot;
mod stop;
mod storm;
mod streams;
mod symbols;
mod telemetry;
mod tools;
mod towns;
mod wake;
mod warden;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use harness::Host;

use connection::Connection;
use peers::Job;
use process::Process;
use report::{Report, Row};
use samples::Samples;

/// Agents of the density and idle measurements.
const CROWD: usize = 1000;

#[derive(Parser)]
struct Args {
    /// Rounds of the latency measurements.
    #[arg(long, default_value_t = 5000)]
    rounds: usize,
    /// Rounds of what takes milliseconds each: joined starts, stops of busy agents.
    #[arg(long, default_value_t = 100)]
    slow_rounds: usize,
    /// Agents that come and go.
    #[arg(long, default_value_t = 10_000)]
    churn: usize,
    /// Seconds of crashes one after the other.
    #[arg(long, default_value_t = 10)]
    storm_seconds: u64,
    /// Seconds over which the idle host is watched.
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// The curves and the peers as well: a quarter of an hour rather than minutes.
    #[arg(long)]
    all: bool,
    /// Rounds of starts and crashes of peers, which take up to a second each.
    #[arg(long, default_value_t = 20)]
    peer_rounds: usize,
    /// Most agents of a peer that has a process for each.
    #[arg(long, default_value_t = 100)]
    peer_agents: usize,
    /// Only attacks whose name has this in it.
    #[arg(long, default_value = "")]
    attack: String,
    /// End with an error if a goal was missed.
    #[arg(long)]
    strict: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also write report.txt, report.json and report.html into this directory.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A part of the measurements.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Blackbox,
    Crash,
    Latency,
    Slot,
    Stop,
    Streams,
    Churn,
    Storm,
    Density,
    Memory,
    Models,
    Telemetry,
    Tools,
    Durable,
    Fleet,
    Towns,
    Evidence,
    Symbols,
    Account,
    Floors,
    Curves,
    PeerStarts,
    PeerMessages,
    PeerRates,
    PeerDensity,
    PeerFaults,
    PeerDisturbed,
    Languages,
    Attacks,
}

impl Part {
    /// Whether it takes longer than people like to wait.
    fn is_long(self) -> bool {
        matches!(
            self,
            Self::Towns
                | Self::Tools
                | Self::Curves
                | Self::PeerStarts
                | Self::PeerMessages
                | Self::PeerRates
                | Self::PeerDensity
                | Self::PeerFaults
                | Self::PeerDisturbed
                | Self::Languages
                | Self::Attacks
        )
    }

    fn is_asked_for(self, args: &Args) -> bool {
        match args.only.is_empty() {
            true => args.all || !self.is_long(),
            false => args.only.contains(&self),
        }
    }

    fn measure(self, args: &Args, report: &mut Report) {
        match self {
            Self::Blackbox => {
                let appends = blackbox::appends();
                let budget = Duration::from_nanos(100);
                report.add(Row::nanos("black box append", blackbox::APPENDS, &appends, budget));
                let name = "black box: a turn begins and ends";
                let turns = blackbox::turns();
                report.add(Row::nanos(name, blackbox::APPENDS, &turns, budget * 2));
            }
            Self::Crash => crash::measure(args.slow_rounds * 10, report),
            Self::Latency => latency(args.rounds, report),
            Self::Slot => slot::measure(args.slow_rounds, report),
            Self::Stop => stop::measure(args.slow_rounds, report),
            Self::Streams => streams::measure(args.slow_rounds, report),
            Self::Churn => churn::measure(args.churn, report),
            Self::Storm => storm::measure(Duration::from_secs(args.storm_seconds), report),
            Self::Density => density_and_idle(Duration::from_secs(args.idle_seconds), report),
            Self::Memory => memory::measure(report),
            Self::Models => models::measure(args.rounds, report),
            Self::Telemetry => telemetry::measure(args.rounds, report),
            Self::Tools => tools::measure(args.slow_rounds * 4, report),
            Self::Durable => durable::measure(args.rounds, report),
            Self::Fleet => {
                let idle = Duration::from_secs(args.idle_seconds);
                fleet::measure(args.slow_rounds * 5, idle, report);
            }
            Self::Towns => towns::measure(report),
            Self::Evidence => evidence::measure(args.slow_rounds * 10, report),
            Self::Symbols => symbols::measure(report),
            Self::Account => account::measure(args.slow_rounds, report),
            Self::Floors => floors::measure(args.rounds, report),
            Self::Curves => curves::measure(report),
            Self::PeerStarts => peers::measure(Job::Starts, args.peers(), report),
            Self::PeerMessages => peers::measure(Job::Messages, args.peers(), report),
            Self::PeerRates => peers::measure(Job::Rates, args.peers(), report),
            Self::PeerDensity => peers::measure(Job::Density, args.peers(), report),
            Self::PeerFaults => peers::measure(Job::Faults, args.peers(), report),
            Self::Attacks => attacks::measure(&args.attack, report),
            Self::Languages => peers::measure(Job::Languages, args.peers(), report),
            Self::PeerDisturbed => peers::measure(Job::Disturbed, args.peers(), report),
        }
    }
}

impl Args {
    fn peers(&self) -> peers::Rounds {
        let (slow, fast) = (self.peer_rounds, self.rounds);
        peers::Rounds { slow, fast, most_processes: self.peer_agents }
    }
}

fn main() -> ExitCode {
    if let Some(code) = models::work() {
        return code;
    }
    let args = Args::parse();
    if !warden::is_inside() {
        return warden::watch();
    }
    let mut report = Report::new();
    for part in Part::value_variants().iter().filter(|part| part.is_asked_for(&args)) {
        let name = part.to_possible_value().map_or(String::new(), |value| value.get_name().into());
        eprintln!("{}", machine::now(&name));
        report.begin(&name);
        part.measure(&args, &mut report);
        report.end();
        // After each part: a long run that is cut short has said something.
        if let Some(Err(error)) = args.out.as_deref().map(|dir| write(&report, dir)) {
            eprintln!("error: write the report: {error}");
            return ExitCode::FAILURE;
        }
    }
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    if args.strict && report.misses() > 0 {
        eprintln!("error: {} goals were missed", report.misses());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn write(report: &Report, dir: &Path) -> Result<(), String> {
    let page = page::page(report)?;
    let files =
        [("report.txt", report.to_string()), ("report.json", report.json()), ("report.html", page)];
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for (name, text) in files {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn host() -> Host {
    let settings = "[limits]\nmax_agents = 1100\n[log]\nlevel = \"info\"";
    Host::builder()
        .open()
        .toml(settings)
        .role("echo", "echo", "memory_limit_mb = 16\nworkspace = false")
        .role("homely", "echo", "memory_limit_mb = 16")
        .start()
}

/// `GET /health`, a start, and a message, in turn on one connection.
fn latency(rounds: usize, report: &mut Report) {
    let host = host();
    let mut http = Connection::open(host.address());
    let (mut health, mut start, mut message) = (Samples::new(), Samples::new(), Samples::new());
    let (mut homely, mut wakes) = (Samples::new(), Samples::new());
    let mut other = wake::Other::start();
    for round in 0..rounds + rounds / 10 {
        let agent = format!("bench-{round}");
        let body = format!("{{\"agentId\":\"{agent}\",\"role\":\"echo\"}}");
        let path = format!("/agents/{agent}/message?wait=10000");
        let one = http.timed("GET", "/health", "", 200);
        let zero = other.round_trip();
        let two = http.timed("POST", "/agents/start", &body, 201);
        let three = http.timed("POST", &path, r#"{"prompt":"hello"}"#, 200);
        http.timed("POST", &format!("/agents/{agent}/stop"), "", 200);
        let body = format!("{{\"agentId\":\"{agent}\",\"role\":\"homely\"}}");
        let four = http.timed("POST", "/agents/start", &body, 201);
        http.timed("POST", &format!("/agents/{agent}/stop"), "", 200);
        if round >= rounds / 10 {
            health.add(one);
            start.add(two);
            message.add(three);
            homely.add(four);
            wakes.add(zero);
        }
    }
    let base = health.percentile(50);
    let start_budget = base * 3 + Duration::from_micros(60);
    report.add(Row::latency("GET /health", &health, base, base));
    report.add(Row::floor("floor: wake a thread and be woken by it", &wakes, base));
    report.add(Row::latency("POST /agents/start until running", &start, base, start_budget));
    report.add(Row::latency("the same with a new workspace on disk", &homely, base, start_budget));
    report.add(Row::latency("message round trip with ?wait", &message, base, base * 2));
    host.finish();
}

/// What 1,000 live agents add to the empty host, and what they cost while nothing happens.
fn density_and_idle(watch: Duration, report: &mut Report) {
    let host = host();
    let mut http = Connection::open(host.address());
    // The component is loaded once, no matter which uses it.
    http.timed("POST", "/agents/start", r#"{"agentId":"first","role":"echo"}"#, 201);
    http.timed("POST", "/agents/first/stop", "", 200);
    let process = Process::of(host.pid());
    let empty = process.resident_bytes();
    for n in 0..CROWD {
        let body = format!("{{\"agentId\":\"a-{n}\",\"role\":\"echo\"}}");
        http.timed("POST", "/agents/start", &body, 201);
    }
    let each = process.resident_bytes().saturating_sub(empty) / CROWD as u64;
    report.add(Row::bytes("resident for each of 1,000 idle agents", each, 96 * 1024));

    let (began, before) = (Instant::now(), process.cpu());
    std::thread::sleep(watch);
    let share = (process.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    report.add(Row::percent("CPU of a host with 1,000 idle agents", share * 100.0, 0.5));
    host.finish();
}
