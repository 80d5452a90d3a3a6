//! Keeps a real host busy for as long as wanted, disturbs it in every way at hand, and checks from outside what
//! it promises.
//!
//! ```text
//!   round:  workers start, stop, message and crash agents ── disturbance ── quiet point ── checks
//!              │ what was acknowledged                          │ how it must have ended
//!              ▼                                                ▼
//!           Ledger ◀──── what the host shows ────▶ Audit ◀──── lines of its log
//! ```
//!
//! - [`town`]: the host, its roles, its disk and its clock
//! - [`ledger`]: what was acknowledged, and what must therefore be so
//! - [`workers`]: who works
//! - [`disturbance`]: what is done to the host, and what the next run has to report
//! - [`audit`]: the log line by line
//! - [`quiet`]: what the host holds when no agent is active
//! - [`report`]: what was seen
//!
//! Exit codes: 0 nothing was found, 1 something was, 2 wrong arguments. The seed is printed first and repeats the
//! order of rounds; moments within a round are the machine's.

mod audit;
mod disturbance;
mod ledger;
mod quiet;
mod report;
mod town;
mod workers;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;

use disturbance::{Disturbance, PLAN};
use report::Report;
use town::Town;

/// Keeps a host busy, disturbs it, and checks what it promises.
#[derive(Parser)]
struct Args {
    /// How long, in minutes. The round under way is finished.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// So many rounds instead, however long they take.
    #[arg(long, conflicts_with = "minutes")]
    rounds: Option<u32>,
    /// Repeats the order of rounds of an earlier soak.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these disturbances, by name; may be given more than once.
    #[arg(long)]
    only: Vec<Disturbance>,
    /// How long each round works, in milliseconds.
    #[arg(long, default_value_t = 4000)]
    round_ms: u64,
}

/// Set in the process that has a view of the file system of its own.
const INSIDE: &str = "BULKHEAD_SOAK_INSIDE";

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = go_inside() {
        eprintln!("soak: {error}");
        return ExitCode::from(2);
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let report = soak(&args, seed);
    println!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Goes on in a view of the file system of its own, so that a mounted disk goes with the process, whatever ends it.
/// A user who may not have one goes on as it is.
fn go_inside() -> Result<(), String> {
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if std::env::var_os(INSIDE).is_some() || !may.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut inside = Command::new("unshare");
    inside.arg("--mount").arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Err(format!("run unshare: {}", inside.exec()))
}

fn soak(args: &Args, seed: u64) -> Report {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut report = Report::default();
    let mut town = match Town::open(dice.fork()) {
        Ok(town) => town,
        Err(missing) => {
            report.found(missing);
            return report;
        }
    };
    let began = Instant::now();
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let mut rounds = 0;
    let round = Duration::from_millis(args.round_ms);
    let mut plan: Vec<Disturbance> = Vec::new();
    while args.rounds.map_or(began.elapsed() < time, |most| rounds < most) {
        if plan.is_empty() {
            plan = PLAN
                .into_iter()
                .filter(|it| args.only.is_empty() || args.only.contains(it))
                .collect();
            dice.shuffle(&mut plan);
        }
        let Some(next) = plan.pop() else { break };
        println!("{:>7.1} s  {next}", began.elapsed().as_secs_f64());
        rounds += 1;
        town.round(next, round, &mut report);
        if report.is_hopeless() {
            break;
        }
    }
    town.close(&mut report);
    report
}
