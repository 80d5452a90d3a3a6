//! The `bulkhead` binary.
//!
//! `bulkhead run` is the story of the process: read the configuration, take the state directory, start
//! the log, build the engine, the supervisor and the control server, start the configured agents, wait
//! for a signal, end the agents, end the process with a numbered code. As the first process of a container,
//! or when told to, it does all that in a child, and watches over it ([`init`]).

mod check;
mod cli;
mod config;
mod crashes;
mod exit;
mod failure;
mod faults;
mod host;
mod init;
mod kernel;
mod panics;
mod previous;
mod recorder;
mod run;
mod signals;
mod state_dir;
mod teller;
mod vitals;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, RunArgs};
use failure::Failure;
use init::Handover;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run(&args),
        Command::Check(args) => check::check(&args.config).map(ExitCode::from),
        Command::Compile(args) => check::compile(&args.config).map(ExitCode::from),
        Command::Crashes(args) => crashes::run(&args).map(ExitCode::from),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("bulkhead: {failure}");
            failure.code().into()
        }
    }
}

fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    match Handover::take()? {
        Some(handover) => run::run(args, Some(handover)).map(ExitCode::from),
        None if args.supervise || init::is_first_process() => init::supervise(args),
        None => run::run(args, None).map(ExitCode::from),
    }
}
